"""Functions whose module is imported when they are first called."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable


def lazy(module: str, name: str) -> Callable:
    """`name` of `vilamp_kernels.<module>`, for modules that import what may not be installed."""

    @functools.cache
    def find() -> Callable:
        return getattr(importlib.import_module(f"vilamp_kernels.{module}"), name)

    def call(*args):
        return find()(*args)

    call.__name__ = name
    return call
