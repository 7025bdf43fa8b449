"""What is found in a cache under the name of an entry and does not fit: a miss, and replaced."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat

import numpy as np
import pytest
import torch
from niah_files import numbered_video
from safetensors.torch import load_file, save_file
from vilamp import ViLAMP
from vilamp.cache import Cache, key
from vilamp.niah.features import Features
from vilamp.niah.playlist import Opened, Piece
from vilamp.spool import Spool
from vilamp.video import open_video

FRAMES = 6
OTHER_KINDS = ("pipe", "socket", "folder", "full folder", "link", "dangling link")
DAMAGE = ("empty", "short", "huge header", "no header", "other bytes", "other name", "no seal")


def put(path, kind):
    """Something that is no regular file in the place of an entry."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        # The name of a socket must be short.
        short = path.parent / "s"
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(short))
        short.rename(path)
    elif kind.endswith("folder"):
        path.mkdir()
        if kind.startswith("full"):
            (path / "file").touch()
    elif kind == "link":
        path.symlink_to(path.parent.parent / "kept.safetensors")
    elif kind == "dangling link":
        path.symlink_to(path.parent / "nothing")


def damage(path, kind):
    """Change an entry in place."""
    data = path.read_bytes()
    if kind == "empty":
        data = b""
    elif kind == "short":
        data = data[:-7]
    elif kind == "huge header":
        data = (2**60).to_bytes(8, "little") + data[8:]
    elif kind == "no header":
        data = bytes(8) + data[8:]
    elif kind == "other bytes":
        data = data[:-1] + bytes([data[-1] ^ 1])
    elif kind == "other name":
        # As if the entry of another video had been copied there.
        shutil.copyfile(path, path.with_name(f"embeddings-{key('x')}.safetensors"))
        cache = Cache(path.parent)
        cache.store("embeddings", key("y"), load_file(path), {"skipped": "[]"})
        data = (path.parent / f"embeddings-{key('y')}.safetensors").read_bytes()
    elif kind == "no seal":
        save_file(load_file(path), path, {"skipped": "[]"})
        return
    path.write_bytes(data)


@pytest.fixture
def cache(tmp_path):
    (tmp_path / "cache").mkdir()
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="module")
def model():
    return ViLAMP.from_pretrained("default", device="cpu")


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 48, 3), dtype=np.uint8)


def is_good(path):
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


class TestTensors:
    NAME = key("a")
    TENSORS = {"x": torch.arange(50.0)}  # noqa: RUF012

    @pytest.fixture
    def path(self, cache):
        return cache.folder / f"embeddings-{self.NAME}.safetensors"

    @pytest.mark.parametrize("kind", OTHER_KINDS)
    def test_no_regular_file(self, cache, path, kind, tmp_path):
        save_file({"kept": torch.zeros(1)}, tmp_path / "kept.safetensors")
        put(path, kind)
        assert cache.load("embeddings", self.NAME) is None
        cache.store("embeddings", self.NAME, self.TENSORS, {"t": "1"})
        tensors, texts = cache.load("embeddings", self.NAME)
        assert torch.equal(tensors["x"], self.TENSORS["x"]) and texts == {"t": "1"}
        assert (tmp_path / "kept.safetensors").exists()

    @pytest.mark.parametrize("kind", DAMAGE)
    def test_damaged(self, cache, path, kind):
        cache.store("embeddings", self.NAME, self.TENSORS, {})
        damage(path, kind)
        assert cache.load("embeddings", self.NAME) is None and not path.exists()

    def test_larger_than_the_cache(self, cache, path):
        """A sparse file of any size costs nothing to make, and hours to read."""
        cache.store("embeddings", self.NAME, self.TENSORS, {})
        os.truncate(path, 1 << 40)
        assert cache.load("embeddings", self.NAME) is None and not path.exists()


class TestSpooledFrames:
    NAME, SIDE, COUNT = key("a"), 4, 3

    def store(self, cache, name=NAME):
        spool = cache.new_spool(name, self.SIDE, self.COUNT)
        for number in range(self.COUNT):
            spool.write(np.full((self.SIDE, self.SIDE, 3), number, np.uint8))
        assert spool.finish()
        cache.keep(name, spool)
        return cache.folder / f"frames-{name}.safetensors"

    def levels(self, cache):
        spool = cache.spool(self.NAME, self.SIDE, self.COUNT)
        return spool and [int(frame.max()) for frame in spool]

    @pytest.mark.parametrize("kind", OTHER_KINDS)
    def test_no_regular_file(self, cache, kind, tmp_path):
        (tmp_path / "kept.safetensors").touch()
        path = cache.folder / f"frames-{self.NAME}.safetensors"
        put(path, kind)
        assert self.levels(cache) is None
        self.store(cache)
        assert self.levels(cache) == [0, 1, 2] and is_good(path)
        assert (tmp_path / "kept.safetensors").exists()

    @pytest.mark.parametrize("kind", ["empty", "short", "huge header", "other video"])
    def test_damaged(self, cache, kind):
        path = self.store(cache)
        if kind == "other video":
            self.store(cache, key("b")).replace(path)
        else:
            damage(path, kind)
        assert self.levels(cache) is None and not path.exists()
        self.store(cache)
        assert self.levels(cache) == [0, 1, 2]

    @pytest.mark.parametrize("kind", OTHER_KINDS)
    def test_opening_by_path(self, tmp_path, kind):
        (tmp_path / "in").mkdir()
        (tmp_path / "kept.safetensors").touch()
        put(tmp_path / "in" / "spool", kind)
        assert Spool.open(tmp_path / "in" / "spool", self.SIDE, self.COUNT) is None


def changed(**tensors):
    return lambda old: old | {name: change(old[name]) for name, change in tensors.items()}


def with_nan(tensor):
    tensor = tensor.clone()
    tensor[2] = torch.nan
    return tensor


UNFIT = {
    "dtype": changed(embeds=lambda t: t.half()),
    "integers": changed(embeds=lambda t: t.long()),
    "width": changed(embeds=lambda t: t[:, :-1]),
    "rows": changed(embeds=lambda t: t[:-1]),
    "too many": changed(
        embeds=lambda t: t.repeat(2, 1), times=lambda t: torch.arange(12.0).double()
    ),
    "flat": changed(embeds=lambda t: t.flatten()),
    "nan": changed(embeds=with_nan),
    "infinite": changed(embeds=lambda t: t / 0),
    "order": changed(times=lambda t: t.flip(0)),
    "twice": changed(times=lambda t: t // 2),
    "nan times": changed(times=with_nan),
    "integer times": changed(times=lambda t: t.long()),
    "times in a table": changed(times=lambda t: t[:, None]),
    "none": lambda old: {"times": old["times"]},
    "no frames": changed(embeds=lambda t: t[:0], times=lambda t: t[:0]),
}


def embeddings_of(cache):
    return next(e.path for e in cache.entries() if e.kind == "embeddings")


@pytest.mark.parametrize("kind", [*UNFIT, *DAMAGE, *OTHER_KINDS])
def test_embeddings_of_a_video(model, frames, cache, kind):
    wanted = model.session(frames, cache=cache).select("red")
    path = embeddings_of(cache)
    if kind in UNFIT:
        name = path.stem.partition("-")[2]
        tensors, texts = cache.load("embeddings", name)
        unfit = {n: t.contiguous() for n, t in UNFIT[kind](tensors).items()}
        # Sealed as if it had been computed.
        cache.store("embeddings", name, unfit, texts)
    elif kind in DAMAGE:
        damage(path, kind)
    else:
        path.rename(path.parent.parent / "kept.safetensors")
        put(path, kind)
    phases = []
    for reads in (1, 0):
        phases.clear()
        session = model.session(frames, cache=cache, progress=lambda *step: phases.append(step[0]))
        assert session.select("red") == wanted
        assert ("embed" in phases) == bool(reads)
    assert is_good(path)


@pytest.mark.parametrize("texts", [{}, {"skipped": "{"}, {"skipped": "5"}, {"skipped": "[[1]]"}])
def test_embeddings_with_odd_notes(model, frames, cache, texts):
    wanted = model.session(frames, cache=cache).select("red")
    name = embeddings_of(cache).stem.partition("-")[2]
    tensors, _ = cache.load("embeddings", name)
    cache.store("embeddings", name, tensors, texts)
    assert model.session(frames, cache=cache).select("red") == wanted


@pytest.mark.parametrize("kind", ["pipe", "folder", "empty", "short", "huge header"])
def test_frames_of_a_video(model, frames, cache, kind):
    wanted = model.session(frames, cache=cache).ask("red?", max_new_tokens=2).text
    path = next(e.path for e in cache.entries() if e.kind == "frames")
    if kind in DAMAGE:
        damage(path, kind)
    else:
        path.unlink()
        put(path, kind)
    for _ in range(2):
        assert model.session(frames, cache=cache).ask("red?", max_new_tokens=2).text == wanted
    assert is_good(path) and path.stat().st_size == Spool.size(64, FRAMES)


@pytest.mark.parametrize("kind", ["a file", "in a file", "read only", "a name too long"])
def test_a_folder_that_cannot_be_used(model, frames, tmp_path, kind, monkeypatch):
    wanted = model.session(frames).ask("red?", max_new_tokens=2).text
    (tmp_path / "file").touch()
    folder = {
        "a file": tmp_path / "file",
        "in a file": tmp_path / "file" / "cache",
        "read only": tmp_path / "closed",
        "a name too long": tmp_path / ("x" * 300),
    }[kind]
    if kind == "read only":
        folder.mkdir(mode=0o500)
        if os.access(folder, os.W_OK):
            pytest.skip("nothing is closed to this user")
    cache = Cache(folder)
    assert model.session(frames, cache=cache).ask("red?", max_new_tokens=2).text == wanted
    assert cache.entries() == [] and cache.clear() == 0


FEATURES = {
    "dtype": changed(patches=lambda t: t.double()),
    "dtype of embeddings": changed(embeds=lambda t: t.half()),
    "width": changed(patches=lambda t: t[..., :-1]),
    "patches": changed(patches=lambda t: t[:, :-1]),
    "width of embeddings": changed(embeds=lambda t: t[:, :-1]),
    "rows": changed(patches=lambda t: t[:-1]),
    "nan": changed(patches=with_nan),
    "nan embeddings": changed(embeds=with_nan),
    "infinite": changed(patches=lambda t: t / 0),
    "none": lambda old: {"embeds": old["embeds"]},
}


@pytest.mark.parametrize("kind", [*FEATURES, "pipe", "full folder", "short", "other bytes"])
def test_features(model, cache, tmp_path, kind):
    opened = Opened()
    piece = Piece(numbered_video(tmp_path / "a.mp4", 4, 9), 0, 4)
    seen = []

    def parts():
        features = Features(model, cache)
        return [t for p in features.parts(opened, piece, (32, 24), seen.append) for t in p]

    wanted = parts()
    (entry,) = cache.entries()
    name = entry.path.stem.partition("-")[2]
    if kind in FEATURES:
        tensors, texts = cache.load("features", name)
        unfit = {n: t.contiguous() for n, t in FEATURES[kind](tensors).items()}
        cache.store("features", name, unfit, texts)
    elif kind in DAMAGE:
        damage(entry.path, kind)
    else:
        entry.path.unlink()
        put(entry.path, kind)
    for computed in (4, 0):
        seen.clear()
        assert all(torch.equal(a, b) for a, b in zip(parts(), wanted, strict=True))
        assert sum(seen) == computed
    assert is_good(entry.path)


def test_the_seal_is_metadata_of_a_plain_safetensors_file(model, frames, cache):
    model.session(open_video(frames), cache=cache).select("red")
    data = embeddings_of(cache).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(header["__metadata__"]) == {"skipped", "seal"}
