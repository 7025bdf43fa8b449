"""Heat maps of accuracy, length x depth, one for each model side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence

from .tables import ALL, Measured

MISSING = "#e2e8f0"


def heat_maps(measured: Sequence[Measured], kind: str = ALL, title: str = "") -> bytes:
    """A PNG: depth downwards, frames to the right, percent in each cell.

    Args:
        measured: at least one model.
        kind: of the questions; `"all"` for every kind.
        title: above all of them.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    lengths = sorted({n for model in measured for n in model.values("frames")})
    depths = sorted({d for model in measured for d in model.values("depth")})
    width = 1.4 + len(measured) * (0.8 + 0.62 * len(lengths))
    figure = Figure(figsize=(max(4.0, width), 1.6 + 0.5 * len(depths)), layout="constrained")
    axes = figure.subplots(1, len(measured), sharey=True, squeeze=False)[0]
    colours = colormaps["viridis"].with_extremes(bad=MISSING)
    for axis, model in zip(axes, measured, strict=True):
        cells = np.array(
            [[model.share(frames=n, depth=d, kind=kind).percent for n in lengths] for d in depths]
        )
        image = axis.imshow(
            np.ma.masked_invalid(cells), cmap=colours, vmin=0, vmax=100, aspect="auto"
        )
        for y, row in enumerate(cells):
            for x, percent in enumerate(row):
                if not np.isnan(percent):
                    ink = "white" if percent < 60 else "black"
                    axis.text(x, y, f"{percent:.0f}", ha="center", va="center", color=ink)
        share = model.share(kind=kind)
        axis.set_title(_plain(f"{model.name}: {share.percent:.1f}%"), fontsize=10, parse_math=False)
        axis.set_xticks(range(len(lengths)), [_short(n) for n in lengths])
        axis.set_yticks(range(len(depths)), [f"{100 * d:g}%" for d in depths])
        axis.set_xlabel("frames")
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    axes[0].set_ylabel("depth of the needle")
    figure.colorbar(image, ax=axes, label="right answers, %", fraction=0.03, pad=0.02)
    if title:
        figure.suptitle(_plain(title), fontsize=11, parse_math=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    return content.getvalue()


def _plain(text: str) -> str:
    """On one line, without characters that no font has."""
    return "".join(c if c.isprintable() else " " for c in text)


def _short(frames: int) -> str:
    return f"{frames // 1000}K" if frames >= 1000 and frames % 1000 == 0 else f"{frames:,}"
