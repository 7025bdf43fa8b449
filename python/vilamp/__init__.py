"""Ask questions of hours of video: ViLAMP (Cheng et al., ICML 2025) on small, fast ops.

>>> from vilamp import ViLAMP
>>> model = ViLAMP.from_pretrained("default")
>>> with model.session("demo/video.mp4") as session:
...     print(session.ask("In what place do you see the pink cross?").text)
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import CheckpointError, InputError, VideoError, ViLAMPError

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_MODEL",
    "Answer",
    "CheckpointError",
    "InputError",
    "SelectionResult",
    "ViLAMP",
    "ViLAMPConfig",
    "ViLAMPError",
    "VideoError",
    "VideoSession",
    "open_video",
]

# Found on first use: `vilamp --help` and a failing command line need no PyTorch.
_HOMES = {
    "DEFAULT_MODEL": "checkpoint",
    "Answer": "session",
    "SelectionResult": "session",
    "VideoSession": "session",
    "ViLAMP": "model",
    "ViLAMPConfig": "config",
    "open_video": "video",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
