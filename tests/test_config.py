"""What is read from the configs of a model folder, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from model_files import (
    CLIP_FOLDER,
    PUBLISHED_7B,
    VISION_FOLDER,
    Sizes,
    clip_config_of,
    published_shapes,
    vision_config_of,
    write_configs,
    write_json,
)
from transformers import AutoConfig
from vilamp.checkpoint import published_key
from vilamp.config import ViLAMPConfig
from vilamp.config_files import CLIP_MEAN
from vilamp.errors import CheckpointError
from vilamp.model import ViLAMP


@pytest.fixture
def folder(tmp_path):
    return write_configs(tmp_path / "model", Sizes())


def change(path, **fields):
    """Set fields of a JSON file; None removes one."""
    value = {**json.loads(path.read_text()), **fields}
    write_json(path, {name: item for name, item in value.items() if item is not None})


def test_fields(folder):
    change(folder / "config.json", rope_scaling={"type": "linear", "factor": 8.0})
    config = ViLAMPConfig.from_folder(folder)
    sizes = Sizes()
    assert (config.compat, config.keyframes) == ("released", sizes.keyframes)
    assert (config.tau, config.min_score) == (sizes.tau, sizes.min_score)
    assert (config.grid, config.keyframe_grid) == ((7, 7), (4, 4))
    assert config.stop_token_ids == (sizes.vocabulary - 1,)
    assert config.text_config.num_key_value_heads == sizes.kv_heads
    # rope_scaling is discarded by the published loader.
    rope = config.text_config.rope_parameters
    assert (rope["rope_type"], rope["rope_theta"]) == ("default", sizes.rope_theta)
    assert config.clip_config.text_config.eos_token_id == sizes.clip_eos


def test_released_defaults(folder):
    change(folder / "config.json", max_frame_num=None, f2f_thrd=None, f2t_thrd=None)
    config = ViLAMPConfig.from_folder(folder)
    assert (config.keyframes, config.tau, config.min_score) == (32, 0.85, 0.2)


def test_grid_of_the_published_model(tmp_path):
    config = ViLAMPConfig.from_folder(write_configs(tmp_path, PUBLISHED_7B))
    assert (config.grid, config.keyframe_grid) == ((27, 27), (14, 14))


def test_round_trip(folder):
    config = ViLAMPConfig.from_folder(folder)
    again = ViLAMPConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again.to_dict() == config.to_dict()
    assert again.keyframes == Sizes().keyframes


def test_model_type_is_our_own(folder):
    """Importing this package gives other software no new meaning of `llava_qwen`."""
    assert ViLAMPConfig.model_type == "vilamp"
    with pytest.raises(ValueError, match="llava_qwen"):
        AutoConfig.from_pretrained(folder)


class TestCompat:
    def test_declared(self, folder, recwarn):
        change(folder / "config.json", vilamp_compat="paper")
        assert ViLAMPConfig.from_folder(folder).compat == "paper"
        assert ViLAMPConfig.from_folder(folder, "paper").compat == "paper"
        assert not recwarn

    def test_argument_overrides_with_a_warning(self, folder):
        with pytest.warns(UserWarning, match="'paper' overrides 'released'"):
            assert ViLAMPConfig.from_folder(folder, "paper").compat == "paper"
        change(folder / "config.json", vilamp_compat="paper")
        with pytest.warns(UserWarning, match="'released' overrides 'paper'"):
            assert ViLAMPConfig.from_folder(folder, "released").compat == "released"

    @pytest.mark.parametrize("where", ["config", "argument"])
    def test_unknown(self, folder, where):
        if where == "config":
            change(folder / "config.json", vilamp_compat="draft")
        with pytest.raises(CheckpointError, match="released, paper, got 'draft'"):
            ViLAMPConfig.from_folder(folder, "draft" if where == "argument" else None)


class TestTowers:
    def test_by_path_then_by_last_part(self, folder):
        assert ViLAMPConfig.from_folder(folder).vision_config.hidden_size == 24
        change(folder / "config.json", mm_vision_tower="/elsewhere/siglip-here/")
        write_json(folder / "siglip-here" / "config.json", vision_config_of(Sizes()))
        assert ViLAMPConfig.from_folder(folder).vision_config.hidden_size == 24

    def test_whole_siglip_config(self, folder):
        """A tower's folder may hold the config of both halves of SigLIP."""
        both = {"model_type": "siglip", "vision_config": vision_config_of(Sizes())}
        write_json(folder / VISION_FOLDER / "config.json", both)
        assert ViLAMPConfig.from_folder(folder).vision_config.num_hidden_layers == 4

    @pytest.mark.parametrize("vision", ["google/siglip-so400m-patch14-384", None])
    @pytest.mark.parametrize("clip", ["/data/clip-vit-base-patch32", None])
    def test_published_towers(self, tmp_path, vision, clip):
        """Named by a hub id, by a path of the authors or not at all: the published sizes."""
        folder = write_configs(tmp_path, PUBLISHED_7B, mm_vision_tower=vision, clip_model_path=clip)
        config = ViLAMPConfig.from_folder(folder)
        tower = config.vision_config
        assert (tower.hidden_size, tower.num_hidden_layers, tower.intermediate_size) == (
            1152,
            27,
            4304,
        )
        assert (tower.image_size, tower.patch_size) == (384, 14)
        text, image = config.clip_config.text_config, config.clip_config.vision_config
        assert (text.hidden_size, text.vocab_size, image.patch_size) == (512, 49408, 32)
        assert config.clip_mean == CLIP_MEAN

    @pytest.mark.parametrize("field", ["mm_vision_tower", "clip_model_path"])
    @pytest.mark.parametrize("outside", ["../outside", "/{tmp}/outside", "a/../../outside"])
    def test_never_outside_the_folder(self, tmp_path, folder, monkeypatch, field, outside):
        """Not the parent, not an absolute path, not the working directory."""
        make = vision_config_of if field == "mm_vision_tower" else clip_config_of
        write_json(tmp_path / "outside" / "config.json", make(Sizes()))
        monkeypatch.chdir(tmp_path)
        change(folder / "config.json", **{field: outside.format(tmp=tmp_path)})
        with pytest.raises(CheckpointError, match=f"{field} names .*outside"):
            ViLAMPConfig.from_folder(folder)

    def test_absent(self, folder):
        (folder / CLIP_FOLDER / "config.json").unlink()
        with pytest.raises(CheckpointError, match=f"has no {CLIP_FOLDER}/config.json"):
            ViLAMPConfig.from_folder(folder)

    def test_normalisation_of_the_clip_folder(self, folder):
        path = folder / CLIP_FOLDER / "preprocessor_config.json"
        write_json(path, {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3], "resample": 3})
        config = ViLAMPConfig.from_folder(folder)
        assert (config.clip_mean, config.clip_std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
        write_json(path, {"crop_size": {"height": 224, "width": 224}})
        with pytest.raises(CheckpointError, match=r"crop_size is .* image_size is 48"):
            ViLAMPConfig.from_folder(folder)


class TestStopIds:
    def test_generation_config_comes_first(self, folder):
        write_json(folder / "generation_config.json", {"eos_token_id": [7, 9]})
        assert ViLAMPConfig.from_folder(folder).stop_token_ids == (7, 9)

    def test_absent(self, folder):
        change(folder / "config.json", eos_token_id=None)
        assert ViLAMPConfig.from_folder(folder).stop_token_ids == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "llama"}, "wanted model_type 'llava_qwen', got 'llama'"),
        ({"composer_type": "single_token"}, "composer_type 'sig_pooling', got 'single_token'"),
        ({"mm_projector_type": "linear"}, "mm_projector_type"),
        ({"mm_patch_merge_type": "flat"}, "'unpad', got 'flat'"),
        ({"mm_spatial_pool_mode": "average"}, "mm_spatial_pool_mode"),
        ({"activate_frame_selector": False}, "activate_frame_selector"),
        ({"mm_hidden_size": 99}, "mm_hidden_size is 99, the vision tower's is 24"),
        ({"composer_proj_dim": 99}, "composer_proj_dim is 99, CLIP's projection_dim is 18"),
        ({"hidden_size": None}, "hidden_size must be an integer in .*, got nothing"),
        ({"hidden_size": "48"}, "hidden_size must be an integer"),
        ({"hidden_size": 2**40}, "hidden_size must be an integer in"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers must be an integer in 1..512"),
        ({"num_key_value_heads": 4}, "multiple of num_key_value_heads"),
        ({"num_attention_heads": 48}, "num_attention_heads times an even number"),
        ({"max_frame_num": 0}, "max_frame_num"),
        ({"f2f_thrd": float("nan")}, "f2f_thrd must be a finite number"),
        ({"f2t_thrd": 10**400}, "f2t_thrd must be a finite number"),
        ({"torch_dtype": "float31"}, "'float31' is no dtype"),
        ({"clip_model_path": ["clip"]}, "clip_model_path must be a name"),
        ({"eos_token_id": "end"}, "eos_token_id must be ids"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_refused(folder, fields, message):
    change(folder / "config.json", **fields)
    with pytest.raises(CheckpointError, match=message) as caught:
        ViLAMPConfig.from_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[1]", "wanted a JSON object, got list"),
        ("[" * 100_000, "not readable as JSON"),
        ('{"vocab_size": ' + "9" * 5000 + "}", "not readable as JSON"),
    ],
    ids=["broken", "list", "deep", "number without end"],
)
def test_broken_json(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        ViLAMPConfig.from_folder(folder)


def test_no_config(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        ViLAMPConfig.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": [56, 56]}, "image_size"),
        ({"patch_size": 57}, "patch_size <= image_size"),
        ({"image_size": 10**6}, "image_size <= 4096"),
        ({"num_hidden_layers": 1}, "at least 2 layers"),
    ],
    ids=["pair", "patch", "huge", "one-layer"],
)
def test_refused_tower(folder, fields, message):
    change(folder / VISION_FOLDER / "config.json", **fields)
    with pytest.raises(CheckpointError, match=message):
        ViLAMPConfig.from_folder(folder)


def test_7b_has_the_published_keys(tmp_path):
    """The published 7B model, built without weights: every key and shape, and its size."""
    config = ViLAMPConfig.from_folder(write_configs(tmp_path, PUBLISHED_7B))
    with torch.device("meta"):
        model = ViLAMP(config)
    built = {published_key(name): tuple(p.shape) for name, p in model.named_parameters()}
    assert built == published_shapes(PUBLISHED_7B)
    assert built["model.layers.27.mlp.down_proj.weight"] == (3584, 18944)
    assert "model.layers.28.mlp.down_proj.weight" not in built
    parameters = sum(p.numel() for p in model.parameters())
    assert 8.1e9 < parameters < 8.3e9
