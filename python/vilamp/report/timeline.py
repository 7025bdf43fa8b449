"""Relevance over time: a curve in SVG, the keyframes on it, and a word for each moment on hover.

The picture is stretched to the width of the page (`preserveAspectRatio="none"`), which would squash
text and dots; those are HTML, placed over it in per cent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from vilamp.clock import clock

if TYPE_CHECKING:
    from vilamp.session import Keyframe, SelectionResult

WIDTH, HEIGHT = 1000, 200
COLUMNS = 500
"""Most points of the curve; longer videos show the range within each column."""
HOVERS = 200
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 36000)
"""Distances between two labels of the time axis, in seconds."""


def timeline(selection: SelectionResult, duration: float, anchor: str) -> str:
    """The timeline of one question as HTML.

    Args:
        selection: scores and times of all frames, and the keyframes.
        duration: seconds; the right end of the axis.
        anchor: keyframe number i links to `#{anchor}-{i}`.
    """
    points = [
        (time, score)
        for time, score in zip(selection.times, selection.scores, strict=True)
        if math.isfinite(score)
    ]
    if not points:
        return '<p class="quiet">No frame has a score.</p>'
    scale = _Scale(points, duration)
    return (
        '<div class="timeline">'
        f'<div class="levels"><span>{scale.high:.2f}</span><span>{scale.low:.2f}</span></div>'
        '<div class="plot">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        'aria-label="Relevance of each moment to the question">'
        f"{_curve(points, scale)}{_stems(selection.keyframes, scale)}{_hovers(points, scale)}"
        f"</svg>{_dots(selection.keyframes, scale, anchor)}</div>"
        f'<div class="hours">{_labels(scale)}</div></div>'
    )


class _Scale:
    """From seconds and scores to the box of the picture."""

    def __init__(self, points: Sequence[tuple[float, float]], duration: float) -> None:
        scores = [score for _, score in points]
        margin = max(0.05 * (max(scores) - min(scores)), 1e-3)
        self.low, self.high = min(scores) - margin, max(scores) + margin
        self.seconds = max(duration, points[-1][0], 1e-3)

    def x(self, time: float) -> float:
        return WIDTH * min(max(time / self.seconds, 0.0), 1.0)

    def y(self, score: float) -> float:
        return HEIGHT * (1 - (score - self.low) / (self.high - self.low))


def _columns(
    points: Sequence[tuple[float, float]], most: int
) -> list[Sequence[tuple[float, float]]]:
    """The points in at most `most` groups of equal size, in time order."""
    size = max(1, math.ceil(len(points) / most))
    return [points[start : start + size] for start in range(0, len(points), size)]


def _curve(points: Sequence[tuple[float, float]], scale: _Scale) -> str:
    columns = _columns(points, COLUMNS)
    middle = [(column[len(column) // 2][0], column) for column in columns]
    # A peak must survive the thinning: the line follows the best frame of each column.
    tops = [(scale.x(t), scale.y(max(s for _, s in column))) for t, column in middle]
    lows = [(scale.x(t), scale.y(min(s for _, s in column))) for t, column in middle]
    line = _path(tops)
    first, last = tops[0][0], tops[-1][0]
    area = f"{line}L{last:.1f} {HEIGHT}L{first:.1f} {HEIGHT}Z"
    shapes = f'<path class="area" d="{area}"/>'
    if len(points) > len(columns):
        shapes += f'<path class="band" d="{line}{_path(lows[::-1]).replace("M", "L", 1)}Z"/>'
    return f'{shapes}<path class="line" d="{line}"/>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _stems(keyframes: Sequence[Keyframe], scale: _Scale) -> str:
    return "".join(
        f'<path class="stem" d="M{scale.x(k.time):.1f} {HEIGHT}V{_top(k, scale):.1f}"/>'
        for k in keyframes
    )


def _top(keyframe: Keyframe, scale: _Scale) -> float:
    return scale.y(keyframe.score if math.isfinite(keyframe.score) else scale.high)


def _hovers(points: Sequence[tuple[float, float]], scale: _Scale) -> str:
    columns = _columns(points, HOVERS)
    edges = [scale.x(column[0][0]) for column in columns] + [float(WIDTH)]
    return "".join(
        f'<rect class="moment" x="{left:.1f}" y="0" width="{max(right - left, 0.5):.1f}" '
        f'height="{HEIGHT}"><title>{_moment(column)}</title></rect>'
        for column, left, right in zip(columns, edges, edges[1:], strict=False)
    )


def _moment(column: Sequence[tuple[float, float]]) -> str:
    time, score = max(column, key=lambda point: point[1])
    return f"{clock(time)} · relevance {score:.3f}"


def _dots(keyframes: Sequence[Keyframe], scale: _Scale, anchor: str) -> str:
    return "".join(
        f'<a class="dot {escape(k.chosen)}" href="#{anchor}-{number}" '
        f'style="left:{scale.x(k.time) / WIDTH:.2%};top:{_top(k, scale) / HEIGHT:.2%}" '
        f'title="Keyframe at {clock(k.time)} · relevance {k.score:.3f}'
        f'{" · fills the budget" if k.chosen == "fill" else ""}"></a>'
        for number, k in enumerate(keyframes)
    )


def _labels(scale: _Scale) -> str:
    step = next((s for s in STEPS if scale.seconds / s <= 8), STEPS[-1])
    return "".join(
        f'<span style="left:{scale.x(time) / WIDTH:.2%}">{clock(time)}</span>'
        # A label at the very end would stick out of the page.
        for time in range(0, math.floor(scale.seconds * 0.97) + 1, step)
    )
