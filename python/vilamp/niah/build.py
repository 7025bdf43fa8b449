"""Cases of a grid from one of three kinds of sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from .cases import Cases, write_cases
from .drawn import HAYSTACKS, NEEDLE_SECONDS, QUESTIONS, SOURCE, draw_sources
from .own import SOURCE as OWN
from .own import read_own
from .planning import Grid, plan
from .playlist import Opened
from .render import render_cases
from .video_mme import SOURCE as VIDEO_MME
from .video_mme import read_video_mme

Progress = Callable[[str, int, "int | None"], None]


def build_cases(
    folder: Path,
    grid: Grid,
    *,
    questions: Path | None = None,
    video_mme: Path | None = None,
    videos: Path | None = None,
    haystacks: int = HAYSTACKS,
    per_needle: int = QUESTIONS,
    needle_seconds: tuple[float, float] = NEEDLE_SECONDS,
    seed: int = 0,
    mp4: bool = False,
    progress: Progress | None = None,
) -> Cases:
    """Make `folder/cases.jsonl`; a build that was stopped goes on with the files it had made.

    Args:
        folder: of the cases; made when it is not there.
        grid: lengths, depths and needles.
        questions: JSON file of one's own, see `own`; drawn sources without it and `video_mme`.
        video_mme: folder of Video-MME, see `video_mme`.
        videos: folder of the videos; that of the questions when None.
        haystacks: for each length.
        per_needle: questions about each needle, at most; exactly, where they are drawn.
        needle_seconds: shortest and longest needle.
        seed: of what is drawn.
        mp4: also write one real file of each case.
        progress: called as `progress(phase, done, total)`, phases `draw` and `render`.
    Raises:
        InputError: impossible numbers, a file that is not as it should be, or no room.
        VideoError: a video cannot be read.
    """
    report = progress or (lambda phase, done, total: None)
    if questions is not None and video_mme is not None:
        raise InputError("questions of one's own and Video-MME: wanted one of the two")
    if videos is not None and not videos.is_dir():
        raise InputError(f"--videos: no such folder: {videos}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error})") from error
    shared = {"haystacks": haystacks, "per_needle": per_needle, "needle_seconds": needle_seconds}
    opened = Opened(grid.fps)
    if questions is not None:
        source, root = OWN, videos or questions.parent
        needles, stacks = read_own(questions, root, grid, opened=opened, **shared)
    elif video_mme is not None:
        source, root = VIDEO_MME, videos or video_mme
        needles, stacks = read_video_mme(video_mme, root, grid, opened=opened, **shared)
    else:
        source, root = SOURCE, folder
        needles, stacks = draw_sources(
            folder,
            grid,
            haystacks=haystacks,
            questions=per_needle,
            needle_seconds=needle_seconds,
            seed=seed,
            progress=report,
        )
    cases = Cases(folder, root, grid.fps, source, tuple(plan(grid, needles, stacks)))
    if mp4:
        cases = render_cases(cases, report)
    write_cases(cases)
    return cases
