"""A session whose cache holds something that does not fit: the answer of an empty cache."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from cache_damage import DAMAGE, OTHER_KINDS, changed, damage, is_good, put, with_nan
from vilamp import ViLAMP
from vilamp.cache import Cache
from vilamp.spool import Spool
from vilamp.video import open_video

FRAMES = 6


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


def test_the_seal_is_metadata_of_a_plain_safetensors_file(model, frames, cache):
    model.session(open_video(frames), cache=cache).select("red")
    data = embeddings_of(cache).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(header["__metadata__"]) == {"skipped", "notes", "seal"}
