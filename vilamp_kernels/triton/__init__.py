"""Triton kernels, for NVIDIA and AMD. Importing this package imports no Triton."""

from .availability import serves, status

__all__ = ["serves", "status"]
