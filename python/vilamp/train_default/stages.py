"""The stages of the training and the order in which they run.

Stages run as soon as what they need is there, two at a time, each in a process of its own with a
fixed number of threads, so that a second run on the same type of machine gives the same weights.
They are not in `__main__`, which a spawned process does not import from a package.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CORES = 2


@dataclass(frozen=True)
class Stage:
    """A step of the training: what it needs, how many threads it uses, what it leaves behind."""

    needs: tuple[str, ...]
    threads: int
    result: str


STAGES = {
    "bank": Stage((), 2, "bank/test-001.safetensors"),
    "vision": Stage(("bank",), 1, "vision.safetensors"),
    "lookup": Stage(("bank",), 1, "lookup.safetensors"),
    "sharp": Stage(("vision",), 1, "sharp.safetensors"),
    "selector": Stage(("vision",), 1, "selector.safetensors"),
    "patches": Stage(("sharp",), 1, "patches.safetensors"),
    "embeds": Stage(("selector",), 1, "embeds.safetensors"),
    "composer": Stage(("patches", "selector"), 1, "composer.safetensors"),
    "reading": Stage(("lookup", "embeds", "composer"), 2, "reading.safetensors"),
    "review": Stage(("reading",), 2, "review.safetensors"),
}


def work(name: str) -> Callable[[Path], None]:
    """The function of a stage; imported when needed, in the process that runs it."""
    from . import bank, composer, features, lookup, reading, selector, vision

    return {
        "bank": bank.draw_bank,
        "vision": vision.train_vision,
        "lookup": lookup.train_lookup,
        "selector": selector.train_selector,
        "sharp": vision.sharpen_vision,
        "patches": features.compute_patches,
        "embeds": features.compute_embeds,
        "composer": composer.train_composer,
        "reading": reading.train_reading,
        "review": reading.train_review,
    }[name]


def run_stage(name: str, folder: Path) -> None:
    """Run one stage in this process with its number of threads; its time goes to times.csv."""
    import torch

    torch.set_num_threads(STAGES[name].threads)
    start = time.monotonic()
    work(name)(folder)
    with (folder / "times.csv").open("a") as log:
        log.write(f"{name},{time.monotonic() - start:.0f}\n")


def run_all(folder: Path) -> None:
    """Run every stage whose result is missing, in an order that respects their needs."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    running: dict[str, multiprocessing.Process] = {}
    while True:
        for name, process in list(running.items()):
            if not process.is_alive():
                del running[name]
                if process.exitcode or not (folder / STAGES[name].result).exists():
                    for other in running.values():
                        other.terminate()
                    sys.exit(f"stage {name} failed")
        ready = [
            name
            for name, stage in STAGES.items()
            if name not in running
            and not (folder / stage.result).exists()
            and all((folder / STAGES[n].result).exists() and n not in running for n in stage.needs)
        ]
        if not ready and not running:
            return
        for name in ready:
            if sum(STAGES[n].threads for n in running) + STAGES[name].threads <= CORES:
                print(f"{name}: started", flush=True)
                running[name] = context.Process(target=run_stage, args=(name, folder))
                running[name].start()
        time.sleep(0.5)
