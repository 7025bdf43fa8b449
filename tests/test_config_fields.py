"""Every field of a model's configs with every kind of odd value: a config, or one line."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import vilamp
from vilamp.config import ViLAMPConfig
from vilamp.errors import CheckpointError

DEFAULT_MODEL = Path(vilamp.__file__).parent / "default_model"
ABSENT_BY_DEFAULT = {
    "config.json": ("dtype", "rope_parameters", "sliding_window", "max_window_layers"),
    "generation_config.json": ("eos_token_id",),
}
# Texts of JSON: several of them are no values of Python.
ODD = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "minus": "-1",
    "minus-zero": "-0.0",
    "fraction": "0.5",
    "tiny": "1e-45",
    "large": "1e300",
    "infinite": "1e400",
    "nan": "NaN",
    "2^31": str(2**31),
    "10^12": str(10**12),
    "10^400": "1" + "0" * 400,
    "text": '"x"',
    "empty": '""',
    "long": '"' + "x" * 3000 + '"',
    "surrogate": '"\\ud800"',
    "lines": '"a\\u0000\\nb"',
    "outside": '"../../etc"',
    "list": "[1]",
    "lists": "[[1]]",
    "deep": "[" * 900 + "]" * 900,
    "object": '{"a": 1}',
    "nothing": "{}",
}
FILES = (
    "config.json",
    "generation_config.json",
    "siglip-drawn-patch8-64/config.json",
    "clip-drawn-patch8-64/config.json",
    "clip-drawn-patch8-64/preprocessor_config.json",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The configs of the embedded model."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if (DEFAULT_MODEL / name).exists():
            shutil.copyfile(DEFAULT_MODEL / name, tmp_path / name)
    (tmp_path / "generation_config.json").write_text("{}")
    return tmp_path


def places(value: object, at: tuple = ()) -> Iterator[tuple]:
    """Of everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for name, item in inner:
        yield (*at, name)
        yield from places(item, (*at, name))


def with_text(value: dict, place: tuple, text: str) -> str:
    """JSON of `value` with `text` at one place."""
    value = json.loads(json.dumps(value))
    holder = value
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = "@HERE@"
    return json.dumps(value).replace('"@HERE@"', text)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", FILES)
def test_an_odd_value_is_a_config_or_one_line(folder, name, kind):
    fields = json.loads((folder / name).read_text())
    for place in [*places(fields), *((extra,) for extra in ABSENT_BY_DEFAULT.get(name, ()))]:
        (folder / name).write_text(with_text(fields, place, ODD[kind]))
        try:
            config = ViLAMPConfig.from_folder(folder)
        except CheckpointError as error:
            assert "\n" not in str(error), place
            assert len(str(error)) < 600, place
        else:
            assert math.isfinite(config.tau) and config.keyframes >= 1, place


@pytest.mark.parametrize(
    ("name", "place", "text", "complaint"),
    [
        ("config.json", "torch_dtype", '"float8_e4m3fn"', "no dtype that this model runs in"),
        ("config.json", "torch_dtype", '"int8"', "no dtype that this model runs in"),
        ("config.json", "torch_dtype", "false", "no dtype that this model runs in"),
        ("config.json", "sliding_window", "0", "sliding_window must be an integer"),
        ("config.json", "sliding_window", "-1", "sliding_window must be an integer"),
        ("config.json", "rms_norm_eps", "NaN", "rms_norm_eps must be a finite number"),
        ("config.json", "rms_norm_eps", "-1e-6", "rms_norm_eps must be a finite number"),
        ("config.json", "rope_theta", "0", "rope_theta must be a finite number"),
        ("config.json", "rope_theta", "-10000", "rope_theta must be a finite number"),
        ("config.json", "rope_theta", "1e300", "rope_theta must be a finite number"),
        ("config.json", "f2f_thrd", "1e300", "f2f_thrd must be a finite number"),
        ("config.json", "tie_word_embeddings", '"false"', "must be true or false"),
        ("config.json", "hidden_act", "[]", "hidden_act must be a name"),
        ("config.json", "mm_patch_merge_type", '["unpad"]', "'unpad', got"),
        ("config.json", "clip_model_path", '"' + "x" * 3000 + '"', "only clip-vit-base-patch32"),
        ("config.json", "mm_vision_tower", '"' + "x/" * 3000 + '"', "can do without"),
        ("siglip-drawn-patch8-64/config.json", "num_channels", "4", "num_channels must be 3"),
        ("siglip-drawn-patch8-64/config.json", "patch_size", "0", "patch_size must be"),
        ("siglip-drawn-patch8-64/config.json", "image_size", "4096", "128 patches in a row"),
        ("siglip-drawn-patch8-64/config.json", "hidden_size", "96.0", "hidden_size must be"),
        ("siglip-drawn-patch8-64/config.json", "layer_norm_eps", "-1", "layer_norm_eps must be"),
        ("clip-drawn-patch8-64/config.json", "text_config", "7", "wanted an object, got int"),
        ("clip-drawn-patch8-64/preprocessor_config.json", "size", "[64]", r"size is \[64\]"),
        ("clip-drawn-patch8-64/preprocessor_config.json", "size", '{"a": [64]}', "size is"),
        ("clip-drawn-patch8-64/preprocessor_config.json", "image_std", "[1, 1, 1e-9]", "3 numbers"),
    ],
)
def test_what_is_refused_is_named(folder, name, place, text, complaint):
    fields = json.loads((folder / name).read_text())
    (folder / name).write_text(with_text(fields, (place,), text))
    with pytest.raises(CheckpointError, match=complaint):
        ViLAMPConfig.from_folder(folder)


def test_a_text_half_of_clip(folder):
    path = folder / "clip-drawn-patch8-64" / "config.json"
    fields = json.loads(path.read_text())
    for name, value in (("eos_token_id", 127), ("max_position_embeddings", 2)):
        path.write_text(with_text(fields, ("text_config", name), str(value)))
        with pytest.raises(CheckpointError, match=f"text_config: .*{name}"):
            ViLAMPConfig.from_folder(folder)


@pytest.mark.parametrize("kind", ["folder", "too large", "latin"])
def test_a_file_that_is_no_config(folder, kind):
    path = folder / "config.json"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "too large":
        path.write_text(" " * (5 << 20) + "{}")
    else:
        path.write_bytes(b'{"model_type": "\xe9"}')
    with pytest.raises(CheckpointError, match=r"config\.json"):
        ViLAMPConfig.from_folder(folder)


def test_null_means_no_window(folder):
    fields = json.loads((folder / "config.json").read_text())
    fields["use_sliding_window"] = True
    for value, wanted in ((None, None), (64, 64)):
        (folder / "config.json").write_text(json.dumps(fields | {"sliding_window": value}))
        assert ViLAMPConfig.from_folder(folder).text_config.sliding_window == wanted


@pytest.mark.parametrize(
    ("scaling", "wanted"),
    [
        (None, None),
        ({}, None),
        ({"rope_type": "default"}, None),
        ({"type": "linear", "factor": 8.0}, "'linear'"),
        ({"rope_type": "yarn", "factor": 4.0}, "'yarn'"),
    ],
    ids=["null", "empty", "default", "linear", "yarn"],
)
@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_rope_scaling_is_kept_for_a_note(folder, field, scaling, wanted):
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(fields | {field: scaling}))
    config = ViLAMPConfig.from_folder(folder)
    assert config.text_config.rope_parameters["rope_type"] == "default"
    found = config.unapplied_rope_scaling
    assert found is None if wanted is None else wanted in found
