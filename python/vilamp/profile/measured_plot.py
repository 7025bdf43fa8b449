"""Two pictures of measurements: memory beside the simulation, and time by phase."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from .measured_rows import MeasuredRow
from .phases import ALL_PHASES, CALLER_PHASES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = ("measured-memory", "measured-time")
LABELS = {
    "video": "decoding (ahead)",
    "preprocess": "pixels (ahead)",
    "spool": "spool (ahead)",
    "clip": "CLIP",
    "select": "selection",
    "siglip": "SigLIP",
    "project": "projector",
    "merge": "merging",
    "prefill": "prompt",
    "decode": "new tokens",
    "other": "waiting and the rest",
}
"""What a phase is called for people."""
_COLOURS = ("#c2410c", "#7c3aed", "#0891b2", "#65a30d", "#ca8a04", "#2563eb", "#db2777", "#94a3b8")
_MEASURED = {"resident": "#64748b", "allocated": "#c2410c", "reserved": "#ca8a04"}


def pictures(rows: list[MeasuredRow]) -> dict[str, bytes]:
    """PNG files by name, of `PICTURES`."""
    return {"measured-memory": _memory(rows), "measured-time": _time(rows)}


def _memory(rows: list[MeasuredRow]) -> bytes:
    figure, axis = _empty("peak memory, GB")
    frames = [row.measured.frames for row in rows]
    for kind, colour in _MEASURED.items():
        peaks = [row.measured.peak(kind) for row in rows]
        if None not in peaks:
            values = [peak / 1e9 for peak in peaks]
            axis.plot(frames, values, "o-", color=colour, markersize=4, label=f"{kind}, measured")
    simulated = [row.simulated / 1e9 for row in rows]
    style = {"color": "#1e293b", "linestyle": (0, (4, 3)), "marker": "D", "markersize": 4}
    axis.plot(frames, simulated, label="tensors, simulated", **style)
    axis.set_ylim(bottom=0)
    return _png(figure)


def _time(rows: list[MeasuredRow]) -> bytes:
    """Shares of the wall time stacked; what other threads do beside it as lines."""
    figure, axis = _empty("seconds")
    frames = [row.measured.frames for row in rows]
    by_phase = {p: [row.measured.seconds.get(p, 0.0) for row in rows] for p in ALL_PHASES}
    stacked = [by_phase[phase] for phase in CALLER_PHASES]
    labels = [LABELS[phase] for phase in CALLER_PHASES]
    axis.stackplot(frames, stacked, labels=labels, colors=_COLOURS, alpha=0.85)
    for phase, line in (("video", "-"), ("preprocess", "--")):
        axis.plot(frames, by_phase[phase], line, color="#1e293b", marker="o", label=LABELS[phase])
    return _png(figure)


def _empty(label: str):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel("frames")
    axis.set_ylabel(label)
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _png(figure: Figure) -> bytes:
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
