"""Kept features that do not fit: looked at again, and replaced."""

from __future__ import annotations

import pytest
import torch
from cache_damage import DAMAGE, changed, damage, is_good, put, with_nan
from niah_files import numbered_video
from vilamp import ViLAMP
from vilamp.cache import Cache
from vilamp.niah.features import Features
from vilamp.niah.playlist import Opened, Piece


@pytest.fixture
def cache(tmp_path):
    (tmp_path / "cache").mkdir()
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="module")
def model():
    return ViLAMP.from_pretrained("default", device="cpu")


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
