"""What Triton compiles for a number of frames: `python -m ptx.triton_keys bf16 16 17 ...`.

Prints a JSON object: for each kernel, case and number of frames the keys under which Triton keeps
what it compiled. Nothing is compiled. It needs a process of its own, as `triton_worker` does.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import Any

from torch import Tensor
from triton.compiler import make_backend

from bench.gpu import shapes

from .triton_worker import Pointer, gpu_target, specialised


def address(value: Any) -> Any:
    """A tensor on meta has no address: allocations are aligned, so its offset there stands in."""
    if not isinstance(value, Tensor):
        return value
    offset = value.storage_offset() * value.element_size()
    return Pointer(str(value.dtype).removeprefix("torch."), offset)


def keys(dtype: str, frames: int) -> dict[str, list[str]]:
    """By kernel and case, the keys of all launches over that many frames, sorted."""
    backend = make_backend(gpu_target(80))
    found = defaultdict(set)
    for launch in shapes.triton_launches(dtype, frames=frames, pooled=frames):
        args = [address(a) for a in launch.args]
        options = {"debug": False} | launch.options
        bound, special, rest = specialised(backend, launch.kernel, args, options)
        key = f"{dict(zip(bound, special, strict=True))} {rest}"
        found[f"{launch.kernel.__name__}, {launch.case}"].add(key)
    return {name: sorted(several) for name, several in found.items()}


if __name__ == "__main__":
    dtype, *lengths = sys.argv[1:]
    print(json.dumps([keys(dtype, int(n)) for n in lengths]))
