"""The steps in which a question is worked on, chosen so that they fit; where none do, what would.

What can be made smaller without another answer: the batch of the vision towers, the chunks in which
the prompt is read, and whether the towers stay on the device meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ..errors import InputError
from ..generate import PREFILL_CHUNK
from ..sizes import size_text
from .estimate import Work, peak
from .sizes import Sizes

CPU_BATCH, GPU_BATCH = 16, 64
"""Largest batch that is chosen: beyond it a tower gets no faster."""
GOOD_BATCH = 8
"""A smaller one is worth moving the towers for."""
CHUNKS = (PREFILL_CHUNK, 512, 256, 128, 64)
CPU_CHUNK = 256
"""Largest that is chosen off a GPU: so many tokens keep a processor busy, and the mask of a chunk,
which attention there makes in numbers, is a quarter as large."""
ROUNDING = 0.03
"""Of all but the weights: what a GPU's allocator rounds up and cannot use between tensors."""
LIBRARIES = 96 << 20
"""What cuBLAS and cuDNN take from the allocator for themselves. Neither figure was measured."""


@dataclass(frozen=True)
class Choices:
    """What may be chosen: None is open, anything else was asked for."""

    device: str
    """Type of the device."""
    batch: int | None = None
    release_towers: bool | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def batches(self) -> list[int]:
        """From the largest down."""
        if self.batch is not None:
            return [self.batch]
        top = GPU_BATCH if self.on_gpu else CPU_BATCH
        return [top >> n for n in range(top.bit_length())]

    def chunks(self) -> tuple[int, ...]:
        """From the largest down."""
        return CHUNKS if self.on_gpu else tuple(n for n in CHUNKS if n <= CPU_CHUNK)

    def answers(self) -> Iterator[tuple[bool, int]]:
        """Whether towers are released, and the chunk, from the fastest down."""
        release = self.release_towers if self.on_gpu else False
        if release is None:
            # To move the towers costs less than chunks too small for the device.
            yield from ((False, chunk) for chunk in self.chunks()[:2])
        yield from ((release is not False, chunk) for chunk in self.chunks())


@dataclass(frozen=True)
class Plan:
    """How a question is worked on."""

    batch: int
    prefill_chunk: int
    release_towers: bool
    peak: int
    """Bytes, as predicted; weights included."""

    def applied(self, work: Work) -> Work:
        return replace(
            work,
            batch=self.batch,
            prefill_chunk=self.prefill_chunk,
            release_towers=self.release_towers,
        )


def needed(sizes: Sizes, work: Work, device: str) -> int:
    """Bytes: the peak, and on a GPU what its allocator and libraries add."""
    predicted = peak(sizes, work, device)
    if device != "cuda":
        return predicted
    return predicted + int(ROUNDING * (predicted - sizes.weights)) + LIBRARIES


def fitted(sizes: Sizes, work: Work, choices: Choices, limit: int) -> Plan | None:
    """The fastest plan within `limit` bytes, None if there is none. What `work` says of batch,
    chunk and release does not matter."""
    found = None
    for release, chunk in choices.answers():
        for batch in choices.batches():
            plan = _planned(sizes, work, choices, batch, chunk, release)
            if plan.peak > limit:
                continue
            if found is None or batch > found.batch:
                found = plan
            break
        if found is not None and found.batch >= min(GOOD_BATCH, choices.batches()[0]):
            return found
    return found


def usual(sizes: Sizes, work: Work, choices: Choices) -> Plan:
    """The plan where memory is no concern."""
    batch = choices.batch or CPU_BATCH
    release = choices.on_gpu and bool(choices.release_towers)
    return _planned(sizes, work, choices, batch, choices.chunks()[0], release)


def smallest(sizes: Sizes, work: Work, choices: Choices) -> Plan:
    """The plan that needs least."""
    release, chunk = list(choices.answers())[-1]
    return _planned(sizes, work, choices, choices.batches()[-1], chunk, release)


def best(sizes: Sizes, work: Work, choices: Choices, budget: int | None, free: int | None) -> Plan:
    """The plan to follow.

    Args:
        sizes: of the model.
        work: what is to be done.
        choices: what was asked for.
        budget: bytes that must not be exceeded; None for no promise.
        free: bytes that the device has for us, weights included; None if it cannot be asked.
    Raises:
        InputError: nothing fits into the budget; says what would.
    """
    if budget is not None:
        plan = fitted(sizes, work, choices, budget)
        if plan is None:
            raise InputError(refusal(sizes, work, choices, budget))
        return plan
    if free is None:
        return usual(sizes, work, choices)
    # No promise was made: a prediction that is on the safe side forbids nothing.
    return fitted(sizes, work, choices, free) or smallest(sizes, work, choices)


def refusal(sizes: Sizes, work: Work, choices: Choices, budget: int) -> str:
    """What is needed, and what would fit instead, in one line."""
    least = smallest(sizes, work, choices).peak
    several = f" and {work.questions} questions" if work.questions > 1 else ""
    text = f"{work.frames:,} frames{several} need {rounded_up(least)}"
    ways = [way for way in _ways(sizes, work, choices, budget) if way]
    if not ways:
        one = replace(work, frames=1, questions=1)
        alone = rounded_up(smallest(sizes, one, choices).peak)
        return f"{text}, the budget is {shown(budget)}: one frame alone needs {alone}"
    return f"{text}; {shown(budget)} allow {' or '.join(ways)}"


def _ways(sizes: Sizes, work: Work, choices: Choices, budget: int) -> Iterator[str | None]:
    def fits(what: Work, chosen: Choices = choices, of: Sizes = sizes) -> bool:
        return smallest(of, what, chosen).peak <= budget

    frames = _most(work.frames - 1, lambda n: fits(replace(work, frames=n)))
    yield frames and f"{frames:,} frames (--max-frames {frames})"
    top = min(work.keyframes, work.frames) - 1
    keyframes = _most(top, lambda n: fits(replace(work, keyframes=n)))
    yield keyframes and f"{keyframes} keyframes (--keyframes {keyframes})"
    if work.answered:
        questions = _most(work.questions - 1, lambda n: fits(replace(work, questions=n)))
        yield questions and f"{questions} question{'s' * (questions > 1)} at a time"
    if choices.batch is not None and fits(work, replace(choices, batch=None)):
        yield "smaller batches (--batch auto)"
    if choices.release_towers is False and fits(work, replace(choices, release_towers=None)):
        yield "all of it without --keep-towers"
    if sizes.number > 2 and fits(work, of=sizes.in_halves()):
        yield "half precision (--dtype bf16)"


def _most(top: int, fits: Callable[[int], bool]) -> int | None:
    """The largest number from 1 to `top` that fits, if any; a smaller one needs no more."""
    low, high = 0, max(top, 0)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low or None


def _planned(
    sizes: Sizes, work: Work, choices: Choices, batch: int, chunk: int, release: bool
) -> Plan:
    plan = Plan(batch, chunk, release, 0)
    return replace(plan, peak=needed(sizes, plan.applied(work), choices.device))


def rounded_up(count: int) -> str:
    """Bytes as text, never less than they are."""
    return size_text(count, math.ceil)


def shown(budget: int) -> str:
    """A budget as text, never more than it is."""
    return size_text(budget, math.floor)
