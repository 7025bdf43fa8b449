"""Whether the CUDA kernels can run here, and who starts them."""

from __future__ import annotations

import functools
from types import ModuleType

import torch

from . import cupy_module, module
from .launch import has_runner

MINIMUM = (8, 0)
"""The first compute capability that has asynchronous copies."""


def status(device: torch.device | None = None) -> tuple[bool, str]:
    """Whether the kernels can run on a GPU (None: the current one), and why (or why not)."""
    if has_runner():
        return True, "executed on the CPU (for tests)"
    if torch.version.hip is not None:
        return False, "this PyTorch is for AMD GPUs"
    if not torch.cuda.is_available():
        return False, f"{_have()}; PyTorch sees no GPU"
    return _choice(_index(device))[1:]


def serves(device: torch.device) -> bool:
    """Whether the kernels are for tensors on such a device; `status` says whether they can run."""
    if has_runner():
        return device.type in ("cpu", "cuda")
    return device.type == "cuda" and torch.version.hip is None


def provider(device: torch.device) -> ModuleType:
    """What starts kernels on a device: the module of nvcc if it has code for it, else CuPy.

    Raises:
        RuntimeError: neither can, with the reason.
    """
    if device.type != "cuda":
        raise RuntimeError(f"CUDA kernels: given tensors on {device}")
    found, _, reason = _choice(_index(device))
    if found is None:
        raise RuntimeError(f"CUDA kernels: nothing can start them on {device}: {reason}")
    return found


def _index(device: torch.device | None) -> int:
    given = None if device is None else device.index
    return torch.cuda.current_device() if given is None else given


@functools.cache
def _choice(device: int) -> tuple[ModuleType | None, bool, str]:
    """Who starts kernels on a device, whether anyone does, and the reason."""
    capability, name = torch.cuda.get_device_capability(device), torch.cuda.get_device_name(device)
    chip = f"{name} (sm_{capability[0]}{capability[1]})"
    if capability < MINIMUM:
        return None, False, f"{chip} is older than sm_{MINIMUM[0]}{MINIMUM[1]}"
    built_for = module.architectures()
    if module.has_code_for(capability, built_for) and not module.no_devices():
        return module, True, f"module built by nvcc for {', '.join(built_for)}; {chip}"
    reason = f"{_have()}; {module.no_devices() or f'no code for {chip}'}"
    if (version := cupy_module.version()) is None:
        return None, False, reason
    if (complaint := cupy_module.complaint(device)) is not None:
        return None, False, f"{reason}; CuPy cannot be used: {complaint}"
    return cupy_module, True, f"compiled by NVRTC through CuPy {version}; {chip}"


def _have() -> str:
    """What there is on this machine, in a few words."""
    loaded, cupy = module.load(), cupy_module.version()
    if not isinstance(loaded, ImportError):
        built = f"built by nvcc for {', '.join(loaded.architectures())}"
    else:
        built = f"not built by nvcc ({loaded})"
    return f"{built}, CuPy {'is not installed' if cupy is None else cupy}"
