"""Ways in which an entry of a cache does not fit any more, for the tests of it."""

from __future__ import annotations

import os
import shutil
import socket
import stat

import torch
from safetensors.torch import load_file, save_file
from vilamp.cache import Cache, key

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


def is_good(path):
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def changed(**tensors):
    return lambda old: old | {name: change(old[name]) for name, change in tensors.items()}


def with_nan(tensor):
    tensor = tensor.clone()
    tensor[2] = torch.nan
    return tensor
