"""What this machine has for running vilamp, and why the rest is missing.

`examine()` gathers plain values, `vilamp doctor` prints them. Every finding stands alone: a part
that cannot be looked at says why, and the others are reported all the same.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

PACKAGES = (
    "vilamp-kernels",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pillow",
    "av",
    "triton",
)
CPU_FLAGS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c"),
    *("avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16"),
    *("asimd", "sve", "bf16", "i8mm"),
)
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg2video", "mpeg4")
COMPILERS = ("c++", "g++", "clang++", "nvcc")


def examine() -> dict[str, object]:
    """All findings by section, as plain values that JSON can hold.

    Returns:
        `python`, `system`, `packages` (name -> version or None), `ffmpeg` libraries
        and decoders, `cpu`, `devices`, `backends` (name -> available, reason, ops), `owners`
        (device -> op -> backend), `compilers` (name -> its version, or None), `default_model`.
    """
    return {
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "system": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "ffmpeg": _or_reason(ffmpeg_libraries),
        "cpu": cpu(),
        "devices": _or_reason(devices),
        "backends": _or_reason(backends),
        "owners": _or_reason(owners),
        "compilers": {name: _compiler(name) for name in COMPILERS},
        "default_model": _or_reason(default_model),
    }


def cpu() -> dict[str, object]:
    """Model name, cores this process may use, and the vector instructions that matter here."""
    text = _read("/proc/cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags.group(1).split()) if flags else set()
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "name": name.group(1) if name else platform.processor() or platform.machine(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "features": [flag for flag in CPU_FLAGS if flag in present],
    }


def devices() -> list[dict[str, object]]:
    """Devices that PyTorch can compute on, with their memory in bytes where it is known."""
    import torch

    found = [{"device": "cpu", "name": "", "memory": None}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "device": f"cuda:{index}",
                "name": properties.name,
                "memory": properties.total_memory,
                "capability": f"{properties.major}.{properties.minor}",
            }
        )
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU", "memory": None})
    return found


def backends() -> dict[str, dict[str, object]]:
    """The backends of `vilamp_kernels`: whether each can run here, why (not), and for which ops."""
    import vilamp_kernels

    return {
        name: {"available": found.available, "reason": found.reason, "ops": list(found.ops)}
        for name, found in vilamp_kernels.available_backends().items()
    }


def owners() -> dict[str, dict[str, str]]:
    """By device, which backend runs each op there unless one is forced."""
    from vilamp_kernels.backends import owners

    return {found["device"]: owners(found["device"]) for found in devices()}


def ffmpeg_libraries() -> dict[str, object]:
    """Versions of the FFmpeg libraries inside PyAV, and the decoders among `CODECS` they have."""
    import av

    versions = {
        name: ".".join(str(part) for part in version)
        for name, version in sorted(av.library_versions.items())
    }
    return {
        "libraries": versions,
        "decoders": [codec for codec in CODECS if codec in av.codecs_available],
    }


def default_model() -> dict[str, object]:
    """Whether the embedded model is there, its path and the bytes of its files."""
    from vilamp import DEFAULT_MODEL

    files = [path for path in DEFAULT_MODEL.rglob("*") if path.is_file()]
    return {
        "present": (DEFAULT_MODEL / "config.json").is_file()
        and any(path.suffix == ".safetensors" for path in files),
        "path": str(DEFAULT_MODEL),
        "bytes": sum(path.stat().st_size for path in files),
    }


def _or_reason(look: Callable[[], object]) -> object:
    """What `look` finds, or why it could not look: a broken part must not silence the others."""
    try:
        return look()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _compiler(name: str) -> str | None:
    path = shutil.which(name)
    if path is None:
        return None
    try:
        shown = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path} does not run ({error})"
    # nvcc names its release on a later line; the first one is only a title.
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    return next((line for line in lines if "release" in line), lines[0] if lines else path)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
