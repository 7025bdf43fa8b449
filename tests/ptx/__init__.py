"""An interpreter of compiled PTX: runs the project's GPU kernels on CPU tensors, without a GPU."""

from .errors import PtxError
from .machine import Module
from .stats import Stats
from .use import ptx_cuda, ptx_triton

__all__ = ["Module", "PtxError", "Stats", "ptx_cuda", "ptx_triton"]
