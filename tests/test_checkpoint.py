"""Loading weights: what is accepted, and each way in which they can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from model_files import (
    Sizes,
    published_shapes,
    random_weights,
    write_checkpoint,
    write_configs,
    write_json,
)
from safetensors.torch import load_file, save_file
from vilamp import checkpoint
from vilamp.errors import CheckpointError, InputError
from vilamp.model import ViLAMP

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
SIGLIP = "model.vision_tower.vision_tower.vision_model"


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "model")


@pytest.fixture
def weights():
    return random_weights(Sizes())


def load(folder, **options):
    return ViLAMP.from_pretrained(folder, device="cpu", **options)


def store(folder, weights):
    save_file(weights, folder / "model.safetensors")


def store_shards(folder, *parts, **index):
    """Several files with the index that the hub's tools write."""
    (folder / "model.safetensors").unlink()
    places = {}
    for number, part in enumerate(parts):
        name = f"model-0000{number + 1}-of-0000{len(parts)}.safetensors"
        save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    write_json(folder / "model.safetensors.index.json", {"weight_map": places | index})


def halves(weights):
    keys = sorted(weights)
    return ({k: weights[k] for k in keys[::2]}, {k: weights[k] for k in keys[1::2]})


def test_every_weight_arrives(folder, weights):
    model = load(folder)
    state = checkpoint.published_state(model)
    assert state.keys() == weights.keys() == published_shapes(Sizes()).keys()
    assert all(torch.equal(state[key], weights[key]) for key in weights)
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training


def test_published_state_can_be_loaded_again(folder, weights, tmp_path):
    copy = write_configs(tmp_path / "copy", Sizes())
    store(copy, checkpoint.published_state(load(folder)))
    assert all(torch.equal(v, weights[k]) for k, v in load_file(copy / "model.safetensors").items())
    load(copy)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads the maps of Linux")
def test_a_tensor_that_fits_is_not_copied(folder):
    """The parameters lie in the memory-mapped file itself."""
    model = load(folder)
    name = str(folder / "model.safetensors")
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if name in line]
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    for path, parameter in model.named_parameters():
        mapped = any(start <= parameter.data_ptr() < end for start, end in spans)
        assert mapped or parameter.ndim == 0, path


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bf16", "float16", torch.float64], ids=str)
def test_dtype(folder, weights, dtype):
    model = load(folder, dtype=dtype)
    wanted = {"bf16": torch.bfloat16, "float16": torch.float16}.get(dtype, dtype)
    assert model.dtype == wanted
    for key, value in checkpoint.published_state(model).items():
        # A number that stands alone stays fp32.
        assert torch.equal(value, weights[key].to(wanted) if value.ndim else weights[key])


def test_dtype_of_the_checkpoint(tmp_path):
    folder = write_checkpoint(tmp_path, torch_dtype="bfloat16")
    assert load(folder).dtype == torch.bfloat16


def test_shards(folder, weights):
    store_shards(folder, *halves(weights))
    state = checkpoint.published_state(load(folder))
    assert all(torch.equal(state[key], weights[key]) for key in weights)


def test_derived_tables_are_ignored(folder, weights):
    weights[f"{SIGLIP}.embeddings.position_ids"] = torch.arange(49)[None]
    weights["model.frame_selector.model.text_model.embeddings.position_ids"] = torch.zeros(1, 16)
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    store(folder, weights)
    load(folder)


@pytest.mark.parametrize("rows", [190, 256])
def test_vocabulary_is_that_of_the_file(folder, weights, rows):
    """Published loaders resize the matrices to the tokenizer; the config keeps the old number."""
    for key in (EMBEDDING, HEAD):
        weights[key] = torch.zeros(rows, Sizes().language.width)
    store(folder, weights)
    model = load(folder)
    assert model.language_model.model.embed_tokens.num_embeddings == rows
    assert model.config.text_config.vocab_size == rows


@pytest.mark.parametrize("stored", [False, True], ids=["absent", "stored"])
def test_tied_head(tmp_path, weights, stored):
    folder = write_configs(tmp_path, Sizes(), tie_word_embeddings=True)
    if not stored:
        del weights[HEAD]
    store(folder, weights)
    language = load(folder).language_model
    assert language.lm_head.weight is language.model.embed_tokens.weight
    assert torch.equal(language.lm_head.weight, weights[EMBEDDING])


class TestWrongKeys:
    def test_missing(self, folder, weights):
        del weights["model.composer_projector.tau"], weights["model.image_newline"]
        store(folder, weights)
        with pytest.raises(
            CheckpointError, match=r"missing: model.composer_projector.tau, model.image_newline$"
        ):
            load(folder)

    def test_unknown(self, folder, weights):
        # The layer that the published code drops must not be there.
        extra = f"{SIGLIP}.encoder.layers.3.layer_norm1.bias"
        weights |= {extra: torch.zeros(24), "model.surprise": torch.zeros(1)}
        store(folder, weights)
        with pytest.raises(CheckpointError, match=f"unknown: model.surprise, {extra}$"):
            load(folder)

    def test_shape(self, folder, weights):
        weights["model.norm.weight"] = torch.zeros(47)
        weights["model.composer_projector.tau"] = torch.zeros(1)
        store(folder, weights)
        with pytest.raises(
            CheckpointError,
            match=r"wrong shape: model.composer_projector.tau \[1\] instead of \[\], "
            r"model.norm.weight \[47\] instead of \[48\]$",
        ):
            load(folder)

    def test_head_of_another_length(self, folder, weights):
        weights[HEAD] = torch.zeros(211, 48)
        store(folder, weights)
        message = r"lm_head.weight \[211, 48\] instead of \[210, 48\]"
        with pytest.raises(CheckpointError, match=message):
            load(folder)

    def test_dtype(self, folder, weights):
        weights["model.norm.weight"] = torch.ones(48, dtype=torch.int8)
        store(folder, weights)
        with pytest.raises(CheckpointError, match=r"not of a float dtype: model.norm.weight I8"):
            load(folder)

    def test_all_kinds_in_one_line(self, folder, weights):
        del weights["model.image_newline"]
        weights["model.surprise"] = torch.zeros(1)
        weights["model.norm.weight"] = torch.zeros(47)
        store(folder, weights)
        with pytest.raises(CheckpointError, match=r"missing: .*unknown: .*wrong shape: ") as caught:
            load(folder)
        assert "\n" not in str(caught.value)

    def test_another_model(self, folder, weights):
        store(folder, {f"other.{key}": value for key, value in weights.items()})
        with pytest.raises(CheckpointError, match=r"missing: .*, and \d+ more; unknown: "):
            load(folder)


class TestShards:
    def test_shard_missing(self, folder, weights):
        store_shards(folder, *halves(weights))
        (folder / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"00002-of-00002.safetensors: no such file"):
            load(folder)

    @pytest.mark.parametrize(
        "name",
        ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..", "weights.bin", ""],
    )
    def test_name(self, folder, weights, name):
        save_file({"model.surprise": torch.zeros(1)}, folder.parent / "outside.safetensors")
        store_shards(folder, *halves(weights), **{"model.surprise": name})
        with pytest.raises(CheckpointError, match="not the plain name of a safetensors file"):
            load(folder)

    def test_index_and_shards_disagree(self, folder, weights):
        first, second = halves(weights)
        store_shards(folder, first, second)
        index = folder / "model.safetensors.index.json"
        places = json.loads(index.read_text())["weight_map"]
        hidden = sorted(second)[0]
        del places[hidden]
        places["model.phantom"] = "model-00001-of-00002.safetensors"
        write_json(index, {"weight_map": places})
        with pytest.raises(
            CheckpointError,
            match=f"not in the shards: model.phantom; not in the index: {hidden}$",
        ):
            load(folder)

    def test_key_in_two_shards(self, folder, weights):
        first, second = halves(weights)
        twice = sorted(first)[0]
        store_shards(folder, first, second)
        save_file(second | {twice: first[twice]}, folder / "model-00002-of-00002.safetensors")
        with pytest.raises(CheckpointError, match=f"or in two: {twice}$"):
            load(folder)

    def test_empty_index(self, folder):
        (folder / "model.safetensors").unlink()
        write_json(folder / "model.safetensors.index.json", {"weight_map": {}})
        with pytest.raises(CheckpointError, match="no weight_map"):
            load(folder)


class TestFiles:
    @pytest.mark.parametrize("keep", [0, 4, 2000, -1])
    def test_truncated(self, folder, keep):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(CheckpointError, match="not a complete safetensors file"):
            load(folder)

    def test_header_that_asks_for_too_much(self, folder):
        path = folder / "model.safetensors"
        path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
        with pytest.raises(CheckpointError, match="not a complete safetensors file"):
            load(folder)

    def test_pickle_is_refused(self, folder):
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match=r"pickle \(pytorch_model.bin\).*not read"):
            load(folder)

    def test_no_weights(self, folder):
        (folder / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
            load(folder)


class TestFolder:
    def test_file(self, folder):
        with pytest.raises(CheckpointError, match="wanted a model folder, got a file"):
            load(folder / "config.json")

    @pytest.mark.parametrize("name", ["no/such/folder", "./absent", "/absent", "absent"])
    def test_absent(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CheckpointError, match=r"no such model folder$"):
            load(name)

    def test_hub(self, folder, monkeypatch):
        """A hub id asks for weights and text only, so no code is even downloaded."""
        asked = {}

        def download(name, allow_patterns):
            asked[name] = allow_patterns
            return str(folder)

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        load("someone/some-model")
        assert asked == {"someone/some-model": ["*.safetensors", "*.json", "*.txt"]}

    def test_local_folder_comes_before_the_hub(self, folder, monkeypatch):
        def download(*args, **options):
            raise AssertionError("the hub was asked")

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        monkeypatch.chdir(folder.parent.parent)
        load(f"{folder.parent.name}/{folder.name}")

    def test_hub_out_of_reach(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(
            CheckpointError, match=r"someone/absent: .* the hub could not provide it"
        ) as caught:
            load("someone/absent")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["int8", "bfloat17", torch.int64], ids=str)
def test_wrong_dtype(folder, dtype):
    with pytest.raises(InputError, match="wanted a float dtype"):
        load(folder, dtype=dtype)


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_wrong_device(folder, device):
    with pytest.raises(InputError, match=f"device '{device}': cannot be used here"):
        ViLAMP.from_pretrained(folder, device=device)


def test_unknown_activation(tmp_path):
    folder = write_checkpoint(tmp_path, hidden_act="swish-o-matic")
    with pytest.raises(CheckpointError, match=r"describes no model that can be built.*o-matic"):
        load(folder)
