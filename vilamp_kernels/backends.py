"""Which implementation of an op runs: the backends, what is available, and how to force one.

One kernel per op is registered with the dispatcher; at each call it picks an implementation here,
by the device of the tensors or by what was forced. The choice is made below torch.compile, so a
compiled program follows it too.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import cpu, cuda, triton
from ._checks import autocast_on, no_autocast
from ._library import lib

log = logging.getLogger("vilamp_kernels")

ENVIRONMENT = "VILAMP_KERNELS_BACKEND"
NAMES = ("reference", "cpu", "triton", "cuda")

_PACKAGES = {"triton": triton, "cuda": cuda}
_PREFERRED = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}
"""By type of device, the backends in the order in which they are tried."""

_RUNS = {"reference": "plain PyTorch", "cpu": "the C++ module", "triton": "Triton", "cuda": "CUDA"}

IMPLS: dict[str, dict[str, Callable]] = {}
"""Op -> backend -> implementation. Backward ops are listed like any other."""

_forced: str | None = None
_said: set[str] = set()


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here, why (or why not), and the public ops that it has."""

    available: bool
    reason: str
    ops: tuple[str, ...]


def register(op: str, **impls: Callable) -> None:
    """Give `op` its implementations, by backend name, and register it with the dispatcher."""
    IMPLS[op] = impls

    def kernel(*args):
        first = next(arg for arg in args if isinstance(arg, Tensor))
        device = first.device
        impl = _choose(op, device, first.dtype)
        # Autocast is still on down here and would round the products of an implementation.
        if autocast_on(device):
            with no_autocast(device):
                return impl(*args)
        return impl(*args)

    lib.impl(op, kernel, "CompositeExplicitAutograd")


def available_backends() -> dict[str, Availability]:
    """All backends by name, each with its availability and the reason for it."""
    found = {}
    for name in NAMES:
        ops = tuple(op for op, impls in IMPLS.items() if name in impls and _is_public(op))
        found[name] = Availability(*_status(name), ops)
    return found


def owners(device: torch.device | str) -> dict[str, str]:
    """For each public op the backend that runs it for fp32 tensors on `device`, unless one is
    forced: on a GPU `cuda` where it has the op and can be used, else `triton`; on a CPU `cpu`."""
    device = torch.device(device)
    return {op: _owner(op, device, torch.float32)[0] for op in IMPLS if _is_public(op)}


class use_backend:
    """Force one backend for all ops: `use_backend("cpu")` from here on, or as a `with` block.

    Args:
        name: one of `reference`, `cpu`, `triton`, `cuda`; None returns to the automatic choice.
    Raises:
        ValueError: the name is unknown, or the backend is not available here (with the reason).

    An op that the forced backend does not have, or tensors on a device that it does not serve,
    raise ValueError when the op is called; a gradient that it does not have runs as if unforced.
    The setting holds for the whole process, all threads.
    It takes precedence over the environment variable VILAMP_KERNELS_BACKEND.
    """

    def __init__(self, name: str | None) -> None:
        global _forced
        if name is not None:
            _require_available(name, "use_backend")
        self._before = _forced
        _forced = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        global _forced
        _forced = self._before


def _is_public(op: str) -> bool:
    return not op.startswith("_") and not op.endswith("_backward")


def _status(name: str, device: torch.device | None = None) -> tuple[bool, str]:
    """Whether a backend can run, on this device if one is named, and why (or why not)."""
    if name == "reference":
        return True, "plain PyTorch, any device"
    if name == "cpu":
        return cpu.status()
    return _PACKAGES[name].status(device)


def _require_available(name: str, asked_by: str) -> None:
    if name not in NAMES:
        raise ValueError(f"{asked_by}: wanted one of {', '.join(NAMES)}; given {name!r}")
    available, reason = _status(name)
    if not available:
        raise ValueError(f"{asked_by}: backend {name!r} is not available: {reason}")


def _choose(op: str, device: torch.device, dtype: torch.dtype) -> Callable:
    impls = IMPLS[op]
    forced = _forced
    if forced is None:
        forced = os.environ.get(ENVIRONMENT) or None
        if forced is not None:
            _require_available(forced, ENVIRONMENT)
    if forced is not None and forced not in impls and op.endswith("_backward"):
        # Gradients have kernels of their own; where the forced backend has none, the owner's do.
        forced = None
    if forced is not None:
        if forced not in impls:
            raise ValueError(f"{op}: backend {forced!r} was forced; it has {', '.join(impls)}")
        if not _serves(forced, device, dtype):
            kind = str(dtype).removeprefix("torch.")
            raise ValueError(
                f"{op}: backend {forced!r} was forced; given {kind} tensors on {device}"
            )
        name = forced
    else:
        name = _automatic(op, device, dtype)
    _say_once(f"{op} on {device.type}: {name} backend ({'forced' if forced else 'automatic'})")
    return impls[name]


def _serves(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    if name == "reference":
        return True
    if name == "cpu":
        return device.type == "cpu"
    # fp64 is for checking results: GPUs for inference hardly have it.
    return dtype != torch.float64 and _PACKAGES[name].serves(device)


def _automatic(op: str, device: torch.device, dtype: torch.dtype) -> str:
    """The owner of an op; says once what could not be used instead of it, and why."""
    name, passed_over = _owner(op, device, dtype)
    for other, reason in passed_over.items():
        what = "the C++ module" if other == "cpu" else f"backend {other!r}"
        line = f"vilamp_kernels: {what} cannot be used, {_RUNS[name]} runs: {reason}"
        # Plain PyTorch is slower by far; between two kernels there is nothing to warn of.
        (_warn_once if name == "reference" else _say_once)(line)
    return name


def _owner(op: str, device: torch.device, dtype: torch.dtype) -> tuple[str, dict[str, str]]:
    """The first of the device's backends that has the op and can run, or else the reference; and,
    for those before it that have the op but cannot run, why."""
    passed_over = {}
    for name in _PREFERRED.get(device.type, ()):
        if name not in IMPLS[op] or not _serves(name, device, dtype):
            continue
        available, reason = _status(name, device)
        if available:
            return name, passed_over
        passed_over[name] = reason
    return "reference", passed_over


def _warn_once(warning: str) -> None:
    if warning not in _said:
        _said.add(warning)
        warnings.warn(warning, RuntimeWarning, stacklevel=3)


def _say_once(line: str) -> None:
    if line not in _said:
        _said.add(line)
        log.info(line)
