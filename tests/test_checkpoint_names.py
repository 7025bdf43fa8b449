"""Names and headers in a checkpoint that are no names, too long or of absurd size: one line."""

from __future__ import annotations

import json
import os

import pytest
from model_files import write_checkpoint, write_json
from vilamp.checkpoint import find_folder, stored_tensors
from vilamp.errors import CheckpointError
from vilamp.model import ViLAMP

KEY = "model.norm.weight"


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "model")


@pytest.fixture
def refused(folder):
    """`refused(message)`: loading is refused with it, in one short line."""

    def refuse(message):
        with pytest.raises(CheckpointError, match=message) as caught:
            ViLAMP.from_pretrained(folder, device="cpu")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000

    return refuse


def rewrite(folder, change):
    """Change the text of the header of the weights."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = change(data[8:end].decode().rstrip())
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + data[end:])


@pytest.mark.parametrize(
    ("name", "message"),
    [("x" * 100_000, r"unknown: x{200}\.\.\.$"), ("a\\u0000\\nb", r"unknown: a\?\?b$")],
    ids=["long", "lines"],
)
def test_odd_keys(folder, refused, name, message):
    rewrite(folder, lambda text: text.replace(f'"{KEY}"', f'"{name}"'))
    refused(message)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "XX"),
        ("dtype", 5),
        ("shape", [-48]),
        ("shape", [2**40, 2**40]),
        ("shape", [48, 0]),
        ("data_offsets", [0, 2**63]),
        ("data_offsets", [0, 192]),
    ],
    ids=str,
)
def test_odd_tensors(folder, refused, field, value):
    def change(text):
        header = json.loads(text)
        header[KEY][field] = value
        return json.dumps(header)

    rewrite(folder, change)
    refused("not a complete safetensors file")


def test_a_header_of_absurd_size(folder, refused):
    rewrite(folder, lambda text: text + " " * (16 << 20))
    refused("wanted a header of at most 16,777,216 bytes")


def test_no_rows(folder, refused):
    def change(text):
        header = json.loads(text)
        # Its bytes go to a tensor of another name.
        row = header["model.embed_tokens.weight"]
        header["rest"] = dict(row)
        start = row["data_offsets"][0]
        row |= {"shape": [0, 48], "data_offsets": [start, start]}
        return json.dumps(header)

    rewrite(folder, change)
    refused(r"embed_tokens.weight \[0, 48\] instead of \[1, 48\]")


@pytest.mark.parametrize(
    "name", ["x" * 3000 + ".safetensors", "a\n.safetensors", "\ud800.safetensors", None, 5, ["a"]]
)
def test_shards(folder, refused, name):
    (folder / "model.safetensors").unlink()
    write_json(folder / "model.safetensors.index.json", {"weight_map": {KEY: name}})
    refused("not the plain name of a safetensors file")


def test_shards_that_are_no_files(folder):
    path = folder / "model.safetensors"
    path.unlink()
    write_json(folder / "model.safetensors.index.json", {"weight_map": {KEY: path.name}})
    for put in (lambda: os.mkfifo(path), path.mkdir, lambda: path.symlink_to("/dev/zero")):
        put()
        with pytest.raises(CheckpointError, match="no such file"):
            stored_tensors(folder)
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_link_to_weights_is_followed(folder, tmp_path):
    """The hub's own cache consists of such links."""
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to("../blob")
    assert KEY in stored_tensors(folder)


@pytest.mark.parametrize(
    "name", ["x" * 3000, "a/" * 3000, "~nobody-of-that-name/x", "\0", "\udc80"]
)
def test_names_of_models(name):
    with pytest.raises(CheckpointError, match="no such model folder") as caught:
        find_folder(name)
    assert len(str(caught.value)) < 300
