"""What was computed for a video, kept on disk for the next question about it.

Two things are kept: CLIP's embeddings of the frames and, where they fit, the frames in the size of
the vision tower. Both are safetensors files named by a hash of the video's content, of how it was
sampled and of what computed them; a changed video or model has another name. The folder has a
limit: what was used least recently goes first. Files are written under another name and then
renamed, so a process that is killed, or two that work at once, leave no half file that anyone would
read. What is found under a name and is not what was stored there is deleted, and computed anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import InputError
from .spool import Spool

ENVIRONMENT = "VILAMP_CACHE"
LIMIT = 4 << 30
"""Bytes that a cache takes unless told otherwise."""
VERSION = 2
"""Changes when what is computed changes: files of another version are never read."""
SEAL = "seal"
"""Metadata of a file: a hash of its name and of all that it holds."""
SUFFIX = ".safetensors"
PART_SUFFIX = ".part"
LARGEST_HEADER = 1 << 20
"""Bytes that a file has beside its tensors, at most."""
OWN_NAME = re.compile(r"(embeddings|frames|features)-[0-9a-f]{40}(\.\d+-\d+\.part|\.safetensors)")
ABANDONED_AFTER = 24 * 3600
"""Seconds after which a file that was never finished belongs to a process that is gone."""


@dataclass(frozen=True)
class Entry:
    """One file of a cache."""

    path: Path
    bytes: int
    used: float
    """Seconds since the epoch."""

    @property
    def kind(self) -> str:
        """`embeddings`, `frames` or `features`."""
        return self.path.name.partition("-")[0]


def default_folder() -> Path:
    """`VILAMP_CACHE`, else `vilamp` in the user's folder for caches.

    Raises:
        InputError: the user has no home.
    """
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "vilamp"
    except RuntimeError as error:
        raise InputError(f"no folder for the cache: {error}; set {ENVIRONMENT}") from error


def key(*parts: object) -> str:
    """A file name from whatever determines the content."""
    text = "\n".join(map(str, (VERSION, *parts)))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


class Cache:
    """A folder of results, at most `limit` bytes. A folder that cannot be used keeps nothing."""

    def __init__(self, folder: Path | None = None, limit: int = LIMIT):
        self.folder = default_folder() if folder is None else folder
        self.limit = limit

    def entries(self) -> list[Entry]:
        """All files, the most recently used one first."""
        found = [entry for path in self._files(SUFFIX) if (entry := _entry(path))]
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> int:
        """Delete all files, also those left by processes that were killed; gives the bytes."""
        freed = 0
        for path in [*self._files(SUFFIX), *self._files(PART_SUFFIX)]:
            entry = _entry(path)
            with suppress(OSError):
                path.unlink()
                freed += entry.bytes if entry else 0
        return freed

    def load(self, kind: str, name: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Tensors and texts that were stored under this name; None if there are none."""
        path = self._path(kind, name)
        if not self._usable(path):
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {tensor: file.get_tensor(tensor) for tensor in file.keys()}  # noqa: SIM118
                texts = file.metadata() or {}
            fits = texts.pop(SEAL, None) == _seal(path.name, tensors, texts)
        except (SafetensorError, OSError, RuntimeError, TypeError, ValueError):
            # Dtypes that torch cannot hand over are not among those that are kept.
            fits = False
        if not fits:
            # Damaged, or not ours: it would be in the way for ever.
            _remove(path)
            return None
        self._touch(path)
        return tensors, texts

    def store(
        self, kind: str, name: str, tensors: dict[str, Tensor], texts: dict[str, str]
    ) -> None:
        """Keep tensors under a name, if they fit."""
        if sum(t.numel() * t.element_size() for t in tensors.values()) > self.limit:
            return
        tensors = {key: tensor.contiguous().cpu() for key, tensor in tensors.items()}
        path = self._path(kind, name)
        with suppress(OSError):
            part = self._part(kind, name)
            # A full disk is a SafetensorError.
            with suppress(SafetensorError):
                try:
                    save_file(tensors, part, {**texts, SEAL: _seal(path.name, tensors, texts)})
                    part.replace(path)
                finally:
                    part.unlink(missing_ok=True)
        self._shrink()

    def spool(self, name: str, side: int, count: int) -> Spool | None:
        """Frames that an earlier run wrote; None if there are none."""
        path = self._path("frames", name)
        if not self._usable(path):
            return None
        spool = Spool.open(path, side, count, name)
        if spool is None:
            _remove(path)
        else:
            self._touch(path)
        return spool

    def new_spool(self, name: str, side: int, count: int) -> Spool:
        """A spool that `keep` makes part of the cache; one without a name if that cannot be, or if
        the cache would never keep it."""
        size = Spool.size(side, count)
        if size <= self.limit - self._unfinished():
            with suppress(OSError):
                spool = Spool(side, count, self._part("frames", name), name)
                if spool.failed is None:
                    self._shrink(size)
                    return spool
        return Spool(side, count)

    def keep(self, name: str, spool: Spool) -> None:
        """Give a complete spool its name; it can be read all the same if that fails."""
        if spool.path is None or not spool.complete:
            return
        with suppress(OSError):
            if spool.bytes <= self.limit:
                spool.path.replace(self._path("frames", name))
            # It stays readable through the open file.
            spool.path.unlink(missing_ok=True)
        self._shrink()

    def _usable(self, path: Path) -> bool:
        """Whether there is a regular file, no larger than any that is kept. Anything else under
        the name of an entry is removed: reading a pipe or a link could hang, or leave the folder.
        """
        try:
            status = path.lstat()
        except OSError:
            return False
        if stat.S_ISREG(status.st_mode) and status.st_size <= self.limit + LARGEST_HEADER:
            return True
        _remove(path)
        return False

    def _shrink(self, room: int = 0) -> None:
        """Delete what was used least recently until the rest, unfinished files and `room` for one
        more are within the limit."""
        for path in self._files(PART_SUFFIX):
            entry = _entry(path)
            if entry and entry.used < time.time() - ABANDONED_AFTER:
                with suppress(OSError):
                    path.unlink()
        total = room + self._unfinished()
        for entry in self.entries():
            total += entry.bytes
            if total > self.limit:
                with suppress(OSError):
                    entry.path.unlink()

    def _unfinished(self) -> int:
        """Bytes of files that are being written, by this process or another."""
        return sum(entry.bytes for path in self._files(PART_SUFFIX) if (entry := _entry(path)))

    def _files(self, suffix: str) -> Iterator[Path]:
        """Files that this class wrote, by their names: the folder may hold others' files too."""
        with suppress(OSError):
            for path in self.folder.glob(f"*{suffix}"):
                if OWN_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    yield path

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / f"{kind}-{name}{SUFFIX}"

    def _part(self, kind: str, name: str) -> Path:
        """A name of this process alone, in a folder that is there."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        # Frames of private videos are nobody else's business.
        self.folder.mkdir(mode=0o700, exist_ok=True)
        return self.folder / f"{kind}-{name}.{os.getpid()}-{time.monotonic_ns()}{PART_SUFFIX}"

    @staticmethod
    def _touch(path: Path) -> None:
        with suppress(OSError):
            os.utime(path)


def _seal(name: str, tensors: dict[str, Tensor], texts: dict[str, str]) -> str:
    digest = hashlib.sha256(repr((name, sorted(texts.items()))).encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(repr((key, tensor.dtype, list(tensor.shape))).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _remove(path: Path) -> None:
    """Delete what has the name of an entry and is none; what a link names stays."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _entry(path: Path) -> Entry | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return Entry(path, status.st_size, status.st_mtime)
