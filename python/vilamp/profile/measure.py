"""One answer about a video of so many frames, run and measured in this process.

Peaks of a process do not mix with those of another number of frames only where each has a process
of its own: `vilamp.profile.fresh` sees to that.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from ..inputs import device_of, dtype_of
from ..model import ViLAMP
from ..session import SPOOL_BYTES
from ..video import FrameSource, open_video
from . import allocations
from .full_size import published_config
from .looped import LoopedFrames
from .peaks import CudaPeaks, ResidentPeaks
from .phases import CALLER_PHASES, PhaseClock
from .random_weights import random_model
from .watching import WatchedSource, watched

if TYPE_CHECKING:
    from ..session import Answer

QUESTION = "In what place do you see the pink cross?"
"""What is asked; as long as the questions of `vilamp.drawn`."""

Progress = Callable[[str, int, "int | None"], None]


@dataclass(frozen=True)
class Request:
    """What is to be run, apart from the number of frames."""

    video: str = "drawn"
    """What it is called; the video itself is cut or looped to the number of frames."""
    model: str = "default"
    """Folder, hub id or `"default"`; not used with random weights."""
    random_weights: str | None = None
    """`"7b"`: the published sizes without a checkpoint."""
    device: str | None = None
    dtype: str | None = None
    fps: float = 1.0
    keyframes: int | None = None
    batch: int = 16
    prefill_chunk: int = 1024
    new_tokens: int = 64
    """Longest answer; a model with trained weights may end it before."""
    spool: int = SPOOL_BYTES
    allocations: bool = False
    """On a CPU, follow torch's allocations too."""


@dataclass
class Measurement:
    """What one run took. Bytes, and seconds by the clock."""

    frames: int
    hardware: str
    """Name of the GPU, or of the processor with the threads that torch uses."""
    device: str
    dtype: str
    tokens: int
    """Of the prompt, the video's included."""
    keyframes: int
    new_tokens: int
    """That were made."""
    weights: int
    """Of all weights and tables."""
    before: int
    """Resident before the model was loaded: Python and its libraries."""
    load: float
    """Seconds to load the model, or to make its random weights."""
    wall: float
    """From the first frame to the last token."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase of `vilamp.profile.phases`, inside its calls."""
    peaks: dict[str, dict[str, int]] = field(default_factory=dict)
    """By kind (`resident`, `allocated`, `reserved`), then by phase."""

    def peak(self, kind: str) -> int | None:
        """The greatest of all phases."""
        return max(self.peaks.get(kind, {}).values(), default=None)


@torch.no_grad()
def measure(
    request: Request, video: str | Path, frames: int, progress: Progress | None = None
) -> Measurement:
    """Run one answer, with the timers on.

    Args:
        request: how.
        video: a file or folder that `vilamp.video.open_video` takes.
        frames: as many of its frames, from the beginning again where it is shorter.
        progress: called as `progress(phase, done, total)`.

    On a GPU one batch of frames is answered first, so that no kernel is compiled by the clock.

    Raises:
        CheckpointError, InputError, VideoError: the model or the video cannot be used.
    """
    progress = progress or (lambda phase, done, total: None)
    with closing(ResidentPeaks()) as resident:
        source = open_video(video, fps=request.fps)
        before = resident.now()
        start = perf_counter()
        progress("load", 0, None)
        model = _load(request)
        loaded = perf_counter() - start
        on_gpu = model.device.type == "cuda"
        if on_gpu:
            count = min(request.batch, frames)
            _ask(request, model, LoopedFrames(source, count, request.fps), new_tokens=2)
            torch.cuda.empty_cache()
        weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
        follow = request.allocations and not on_gpu
        clock = clock_for(model.device, resident, follow)
        watched_video = WatchedSource(LoopedFrames(source, frames, request.fps), clock)
        made: dict[str, int] = {}
        with (
            watched(model, clock, prefill_chunk=request.prefill_chunk),
            allocations.allocated(made, weights) if follow else nullcontext(),
            clock.running(),
        ):
            answer = _ask(
                request,
                model,
                watched_video,
                new_tokens=request.new_tokens,
                progress=progress,
            )
    if follow:
        clock.peaks["allocated"] = {p: made.get(p, 0) for p in CALLER_PHASES if p in made}
    return Measurement(
        frames=frames,
        hardware=hardware(model.device),
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        tokens=answer.prompt_tokens,
        keyframes=len(answer.selection.keyframes),
        new_tokens=answer.new_tokens,
        weights=weights,
        before=before,
        load=loaded,
        wall=clock.wall,
        seconds=dict(clock.seconds),
        peaks=clock.peaks,
    )


def clock_for(
    device: torch.device,
    resident: ResidentPeaks,
    follow: bool = False,
    cuda: ModuleType | Any = torch.cuda,
) -> PhaseClock:
    """A clock that waits for the device and reads what there is of memory counters.

    Args:
        follow: mark the phases among the events of `vilamp.profile.allocations`.
        cuda: `torch.cuda`.
    """
    if device.type == "cuda":
        counters = _Both(CudaPeaks(device, cuda), resident)
        return PhaseClock(counters, lambda: cuda.synchronize(device))
    return PhaseClock(resident, mark=allocations.mark if follow else lambda phase: None)


def hardware(device: torch.device) -> str:
    """What a figure was measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _load(request: Request) -> ViLAMP:
    if request.random_weights is None:
        return ViLAMP.from_pretrained(request.model, dtype=request.dtype, device=request.device)
    dtype = dtype_of(request.dtype, torch.bfloat16)
    return random_model(published_config(), dtype, device_of(request.device))


def _ask(
    request: Request,
    model: ViLAMP,
    video: FrameSource,
    *,
    new_tokens: int,
    progress: Progress | None = None,
) -> Answer:
    session = model.session(
        video,
        keyframes=request.keyframes,
        batch=request.batch,
        spool=request.spool,
        progress=progress,
    )
    return session.ask(QUESTION, max_new_tokens=new_tokens)


class _Both:
    """Two ways of looking at memory."""

    def __init__(self, *counters: CudaPeaks | ResidentPeaks):
        self._counters = counters

    def take(self) -> dict[str, int]:
        return {kind: n for counter in self._counters for kind, n in counter.take().items()}


def _processor() -> str:
    """Its name where the system tells, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()
