"""Batches that fit: when the device's memory is not enough for one, it goes in parts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import vilamp_kernels as vk

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
            self._remember(name, most // 2)

    def push(
        self, merger: vk.StreamingMerger, patches: Tensor, start: int, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """`merger.push`, in parts if it has to.

        Raises:
            InputError: one frame alone is too much.
        """
        end = start + len(patches)
        parts: list[Tensor | tuple[Tensor, Tensor]] = []
        while merger.position < end:
            at = merger.position
            most = min(self._most.get("merging", end - at), end - at)
            try:
                part = merger.push(patches[at - start : at - start + most], at, return_weights)
            except torch.OutOfMemoryError as error:
                if most == 1:
                    raise InputError(
                        f"out of memory on {patches.device}: merging one frame at a time is too "
                        "much; ask fewer questions at a time, use fewer keyframes or a smaller "
                        "dtype"
                    ) from error
            else:
                parts.append(part)
                continue
            if patches.is_cuda:
                torch.cuda.empty_cache()
            self._remember("merging", most // 2)
        if len(parts) == 1:
            return parts[0]
        # Frames are the second dimension: questions come first.
        if return_weights:
            tokens, weights = zip(*parts, strict=True)
            return torch.cat(tokens, 1), torch.cat(weights, 1)
        return torch.cat(parts, 1)

    def _remember(self, name: str, most: int) -> None:
        self._most[name] = most
        self.notes = [
            *(note for note in self.notes if not note.startswith(f"{name}:")),
            f"{name}: {most} frames at a time, more did not fit into memory",
        ]
