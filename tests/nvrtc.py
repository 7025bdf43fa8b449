"""NVRTC through ctypes: compiles CUDA source without a GPU, as CuPy does with one."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import site
import sys
from functools import cache
from pathlib import Path


@cache
def library() -> ctypes.CDLL | None:
    """libnvrtc: of the pip wheel, of the CUDA toolkit, or known to the linker; None without one."""
    folders = [*map(Path, site.getsitepackages()), *(Path(p) for p in sys.path if p)]
    found = [lib for folder in folders for lib in folder.glob("nvidia/*/lib/libnvrtc.so.*")]
    for root in (os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if root:
            found += Path(root).glob("lib64/libnvrtc.so*")
    names = [str(path) for path in found if "builtins" not in path.name]
    if known := ctypes.util.find_library("nvrtc"):
        names.append(known)
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def compile_to_ptx(source: str, options: tuple[str, ...]) -> str:
    """PTX of a source; ValueError with NVRTC's log if it does not compile."""
    nvrtc, program = library(), ctypes.c_void_p()
    status = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"source.cu", 0, None, None
    )
    assert status == 0, status
    given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = nvrtc.nvrtcCompileProgram(program, len(options), given)
    get = ("ProgramLog", "ProgramLogSize") if status else ("PTX", "PTXSize")
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{get[1]}")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{get[0]}")(program, text)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if status:
        raise ValueError(text.value.decode())
    return text.value.decode()
