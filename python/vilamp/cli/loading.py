"""From settings to an open video and a loaded model: the slow imports happen here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilamp.cli.options import Settings
from vilamp.cli.output import note
from vilamp.cli.progress import ProgressBars
from vilamp.clock import clock
from vilamp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vilamp.cache import Cache
    from vilamp.model import ViLAMP
    from vilamp.video import FrameSource, Skipped

DEFAULT_MODEL = "default"
DEFAULT_MODEL_NOTE = (
    "the embedded default model was trained on drawn videos only; name another with --model"
)


def open_frames(video: str, settings: Settings) -> FrameSource:
    """The frames of the video that will be looked at; cheap, and tells a bad file early.

    Raises:
        VideoError: there is no such file, or no picture in it.
        InputError: an empty name, which would mean the working directory.
    """
    if not video.strip():
        raise InputError("VIDEO is empty: wanted a video file or a folder of images")
    from vilamp.video import open_video

    return open_video(
        video, fps=settings.fps, sampling=settings.sampling, max_frames=settings.max_frames
    )


def load_model(settings: Settings, bars: ProgressBars) -> ViLAMP:
    """The model on its device.

    Raises:
        InputError: the device is not there, or a backend of the ops that the environment names.
        CheckpointError: the model folder is not there, or incomplete.
    """
    # First of all: importing PyTorch and transformers takes seconds too.
    bars("load", 0, None)
    from vilamp.model import ViLAMP

    _try_kernels()
    model = ViLAMP.from_pretrained(
        settings.model,
        compat=settings.compat,
        dtype=settings.dtype,
        device=settings.device,
    )
    bars("load", 1, 1)
    return model


def _try_kernels() -> None:
    """Run the smallest op there is: a backend that cannot be had is told before any work."""
    import torch

    import vilamp_kernels as vk

    try:
        vk.fill_keyframes(torch.zeros(1, dtype=torch.bool, device="cpu"), 0)
    except ValueError as error:
        raise InputError(str(error)) from error


def open_cache(wanted: bool) -> Cache | None:
    """The user's cache, unless it was refused or there is no place for one."""
    from vilamp.cache import Cache

    try:
        return Cache() if wanted else None
    except InputError:
        return None


def say_notes(settings: Settings, skipped: Sequence[Skipped], notes: Sequence[str] = ()) -> None:
    """What should be known about a result, after it: broken frames, how the video was read, and
    what the model saw."""
    for line in notes:
        note(line)
    if skipped:
        time, reason, *_ = skipped[0]
        where = clock(time) if time is not None else "an unknown time"
        count = sum(place.count for place in skipped)
        note(f"{count} broken frame{'s' * (count != 1)} left out, first at {where}: {reason}")
    if settings.model == DEFAULT_MODEL:
        note(DEFAULT_MODEL_NOTE)
