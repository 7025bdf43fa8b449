"""Hand-written CUDA kernels, through the module built by nvcc or through CuPy."""

from .availability import serves, status

__all__ = ["serves", "status"]
