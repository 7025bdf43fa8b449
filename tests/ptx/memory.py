"""CPU tensors and arrays as global memory."""

from __future__ import annotations

import ctypes

import numpy as np
from torch import Tensor


def as_array(storage) -> np.ndarray:
    """The bytes of a storage, in place."""
    n = storage.nbytes()
    if n == 0:
        return np.zeros(0, np.uint8)
    return np.frombuffer((ctypes.c_uint8 * n).from_address(storage.data_ptr()), np.uint8)


def mapped_address(tensor: Tensor) -> int:
    """Where a tensor begins, counted from its storage, which is mapped at a multiple of 256."""
    return tensor.storage_offset() * tensor.element_size()


def placed(args):
    """Buffers of the arguments, each once, and by position: which buffer, and the offset in it."""
    stored, seen, places = [], {}, {}
    for position, a in enumerate(args):
        if isinstance(a, Tensor):
            storage = a.untyped_storage()
            key = (storage.data_ptr(), storage.nbytes()) if storage.nbytes() else id(storage)
            if key not in seen:
                seen[key] = len(stored)
                stored.append(as_array(storage))
            places[position] = (seen[key], mapped_address(a))
        elif isinstance(a, np.ndarray):
            if id(a) not in seen:
                seen[id(a)] = len(stored)
                stored.append(a.reshape(-1).view(np.uint8))
            places[position] = (seen[id(a)], 0)
    return stored, places
