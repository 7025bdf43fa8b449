"""What is found in a cache under the name of an entry and does not fit: a miss, and replaced."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from cache_damage import DAMAGE, OTHER_KINDS, damage, is_good, put
from safetensors.torch import save_file
from vilamp.cache import Cache, key
from vilamp.spool import Spool


@pytest.fixture
def cache(tmp_path):
    (tmp_path / "cache").mkdir()
    return Cache(tmp_path / "cache")


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

    @pytest.mark.parametrize(
        "kind", ["empty", "short", "huge header", "other bytes", "other video", "zeros", "a level"]
    )
    def test_damaged(self, cache, kind):
        path = self.store(cache)
        if kind == "other video":
            self.store(cache, key("b")).replace(path)
        elif kind in ("zeros", "a level"):
            # As after a loss of power, or of a disk that fails.
            frames = self.COUNT * self.SIDE**2 * 3
            head, data = path.read_bytes()[: -frames - 12], path.read_bytes()[-frames - 12 :]
            data = bytes(len(data)) if kind == "zeros" else data[:50] + b"\xff" + data[51:]
            path.write_bytes(head + data)
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
