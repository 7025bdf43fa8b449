"""What a report shows, apart from how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vilamp.clock import clock

if TYPE_CHECKING:
    from vilamp.session import Answer
    from vilamp.video import FrameSource


@dataclass(frozen=True)
class Exchange:
    """One question to the video and its answer."""

    answer: Answer
    """With illustrations: pictures of keyframes, and merged frames with their weights."""
    expected: str | None = None
    """The right answer where it is known, shown beside the one given."""


@dataclass(frozen=True)
class Report:
    """Questions asked of one video with one model under one group of settings."""

    video: str
    """Name to show for the video."""
    facts: Sequence[str]
    """Short remarks under the name, such as "10:00" and "h264"."""
    duration: float
    """Seconds; the length of the time axis."""
    exchanges: Sequence[Exchange]
    settings: dict[str, str] = field(default_factory=dict)
    """Name and value as they are printed."""

    @classmethod
    def of(
        cls, frames: FrameSource, exchanges: Sequence[Exchange], settings: dict[str, object]
    ) -> Report:
        """A report about frames of a video; settings that are None are left out."""
        info = frames.info
        times = exchanges[0].answer.selection.times
        return cls(
            video=video_name(frames),
            facts=video_facts(frames, len(times)),
            duration=info.duration or max(times, default=0.0),
            exchanges=exchanges,
            settings={name: str(value) for name, value in settings.items() if value is not None},
        )


def video_name(frames: FrameSource) -> str:
    """File or folder name of a video, without the way there."""
    return Path(frames.info.path).name if frames.info.path else "video"


def video_facts(frames: FrameSource, count: int) -> list[str]:
    """Length, size and codec of a video, and how many of its frames were looked at."""
    info = frames.info
    return [
        *([clock(info.duration)] if info.duration is not None else []),
        f"{info.width}×{info.height}",
        info.codec,
        f"{count:,} frame{'s' if count != 1 else ''}",
    ]
