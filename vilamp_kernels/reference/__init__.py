"""The definition of every op in plain PyTorch: the truth for tests, the fallback on any device.

The functions have the signatures of the registered ops (`_library.py`), batch dimension included,
and run below autograd: gradients are written out as formulas beside each forward.
"""

from .numerics import product
from .pooling import differential_pool, differential_pool_backward
from .preprocess import preprocess_frames
from .projected import projected_differential_pool, projected_differential_pool_backward
from .selection import fill_keyframes, reference_frames, select_keyframes
from .similarity import similarity, similarity_backward

__all__ = [
    "differential_pool",
    "differential_pool_backward",
    "fill_keyframes",
    "preprocess_frames",
    "product",
    "projected_differential_pool",
    "projected_differential_pool_backward",
    "reference_frames",
    "select_keyframes",
    "similarity",
    "similarity_backward",
]
