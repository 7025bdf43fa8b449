"""Two pictures of a profile: memory and compute against frames."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.util import find_spec

from ..errors import InputError
from .rows import LIMITS, OURS, Row

PICTURES = ("memory", "compute")
_OURS, _MARK = "#c2410c", "#1e293b"
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
        "compute": _draw(
            [row for row in rows if row.flops is not None],
            lambda row: row.flops / 1e15,
            "PFLOP for one question, 2 per multiply-add",
        ),
    }


def _memory(lines: list[Row], rows: list[Row]) -> bytes:
    def limits(axis) -> None:
        for limit in LIMITS:
            axis.axhline(limit, color="#dc2626", linewidth=0.8, linestyle=(0, (4, 3)))
            axis.text(10_050, limit, f"OOM at {limit} GB", color="#dc2626", fontsize=8, va="center")
        marks = [row for row in rows if row.kind == "reported"]
        if marks:
            axis.plot(
                [row.frames for row in marks],
                [row.peak / 1e9 for row in marks],
                linestyle="none",
                marker="D",
                markersize=5,
                color=_MARK,
                label=f"{marks[0].architecture} by the paper",
            )

    return _draw(lines, lambda row: row.peak / 1e9, "peak memory, GB", limits)


def _draw(
    rows: list[Row],
    value: Callable[[Row], float],
    label: str,
    more: Callable[[object], None] | None = None,
) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axis = figure.subplots()
    colours = iter(_OTHERS * 2)
    for name in dict.fromkeys(row.architecture for row in rows):
        line = [row for row in rows if row.architecture == name and value(row) > 0]
        ours = name == OURS
        axis.plot(
            [row.frames for row in line],
            [value(row) for row in line],
            color=_OURS if ours else next(colours),
            linewidth=2.4 if ours else 1.4,
            marker="o" if ours else None,
            markersize=4,
            zorder=3 if ours else 2,
            label=f"{name} (ours, simulated)" if ours else name,
        )
    if more:
        more(axis)
    axis.set_yscale("log")
    axis.set_xlim(0, max((row.frames for row in rows), default=1))
    axis.set_xlabel("frames")
    axis.set_ylabel(label)
    axis.grid(alpha=0.25, which="both", linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
