"""The `cpu` backend: launchers of the C++ kernels, one file per op.

The functions have the signatures of the registered ops (`_library.py`). Tensors are handed over as
addresses, sizes and strides; they are copied only where their last stride is not 1.
"""

from .module import (
    instruction_set,
    instruction_sets,
    status,
    stream_read,
    use_instruction_set,
)
from .pooling import differential_pool, differential_pool_backward
from .projected import projected_differential_pool
from .projected_backward import projected_differential_pool_backward
from .selection import fill_keyframes, reference_frames, select_keyframes
from .similarity import similarity, similarity_backward

__all__ = [
    "differential_pool",
    "differential_pool_backward",
    "fill_keyframes",
    "instruction_set",
    "instruction_sets",
    "projected_differential_pool",
    "projected_differential_pool_backward",
    "reference_frames",
    "select_keyframes",
    "similarity",
    "similarity_backward",
    "status",
    "stream_read",
    "use_instruction_set",
]
