"""What the towers make of the frames of a file, computed once and kept on disk.

A frame's embedding and patches do not depend on the frames around it, so a haystack is looked at
once for all depths, needles, questions and methods. They are kept in parts of `CHUNK` frames: a
process that is killed goes on at the next part, and no more than one part is held in memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..cache import Cache, key
from ..errors import VideoError
from ..finite import FRAMES, PATCHES, FiniteCheck
from ..precision import autocast_dtype, working_dtype
from ..tower_batches import TowerBatches
from ..video.fit import fit
from .playlist import Opened, Piece, Playlist

if TYPE_CHECKING:
    from ..model import ViLAMP

KIND = "features"
CHUNK = 512
"""Frames in a file."""
BATCH = 64
"""Frames that a tower is given at once."""

Part = tuple[Tensor, Tensor]
"""Embeddings fp32 `[n, D]`, patches `[n, M, H]`."""


class Features:
    """Features of the files of play lists.

    Args:
        model: whose towers.
        cache: where they are kept, and how much of them; it is best a folder of its own.
        batch: frames that a tower is given at once.
    """

    def __init__(self, model: ViLAMP, cache: Cache, batch: int = BATCH):
        self._model, self._cache, self._batch = model, cache, batch
        self._towers = TowerBatches()

    def fits(self, playlist: Playlist) -> bool:
        """Whether the files of a play list leave room for each other, in whole parts."""
        ends: dict[object, int] = {}
        for piece in playlist.pieces:
            held = len(playlist.opened[piece.path])
            whole = min(math.ceil(piece.stop / CHUNK) * CHUNK, held)
            ends[piece.path] = max(ends.get(piece.path, 0), whole)
        return sum(ends.values()) * self._frame_bytes <= self._cache.limit

    def parts(
        self,
        opened: Opened,
        piece: Piece,
        size: tuple[int, int],
        on_frames: Callable[[int], None] = lambda count: None,
    ) -> Iterator[Part]:
        """Embeddings and patches of a piece, in order, a part at a time.

        Args:
            opened: the files.
            piece: frames of one of them.
            size: width and height that the frames are brought to first.
            on_frames: called with a number of frames when they have been computed.
        Raises:
            VideoError: the file cannot be read, or has changed.
            NotFiniteError: embeddings or patches are NaN or infinite.
        """
        content = opened.fingerprint(piece.path)
        computed: Iterator[tuple[int, Part]] | None = None
        held = len(opened[piece.path])
        for start in range(piece.first // CHUNK * CHUNK, piece.stop, CHUNK):
            stop = min(start + CHUNK, held)
            name = key(KIND, content, size, *self._computed_by, start, stop)
            part = self._load(name, stop - start)
            if part is None:
                if computed is None:
                    computed = self._compute(opened, piece.path, start, size, on_frames)
                part = self._wanted(computed, start, piece)
                self._require_finite(part)
                tensors = dict(zip(("embeds", "patches"), part, strict=True))
                self._cache.store(KIND, name, tensors, {})
            a, b = max(piece.first, start) - start, min(piece.stop, stop) - start
            yield part[0][a:b], part[1][a:b]

    @staticmethod
    def _wanted(computed: Iterator[tuple[int, Part]], start: int, piece: Piece) -> Part:
        # Parts in between may be there already: they are passed over.
        for begin, part in computed:
            if begin == start:
                return part
        raise VideoError(f"{piece.path}: changed while it was read, it ends early")

    def _require_finite(self, part: Part) -> None:
        """What is not finite must not reach the cache."""
        finite = FiniteCheck(self._dtype)
        finite.see(FRAMES, part[:1])
        finite.see(PATCHES, part[1:])
        finite.require()

    def _load(self, name: str, count: int) -> Part | None:
        found = self._cache.load(KIND, name)
        if found is None:
            return None
        config = self._model.config
        wanted = {
            "embeds": (torch.float32, (count, config.clip_config.projection_dim)),
            "patches": (
                self._dtype,
                (count, math.prod(config.grid), config.text_config.hidden_size),
            ),
        }
        tensors = [found[0].get(name) for name in wanted]
        for tensor, (dtype, shape) in zip(tensors, wanted.values(), strict=True):
            if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
                return None
            # The least and the largest: a mask of all would take as much memory as the patches.
            if not torch.stack(tensor.aminmax()).isfinite().all():
                return None
        embeds, patches = (tensor.to(self._model.device) for tensor in tensors)
        return embeds, patches

    @torch.no_grad()
    def _compute(
        self,
        opened: Opened,
        path: object,
        first: int,
        size: tuple[int, int],
        on_frames: Callable[[int], None],
    ) -> Iterator[tuple[int, Part]]:
        """Every part from frame `first` on, in one pass over the file."""
        images, begin = [], first
        embeds: list[Tensor] = []
        patches: list[Tensor] = []

        def look() -> None:
            embeds.append(self._towers(self._model.embed_frames, self._model.clip_pixels(images)))
            patches.append(self._towers(self._model.patches, self._model.siglip_pixels(images)))
            on_frames(len(images))
            images.clear()

        source = opened[path]
        for frame in source:
            if frame.index < first:
                continue
            images.append(fit(frame.image, *size))
            end = frame.index + 1
            last = end % CHUNK == 0 or end == len(source)
            if last or len(images) == self._batch:
                look()
            if last:
                yield begin, (torch.cat(embeds), torch.cat(patches))
                embeds.clear()
                patches.clear()
                begin = end

    @property
    def _frame_bytes(self) -> int:
        config = self._model.config
        patches = math.prod(config.grid) * config.text_config.hidden_size
        embeds = config.clip_config.projection_dim * torch.float32.itemsize
        return patches * self._dtype.itemsize + embeds

    @property
    def _dtype(self) -> torch.dtype:
        """Of the patches."""
        return working_dtype(self._model.dtype, self._model.device)

    @property
    def _computed_by(self) -> tuple[str, torch.dtype | None]:
        return self._weights, autocast_dtype(self._model.device)

    @cached_property
    def _weights(self) -> str:
        vision = (self._model.vision_tower, self._model.projector[0])
        return self._model.selector_fingerprint() + _fingerprint(vision)


def _fingerprint(modules: tuple[nn.Module, ...]) -> str:
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(data.numpy().data)
    return digest.hexdigest()
