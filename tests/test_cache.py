"""The on-disk cache and the spool: what is kept, for whom, and what damage does."""

import errno
import multiprocessing
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from vilamp.cache import ABANDONED_AFTER, Cache, default_folder, key
from vilamp.errors import VideoError
from vilamp.spool import Spool

from vilamp_kernels.testing import moved

SIDE, COUNT = 4, 5


def frames(count=COUNT, seed=0):
    return np.random.default_rng(moved(seed)).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def filled(spool, images):
    for image in images:
        spool.write(image)
    return spool


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


class TestSpool:
    def test_gives_back_what_was_written(self):
        spool = filled(Spool(SIDE, COUNT), frames())
        assert spool.finish() and spool.complete
        for _ in range(2):
            assert np.array_equal(list(spool), frames())
        spool.close()

    def test_its_file_is_a_safetensors_file(self, tmp_path):
        path = tmp_path / "frames.safetensors"
        spool = filled(Spool(SIDE, COUNT, path), frames())
        assert spool.finish() and path.stat().st_size == spool.bytes
        assert np.array_equal(load_file(path)["frames"].numpy(), frames())
        again = Spool.open(path, SIDE, COUNT)
        assert again.complete and np.array_equal(list(again), frames())
        assert Spool.open(path, SIDE, COUNT + 1) is None
        assert Spool.open(tmp_path / "none", SIDE, COUNT) is None

    @pytest.mark.parametrize("count", [COUNT - 1, COUNT + 1])
    def test_another_number_of_frames_is_a_failure(self, tmp_path, count):
        path = tmp_path / "frames.safetensors"
        spool = filled(Spool(SIDE, COUNT, path), frames(count))
        assert not spool.finish() and not spool.complete
        assert "announced" in spool.failed
        assert not path.exists()

    def test_a_full_disk_is_a_failure_not_an_error(self, tmp_path):
        path = tmp_path / "frames.safetensors"
        spool = filled(Spool(SIDE, COUNT, path), frames()[:2])

        def full(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        spool._file.close()
        spool._file = SimpleNamespace(write=full, close=lambda: None)
        filled(spool, frames()[2:])
        assert not spool.finish()
        assert spool.failed == os.strerror(errno.ENOSPC)
        assert not path.exists()

    def test_a_file_that_is_cut_short_later_is_named(self, tmp_path):
        path = tmp_path / "frames.safetensors"
        spool = filled(Spool(SIDE, COUNT, path), frames())
        spool.finish()
        os.truncate(path, spool.bytes // 2)
        with pytest.raises(VideoError, match="cut short"):
            list(spool)
        assert Spool.open(path, SIDE, COUNT) is None


class TestCache:
    def test_keeps_tensors_and_texts(self, cache):
        assert cache.load("embeddings", key("a")) is None
        cache.store("embeddings", key("a"), {"x": torch.arange(3)}, {"t": "1"})
        tensors, texts = cache.load("embeddings", key("a"))
        assert tensors["x"].tolist() == [0, 1, 2] and texts == {"t": "1"}
        (entry,) = cache.entries()
        assert entry.kind == "embeddings" and entry.bytes == entry.path.stat().st_size

    def test_keeps_spooled_frames(self, cache):
        spool = filled(cache.new_spool(key("a"), SIDE, COUNT), frames())
        assert cache.spool(key("a"), SIDE, COUNT) is None
        spool.finish()
        cache.keep(key("a"), spool)
        assert np.array_equal(list(spool), frames())
        assert np.array_equal(list(cache.spool(key("a"), SIDE, COUNT)), frames())

    def test_what_was_used_least_recently_goes_first(self, cache):
        cache.limit = 3000
        for number, name in enumerate("abc"):
            cache.store("embeddings", key(name), {"x": torch.zeros(200)}, {})
            os.utime(cache.folder / f"embeddings-{key(name)}.safetensors", (number, number))
        cache.load("embeddings", key("a"))
        cache.store("embeddings", key("d"), {"x": torch.zeros(200)}, {})
        kept = {entry.path.stem.removeprefix("embeddings-") for entry in cache.entries()}
        assert kept == {key("a"), key("c"), key("d")}
        assert sum(entry.bytes for entry in cache.entries()) <= cache.limit

    def test_what_is_larger_than_the_limit_is_not_kept(self, cache):
        cache.limit = 100
        cache.store("embeddings", key("a"), {"x": torch.zeros(200)}, {})
        spool = filled(cache.new_spool(key("b"), SIDE, COUNT), frames())
        spool.finish()
        cache.keep(key("b"), spool)
        assert cache.entries() == [] and np.array_equal(list(spool), frames())

    def test_unfinished_files_count(self, cache):
        """Those of others, and what the next one will take."""
        for number, name in enumerate("abc"):
            cache.store("embeddings", key(name), {"x": torch.zeros(200)}, {})
            os.utime(cache.folder / f"embeddings-{key(name)}.safetensors", (number, number))
        size = sum(entry.bytes for entry in cache.entries())
        # As another process leaves it meanwhile.
        part = cache.folder / f"frames-{key('d')}.1-1.part"
        part.write_bytes(b"x" * 500)
        cache.limit = size + 600
        cache.store("embeddings", key("e"), {"x": torch.zeros(10)}, {})
        kept = {entry.path.stem.removeprefix("embeddings-") for entry in cache.entries()}
        assert kept == {key("b"), key("c"), key("e")}
        spool = cache.new_spool(key("f"), SIDE, 40)
        kept = {entry.path.stem.removeprefix("embeddings-") for entry in cache.entries()}
        assert spool.path is not None and kept == {key("e")}
        assert sum(e.bytes for e in cache.entries()) + 500 + spool.bytes <= cache.limit
        # What would not fit beside them is not begun there.
        cache.limit = spool.bytes + 400
        assert cache.new_spool(key("g"), SIDE, 40).path is None

    def test_a_damaged_file_is_forgotten(self, cache):
        cache.store("embeddings", key("a"), {"x": torch.zeros(9)}, {})
        path = cache.entries()[0].path
        path.write_bytes(path.read_bytes()[:-5])
        assert cache.load("embeddings", key("a")) is None
        assert not path.exists()

    def test_a_killed_process_leaves_nothing_that_is_read(self, cache):
        process = multiprocessing.get_context("spawn").Process(target=write_and_die, args=(cache,))
        process.start()
        process.join()
        assert process.exitcode == 9
        assert cache.entries() == [] and cache.spool(key("a"), SIDE, COUNT) is None
        (part,) = cache.folder.iterdir()
        cache.store("embeddings", key("b"), {"x": torch.zeros(1)}, {})
        assert part.exists()  # it could belong to a process that is still at work
        old = time.time() - 2 * ABANDONED_AFTER
        os.utime(part, (old, old))
        cache.store("embeddings", key("c"), {"x": torch.zeros(1)}, {})
        assert not part.exists()

    def test_two_processes_at_once(self, cache):
        spawn = multiprocessing.get_context("spawn")
        both = [spawn.Process(target=store_often, args=(cache, n)) for n in (1, 2)]
        for process in both:
            process.start()
        while any(process.is_alive() for process in both):
            found = cache.load("embeddings", key("a"))
            if found is not None:
                numbers = found[0]["x"].unique().tolist()
                assert numbers in ([1], [2])
        assert [process.exitcode for process in both] == [0, 0]
        assert [path.suffix for path in cache.folder.iterdir()] == [".safetensors"]

    def test_a_folder_that_cannot_be_used_keeps_nothing(self, tmp_path):
        (tmp_path / "file").touch()
        cache = Cache(tmp_path / "file" / "cache")
        cache.store("embeddings", key("a"), {"x": torch.zeros(1)}, {})
        spool = filled(cache.new_spool(key("a"), SIDE, COUNT), frames())
        assert spool.finish()
        cache.keep(key("a"), spool)
        assert np.array_equal(list(spool), frames())
        assert cache.load("embeddings", key("a")) is None and cache.entries() == []

    def test_files_of_others_are_left_alone(self, cache):
        cache.folder.mkdir()
        others = [cache.folder / name for name in ("model-00001-of-00004.safetensors", "a-b.part")]
        for path in others:
            path.write_bytes(b"x" * 5000)
            os.utime(path, (0, 0))
        cache.limit = 1000
        for name in "ab":
            cache.store("embeddings", key(name), {"x": torch.zeros(150)}, {})
        assert len(cache.entries()) == 1
        cache.clear()
        assert sorted(cache.folder.iterdir()) == sorted(others)

    def test_nobody_else_reads_it(self, cache):
        spool = filled(cache.new_spool(key("a"), SIDE, COUNT), frames())
        spool.finish()
        cache.keep(key("a"), spool)
        cache.store("embeddings", key("a"), {"x": torch.zeros(1)}, {})
        for path in (cache.folder, *cache.folder.iterdir()):
            assert path.stat().st_mode & 0o077 == 0

    def test_a_folder_that_cannot_be_written_leaves_an_unnamed_spool(self, cache, monkeypatch):
        def refuse(*_):
            raise PermissionError(errno.EACCES, "no")

        monkeypatch.setattr("vilamp.spool.os.fdopen", refuse)
        spool = filled(cache.new_spool(key("a"), SIDE, COUNT), frames())
        assert spool.path is None and spool.finish()

    def test_clear_takes_all(self, cache):
        cache.store("embeddings", key("a"), {"x": torch.zeros(9)}, {})
        cache.new_spool(key("b"), SIDE, COUNT)._file.flush()
        assert cache.clear() > 36
        assert list(cache.folder.iterdir()) == []

    def test_names_depend_on_every_part(self):
        names = {key("a", "b"), key("ab", ""), key("a\nb"), key("b", "a")}
        assert len(names) == 3  # joined by lines: parts are hashes and numbers, without any

    def test_where_it_is(self, monkeypatch, tmp_path):
        monkeypatch.setenv("VILAMP_CACHE", str(tmp_path))
        assert default_folder() == tmp_path
        monkeypatch.delenv("VILAMP_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_folder() == tmp_path / "vilamp"


def write_and_die(cache):
    spool = cache.new_spool(key("a"), SIDE, COUNT)
    filled(spool, frames()[:3])
    spool._file.flush()
    os._exit(9)


def store_often(cache, number):
    for _ in range(30):
        cache.store("embeddings", key("a"), {"x": torch.full((5000,), number)}, {})
