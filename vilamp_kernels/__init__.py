"""Fast ops for keyframe selection and differential frame merging.

>>> import vilamp_kernels as vk
>>> scores = vk.similarity(frames, queries)                     # [Q, N]
>>> indices, count = vk.select_keyframes(frames, scores, k=32)  # [Q, K], [Q]

Importing this package starts no CUDA and imports no Triton.
"""

from .backends import Availability, available_backends, use_backend
from .ops.merger import StreamingMerger
from .ops.pooling import differential_pool
from .ops.preprocess import PixelTarget, preprocess_frames
from .ops.projected import Projection, projected_differential_pool
from .ops.selection import fill_keyframes, reference_frames, select_keyframes
from .ops.similarity import similarity

__version__ = "0.1.0"

__all__ = [
    "Availability",
    "PixelTarget",
    "Projection",
    "StreamingMerger",
    "available_backends",
    "differential_pool",
    "fill_keyframes",
    "preprocess_frames",
    "projected_differential_pool",
    "reference_frames",
    "select_keyframes",
    "similarity",
    "use_backend",
]
