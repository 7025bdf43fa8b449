"""What each instruction does. A function for each name prepares a statement once.

`@instruction("add")` marks a function that takes the kernel and the statement, and returns what
runs it: `run(m, L)` for the lanes `L` of the cohort `m`. Those marked with `@control` decide where
the lanes go on: `run(m, L, pc)` returns the next statement, or None after setting `m.pc[L]`.
"""

from . import (  # noqa: F401
    arithmetic,
    asynchronous,
    atomics,
    bits,
    choices,
    control,
    conversions,
    data,
    matrix,
    warp,
)
from .registry import prepare

__all__ = ["prepare"]
