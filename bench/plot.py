"""Bars of the large cases, from the CSV: `python -m bench.plot [CSV]` -> docs/performance.png."""

from __future__ import annotations

import sys
from pathlib import Path

from . import rows

PICTURE = Path(__file__).parent.parent / "docs" / "performance.png"
SHOWN = (
    ("similarity", "[1,100000,512] Q=1 fp32"),
    ("select_keyframes", "[1,10000,512] K=32 static"),
    ("differential_pool", "[64,729,1152] fp32"),
    ("projected_differential_pool", "[16,729,896] fp32"),
)
MINE, OTHERS, BOUND = "#c2410c", "#94a3b8", "#cbd5e1"


def draw(found: list[rows.Row], path: Path) -> None:
    """One panel for each case of `SHOWN` that was measured; times on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    measured = [row for row in found if row["median_ms"]]
    panels = [[r for r in measured if (r["op"], r["case"]) == shown] for shown in SHOWN]
    panels = [panel for panel in panels if panel]
    if not panels:
        raise SystemExit("none of the large cases is in the results")
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8, 2.2 * len(panels)), squeeze=False, layout="constrained"
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        panel.sort(key=lambda row: -float(row["median_ms"]))
        names = [row["provider"] for row in panel]
        times = [float(row["median_ms"]) for row in panel]
        colours = [MINE if n == "cpu" else BOUND if n == "products" else OTHERS for n in names]
        bars = axis.barh(names, times, color=colours)
        axis.bar_label(bars, [f"{time:.3g} ms" for time in times], padding=3, fontsize=8)
        axis.set_xscale("log")
        axis.set_xlim(min(times) / 2, max(times) * 3)
        axis.set_title(f"{panel[0]['op']} {panel[0]['case']}", loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.supxlabel(f"median, ms; {panel[0]['cpu']}, {panel[0]['threads']} threads", fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else rows.OPS_CSV
    found = rows.read(path)
    if not found:
        raise SystemExit(f"no results in {path}: run `python -m bench.ops` first")
    draw(found, PICTURE)
    print(f"written: {PICTURE.relative_to(PICTURE.parent.parent)}")


if __name__ == "__main__":
    main()
