"""The threads of torch, for the C++ module.

torch's threads wait for their next product in a loop, for some milliseconds. New threads beside
them would have to share a core with that: a kernel between two products then takes several times as
long. So the module asks torch's own OpenMP library for threads, through the entry point that GCC's,
Intel's and LLVM's libraries have in common.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch

NAMES = ("libgomp.so.1", "libiomp5.so", "libomp.so", "libomp.dylib", "libiomp5.dylib")


def torch_openmp() -> int:
    """Address of `GOMP_parallel` in the OpenMP library that torch has loaded; 0 if not found."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return 0
    folder = Path(torch.__file__).parent / "lib"
    # Other packages bring OpenMP libraries too: torch's own folder comes first.
    for library in (*(str(folder / name) for name in NAMES), *NAMES):
        try:
            loaded = ctypes.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            return ctypes.cast(loaded.GOMP_parallel, ctypes.c_void_p).value or 0
        except (OSError, AttributeError):
            continue
    return 0
