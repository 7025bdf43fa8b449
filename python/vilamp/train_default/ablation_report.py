"""What `ablation` found: Markdown tables, a CSV of every figure, and a picture of the curves."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..drawn import TYPES
from ..evaluation.intervals import wilson
from ..method import MERGINGS, SELECTORS
from .sizes import ALPHA, KEYFRAMES, TAU

KINDS = ("all", *dict.fromkeys(TYPES.values()))
OWN = {"keyframes": KEYFRAMES, "tau": TAU, "alpha": ALPHA, "lam": 1.0}
"""What the default model has, of the numbers that the curves vary."""
_LABELS = {
    "keyframes": "keyframes K",
    "tau": "tau, redundancy threshold",
    "alpha": "alpha, temperature",
    "lam": "lam, weight of redundancy",
}
_COLOURS = {"all": "#0f172a", "overall": "#94a3b8", "detail": "#c2410c", "between": "#0369a1"}


@dataclass
class Tally:
    """Answers of one method to one kind of question."""

    count: int = 0
    right: int = 0
    hits: int = 0
    keyframes: int = 0

    def add(self, row: Mapping[str, str]) -> None:
        """Count one row of answers.csv."""
        self.count += 1
        self.right += int(row["right"])
        self.hits += int(row["hit"])
        self.keyframes += int(row["keyframes"])

    @property
    def percent(self) -> float:
        """Right answers, of a hundred."""
        return 100 * self.right / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% interval, in percent; questions count as independent."""
        low, high = wilson(self.right, self.count)
        return 100 * low, 100 * high


Tallies = dict[tuple[str, str], Tally]


def tallies(rows: Iterable[Mapping[str, str]]) -> Tallies:
    """`(method, kind)` -> what is in the rows about it; kind "all" for every question."""
    found: Tallies = defaultdict(Tally)
    for row in rows:
        for kind in ("all", TYPES[row["type"]]):
            found[row["policy"], kind].add(row)
    return dict(found)


def markdown(found: Tallies) -> str:
    """Selectors x mergings over all questions; then by kind, one of the two being the paper's."""
    head = ["keyframes", *MERGINGS, "in the clip", "taken"]
    lines = _head(head)
    for selector in SELECTORS:
        own = [found[f"{selector}+{merging}", "all"] for merging in MERGINGS]
        cells = [f"{tally.percent:.1f}" for tally in own]
        hits = f"{100 * own[0].hits / own[0].count:.1f}"
        lines.append(_line([selector, *cells, hits, f"{own[0].keyframes / own[0].count:.1f}"]))
    lines += ["", *_head(["method", *KINDS[1:]])]
    pairs = [(s, "dfm") for s in SELECTORS] + [("dks", m) for m in MERGINGS[1:]]
    for selector, merging in pairs:
        name = f"{selector}+{merging}"
        cells = [f"{found[name, kind].percent:.1f}" for kind in KINDS[1:]]
        lines.append(_line([f"{selector} + {merging}", *cells]))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(names: list[str]) -> list[str]:
    return [_line(names), "| --- |" + " ---: |" * (len(names) - 1)]


def curve(found: Tallies, name: str, kind: str, base: str = "dks+dfm") -> list[tuple[float, Tally]]:
    """Values of a number and what they gave, ascending, the model's own among them."""
    start = f"{base} {name}="
    points = [
        (float(method.removeprefix(start)), tally)
        for (method, own_kind), tally in found.items()
        if own_kind == kind and method.startswith(start)
    ]
    return sorted([*points, (OWN[name], found[base, kind])], key=lambda point: point[0])


def draw(found: Tallies, path: Path) -> None:
    """One panel for each number, one line for each kind of question, 95% intervals shaded; dashed,
    evenly spaced keyframes with their own budgets."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(OWN), figsize=(12, 3.4), sharey=True, layout="constrained")
    for axis, name in zip(axes, OWN, strict=True):
        for kind in KINDS:
            values, own = zip(*curve(found, name, kind), strict=True)
            low, high = zip(*(tally.interval for tally in own), strict=True)
            colour, width = _COLOURS[kind], 2.2 if kind == "all" else 1.4
            shares = [tally.percent for tally in own]
            axis.plot(values, shares, "o-", ms=3.5, lw=width, color=colour, label=kind)
            axis.fill_between(values, low, high, color=colour, alpha=0.12, lw=0)
            if name == "keyframes":
                values, own = zip(*curve(found, name, kind, "uniform+dfm"), strict=True)
                shares = [tally.percent for tally in own]
                label = "uniform keyframes" if kind == "all" else None
                axis.plot(values, shares, "--", lw=width, color=colour, label=label)
        axis.axvline(OWN[name], color="#cbd5e1", lw=1, ls="--", zorder=0)
        if name in ("keyframes", "alpha"):
            axis.set_xscale("log", base=2 if name == "keyframes" else 10)
        if name == "keyframes":
            axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.set_xlabel(_LABELS[name])
        axis.set_ylim(0, 102)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes[0].set_ylabel("right answers, %")
    axes[0].legend(title="questions", fontsize=8, title_fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_report(rows: Iterable[Mapping[str, str]], folder: Path) -> None:
    """Write `table.md`, `ablations.csv` and `ablations.png` into a folder, and print the tables."""
    found = tallies(rows)
    text = markdown(found)
    (folder / "table.md").write_text(text + "\n")
    with (folder / "ablations.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("method", "questions", "count", "right", "low", "high", "hits", "taken"))
        for (method, kind), tally in found.items():
            low, high = (f"{end:.1f}" for end in tally.interval)
            taken = f"{tally.keyframes / tally.count:.2f}"
            writer.writerow((method, kind, tally.count, tally.right, low, high, tally.hits, taken))
    draw(found, folder / "ablations.png")
    print(text)
