"""A process that compiles Triton kernels for a GPU that is not there, and answers with their PTX.

Triton decides when a kernel is defined whether it is interpreted or compiled. The tests interpret,
so compiling needs a process of its own. It reads one JSON object a line and writes one a line:
what a kernel is called, how it is launched; the PTX, and how to start it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import traceback
from typing import Any

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature


class Pointer:
    """Stands for a tensor: all that Triton asks of one is its dtype and its address."""

    def __init__(self, dtype: str, address: int) -> None:
        self.dtype, self._address = getattr(torch, dtype), address

    def data_ptr(self) -> int:
        return self._address


def find(module: str, file: str, name: str) -> JITFunction:
    """The kernel `name` of a module, by the module's name, or else by its file."""
    importlib.invalidate_caches()  # the tests write modules while this process runs
    try:
        found = importlib.import_module(module)
    except ImportError:
        found = None
    if found is None or not hasattr(found, name):
        spec = importlib.util.spec_from_file_location(f"ptx_{os.path.basename(file)[:-3]}", file)
        found = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = found
        spec.loader.exec_module(found)
    kernel = getattr(found, name)
    if not isinstance(kernel, JITFunction):
        raise TypeError(f"{module}.{name} is no @triton.jit function")
    return kernel


def argument(value: Any) -> Any:
    """The inverse of `triton_runner.described`."""
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return Pointer(value["tensor"], value["address"])
    if "dtype" in value:
        return tl.dtype(value["dtype"])
    return find(**value["function"])


def gpu_target(name: int | str) -> GPUTarget:
    """80 for sm_80, "gfx942" for an AMD GPU."""
    return GPUTarget("hip", name, 64) if isinstance(name, str) else GPUTarget("cuda", name, 32)


def specialised(backend: Any, kernel: JITFunction, args: list, options: dict) -> tuple:
    """Arguments and options as a launch would bind them: by name, what each is specialised on, and
    the options that are none of the kernel's parameters."""
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    return bind(*args, **options)


def compiled(request: dict[str, Any]) -> dict[str, Any]:
    """PTX of one kernel, specialised on its arguments just as a launch would do."""
    kernel = find(**request["kernel"])
    target = gpu_target(request["target"])
    backend = make_backend(target)
    args = [argument(a) for a in request["args"]]
    options = {"debug": False} | {k: argument(v) for k, v in request["options"].items()}
    bound, special, rest = specialised(backend, kernel, args, options)
    parsed, signature, constants, attributes = kernel._pack_args(
        backend, options, bound, special, rest
    )
    source = ASTSource(kernel, signature, constants, attributes)
    result = triton.compile(source, target=target, options=parsed.__dict__)
    kinds = list(signature.values())
    return {
        "ptx": result.asm["ptx" if target.backend == "cuda" else "amdgcn"],
        "entry": result.metadata.name,
        "shared": result.metadata.shared,
        "num_warps": result.metadata.num_warps,
        # Arguments known when compiling (None, 1, constants) are no parameters of the PTX.
        "passed": [i for i in range(len(args)) if kinds[i] != "constexpr"],
    }


def main() -> None:
    # Whatever a kernel's module prints must not end up among the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            answer = compiled(json.loads(line))
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
