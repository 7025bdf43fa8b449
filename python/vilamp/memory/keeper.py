"""Memory of one session: what is planned, what is enforced, where the towers are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from ..errors import InputError
from .device import available, enforced
from .estimate import Work
from .placing import bring, send
from .plan import Choices, Plan, best, shown
from .sizes import Sizes

if TYPE_CHECKING:
    from ..model import ViLAMP


class MemoryKeeper:
    """Plans the work on one video, keeps it within the plan, and moves the towers.

    Args:
        model: that does the work.
        budget: bytes that it must not exceed, weights included; None for no promise.
        batch: frames that a tower is given at once; None to choose.
        release_towers: whether the towers leave a GPU while they are not needed; None to choose.
    """

    def __init__(
        self, model: ViLAMP, budget: int | None, batch: int | None, release_towers: bool | None
    ):
        self.plan: Plan | None = None
        """Of the work that was prepared last."""
        self.notes: list[str] = []
        """What the budget asks for, one line."""
        self._away = False
        self._model, self._budget = model, budget
        self._choices = Choices(model.device.type, batch, release_towers)

    def prepare(self, work: Work) -> Plan:
        """Choose how to do the work; its batch, chunk and release do not matter.

        Raises:
            InputError: nothing fits into the budget; says what would.
        """
        weights = self._sizes.weights
        free = available(self._model.device, weights) if self._budget is None else None
        plan = best(self._sizes, work, self._choices, self._budget, free)
        if self._budget is not None:
            self.notes = [_note(self._budget, plan, work)]
        self.plan = plan
        return plan

    @contextmanager
    def within(self, remedy: str) -> Iterator[None]:
        """Work inside the budget.

        Raises:
            InputError: the device ran out of memory, with what may help.
        """
        device = self._model.device
        try:
            with enforced(device, self._budget):
                yield
        except torch.OutOfMemoryError as error:
            raise InputError(f"out of memory on {device}: {remedy}") from error

    def for_selection(self) -> None:
        """Bring CLIP, which the first sweep and a question need."""
        bring(self._model, self._model.frame_selector)

    def for_merging(self, plan: Plan) -> None:
        """Bring what the second sweep needs; CLIP may go."""
        selector = self._model.frame_selector
        if plan.release_towers:
            self._send(selector)
        bring(self._model, *(m for m in self._model.vision_modules() if m is not selector))

    def for_answering(self, plan: Plan) -> None:
        """All of the towers may go."""
        if plan.release_towers:
            self._send(*self._model.vision_modules())

    def restore(self) -> None:
        """Bring back what went."""
        if self._away:
            bring(self._model, *self._model.vision_modules())
            self._away = False

    def _send(self, *modules: torch.nn.Module) -> None:
        self._away = True
        send(self._model, *modules)

    @cached_property
    def _sizes(self) -> Sizes:
        return Sizes.of(self._model)


def _note(budget: int, plan: Plan, work: Work) -> str:
    text = f"for a budget of {shown(budget)}: {plan.batch} frames at a time"
    if work.answered:
        text += f", the prompt in chunks of {plan.prefill_chunk} tokens"
    if plan.release_towers:
        text += ", the vision towers off the device where they are not needed"
    return text
