"""Small videos and cases for the tests of `vilamp niah`."""

import numpy as np
from vilamp.drawn import write_video
from vilamp.niah.cases import AskedQuestion, Cases, Needle, read_cases, write_cases
from vilamp.niah.drawn import draw_sources
from vilamp.niah.planning import Grid, plan

STEP = 4
"""Levels of brightness between the seconds of a video."""
GRID = Grid(lengths=(60, 90), depths=(0.0, 0.5, 1.0), needles=1)


def numbered_video(path, seconds, base, fps=2, size=(32, 24)):
    """A video whose brightness says `base` + the second: readable after encoding."""
    width, height = size
    frames = (
        np.full((height, width, 3), min(255, base + STEP * (k // fps)), np.uint8)
        for k in range(round(seconds * fps))
    )
    write_video(path, frames, fps)
    return path


def small_cases(folder, grid=GRID, haystacks=2):
    """Drawn cases of a minute or so in `folder`."""
    needles, stacks = draw_sources(
        folder, grid, haystacks=haystacks, needle_seconds=(15, 25), seed=3
    )
    write_cases(Cases(folder, folder, grid.fps, "drawn needle", tuple(plan(grid, needles, stacks))))
    return read_cases(folder)


def needle(name, seconds, path="needle.mp4", questions=1):
    asked = tuple(
        AskedQuestion(f"q{n}", f"what {n}?", "answer", "all", "all") for n in range(questions)
    )
    return Needle(name, path, 0.0, seconds, asked)


__all__ = ["GRID", "STEP", "needle", "numbered_video", "small_cases"]
