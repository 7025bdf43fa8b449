"""Two pictures of a study: how few frames and patches hold the attention, and where it lies."""

from __future__ import annotations

import io
from typing import Any

from .study import FRAMES_PART, PATCHES_PART, POINTS

_FRAMES, _PATCHES, _GREY = "#c2410c", "#2563eb", "#94a3b8"
_SHOWN = 12
"""Questions whose frames are drawn."""


def curves_picture(summary: dict[str, Any]) -> bytes:
    """PNG: attention held against the share of frames, and of the patches of a frame."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axis = figure.subplots()
    at = [0, *((i + 1) / POINTS for i in range(POINTS))]
    for name, part, colour in (
        ("frame", FRAMES_PART, _FRAMES),
        ("patch", PATCHES_PART, _PATCHES),
    ):
        curve = summary[f"{name}_curve"]
        if curve is None:
            continue
        label = "frames of a video" if name == "frame" else "patches of a frame"
        axis.plot(at, [0, *curve], color=colour, linewidth=2, label=label)
        axis.axhline(part, color=colour, linewidth=0.7, linestyle=(0, (4, 3)))
    axis.plot([0, 1], [0, 1], color=_GREY, linewidth=1, label="even attention")
    axis.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="share, most attended first")
    axis.set_ylabel("share of the question's attention to the video")
    _finish(axis)
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    return _png(figure)


def frames_picture(rows: list[dict[str, Any]]) -> bytes:
    """PNG: attention of each frame over time, one line of the picture per question."""
    from matplotlib.figure import Figure

    rows = rows[:_SHOWN]
    figure = Figure(figsize=(9, 1 + 0.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, row in zip(axes, rows, strict=True):
        axis.fill_between(row["times"], row["shares"], step="mid", color=_FRAMES, linewidth=0.6)
        even = 1 / len(row["shares"])
        axis.axhline(even, color=_GREY, linewidth=0.7)
        axis.set_ylim(bottom=0)
        axis.set_title(row["question"][:100], fontsize=8, loc="left", parse_math=False)
        axis.tick_params(labelsize=7)
        _finish(axis)
    axes[-1].set_xlabel("seconds", fontsize=8)
    figure.supylabel("share of the attention to the video", fontsize=8)
    return _png(figure)


def _finish(axis: Any) -> None:
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
