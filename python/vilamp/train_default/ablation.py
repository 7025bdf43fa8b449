"""`python -m vilamp.train_default.ablation`: selectors and mergings side by side, and four curves.

Every selector with every merging, the paper's two with other budgets, thresholds, temperatures and
weights, and evenly spaced keyframes with other budgets, on fresh videos of the kind that `evaluate`
draws, one question of each type about each of them. A video is drawn, read and embedded once for
all methods; rows are written after each video and a run that was stopped goes on where it was. A
table in Markdown, a summary in CSV and a figure are written at the end.
"""

import argparse
from dataclasses import fields
from pathlib import Path

from ..drawn import TYPES
from ..method import MERGINGS, SELECTORS, Method
from ..model import ViLAMP
from .ablation_report import write_report
from .evaluate import Plan, run

VIDEOS, FIRST_SEED = 100, 2_000_000
CURVES = {
    "keyframes": (1, 2, 4, 8, 32, 64),
    "tau": (0.5, 0.7, 0.8, 0.9, 1.0),
    "alpha": (0.005, 0.01, 0.05, 0.1, 0.3, 1.0, 10.0),
    "lam": (0.0, 0.5, 1.5, 2.0, 5.0),
}
"""Values that are tried, one at a time, beside those of the default model."""
UNIFORM_KEYFRAMES = (1, 2, 4, 8, 32, 64, 128)
"""Budgets that evenly spaced keyframes are given."""


def name_of(method: Method) -> str:
    """Such as "dks+dfm" or "dks+dfm tau=0.7"."""
    given = {field.name: getattr(method, field.name) for field in fields(method)}
    changed = [f"{name}={given[name]:g}" for name in CURVES if given[name] is not None]
    return " ".join([f"{method.selector}+{method.merging}", *changed])


def methods() -> dict[str, Method]:
    """All methods by name: the table's, row by row, then the curves'."""
    table = [Method(selector, merging) for selector in SELECTORS for merging in MERGINGS]
    curves = [Method(**{name: value}) for name, values in CURVES.items() for value in values]
    uniform = [Method("uniform", keyframes=budget) for budget in UNIFORM_KEYFRAMES]
    return {name_of(method): method for method in [*table, *curves, *uniform]}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m vilamp.train_default.ablation", description=__doc__
    )
    parser.add_argument("--model", default="default", help="model folder")
    parser.add_argument("--videos", type=int, default=VIDEOS, help="of six questions each")
    parser.add_argument("--seconds", type=int, default=Plan.seconds, help="of each video = frames")
    parser.add_argument("--folder", type=Path, default=Path("runs/ablation"))
    options = parser.parse_args()
    model = ViLAMP.from_pretrained(options.model, device="cpu")
    plan = Plan(options.videos, options.seconds, len(TYPES), methods(), FIRST_SEED)
    write_report(run(model, options.folder, plan), options.folder)


if __name__ == "__main__":
    main()
