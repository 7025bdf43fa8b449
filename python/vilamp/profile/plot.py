"""Two pictures of a profile: memory and compute against frames."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from ..errors import InputError
from .rows import LIMITS, OURS, Row

PICTURES = ("memory", "compute")
GB, TOP = 10**9, 100
"""Of the memory axis: a card of 80 GB is near its end."""
_OURS, _MARK, _LIMIT = "#c2410c", "#1e293b", "#dc2626"
_OTHERS = ("#7c3aed", "#0891b2", "#65a30d", "#ca8a04", "#2563eb", "#db2777", "#64748b")


def require_matplotlib(option: str) -> None:
    """
    Raises:
        InputError: it is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError(f'{option}: needs matplotlib: pip install "vilamp-kernels[plot]"')


def pictures(rows: list[Row]) -> dict[str, bytes]:
    """PNG files by name, of `PICTURES`."""
    return {
        "memory": _memory([row for row in rows if row.kind != "reported"], rows),
        "compute": _compute([row for row in rows if row.flops is not None]),
    }


def _memory(lines: list[Row], rows: list[Row]) -> bytes:
    def limits(axis) -> None:
        axis.set_ylim(0, TOP)
        for limit in LIMITS:
            axis.axhline(limit, color=_LIMIT, linewidth=0.8, linestyle=(0, (4, 3)))
            text = {"xy": (1, limit), "xycoords": ("axes fraction", "data"), "va": "bottom"}
            axis.annotate(f"OOM at {limit} GB", **text, ha="right", color=_LIMIT, fontsize=8)
        marks = [row for row in rows if row.kind == "reported"]
        if marks:
            axis.plot(
                [row.frames for row in marks],
                [row.peak / GB for row in marks],
                linestyle="none",
                marker="D",
                markersize=5,
                color=_MARK,
                label=f"{marks[0].architecture} by the paper",
            )

    return _draw(lines, lambda row: row.peak / GB, "peak memory, GB", limits)


def _compute(lines: list[Row]) -> bytes:
    label = "PFLOP for one question, 2 per multiply-add"
    return _draw(lines, lambda row: row.flops / 1e15, label, lambda axis: axis.set_yscale("log"))


def _draw(
    rows: list[Row],
    value: Callable[[Row], float],
    label: str,
    finish: Callable[[Any], None],
) -> bytes:
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axis = figure.subplots()
    colours = iter(_OTHERS * 2)
    for name in dict.fromkeys(row.architecture for row in rows):
        line = [row for row in rows if row.architecture == name and value(row) > 0]
        frames, values = [row.frames for row in line], [value(row) for row in line]
        ours = name == OURS
        style = {"color": _OURS if ours else next(colours), "linewidth": 2.4 if ours else 1.4}
        if ours:
            # The points are simulated; both figures are nearly linear in between.
            axis.plot(frames, values, "o", color=_OURS, markersize=5, zorder=3)
            dense = np.linspace(frames[0], frames[-1], 400)
            frames, values, style["zorder"] = dense, np.interp(dense, frames, values), 3
        axis.plot(frames, values, label=f"{name} (ours, simulated)" if ours else name, **style)
    finish(axis)
    axis.set_xlim(left=0)
    axis.set_xlabel("frames")
    axis.set_ylabel(label)
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
