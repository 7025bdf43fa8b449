"""Batches that fit: when the device's memory is not enough for one, it goes in parts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .errors import InputError


class TowerBatches:
    """Calls a tower on a batch of frames, in parts if it has to; remembers what fits.

    `notes` says so, once.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._most: dict[str, int] = {}

    def __call__(self, tower: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        """`tower(pixels)`, both `[n, ...]`.

        Raises:
            InputError: one frame alone is too much.
        """
        name = getattr(tower, "__name__", "tower")
        while True:
            most = self._most.get(name, len(pixels))
            try:
                parts = [tower(part) for part in pixels.split(most)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except torch.OutOfMemoryError as error:
                most = min(most, len(pixels))
                if most == 1:
                    raise InputError(
                        f"out of memory on {pixels.device}: one frame at a time is too much; "
                        "use a smaller dtype, or another device"
                    ) from error
            # Outside the handler: until then the error holds on to the tensors of the failed try.
            if pixels.is_cuda:
                torch.cuda.empty_cache()
            self._most[name] = most // 2
            self.notes = [
                *(note for note in self.notes if not note.startswith(name)),
                f"{name}: {most // 2} frames at a time, more did not fit into memory",
            ]
