"""Where the frames of a video come from in each sweep: decoded, spooled, or kept from before."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .cache import Cache, key
from .precision import autocast_dtype
from .preprocess import seen_by_clip, siglip_levels
from .sizes import size_text
from .spool import Spool
from .sweeps import Batch, Resize, decoded, spooled
from .video import FrameSource
from .video.types import Skipped

if TYPE_CHECKING:
    from .model import ViLAMP

SHOWN_AFTER = 0.5
"""Seconds of hashing before there is a bar."""


class FrameStore:
    """The frames of one video for both towers, decoded as seldom as the budget allows.

    Args:
        source: decodes them.
        model: whose towers they are for.
        budget: bytes of disk for frames in the vision tower's size; 0 for none.
        cache: where embeddings and frames stay for later sessions; None for nowhere.
        progress: called as `progress("hash", done, total)` while a long video is identified for the
            cache.
    """

    def __init__(
        self,
        source: FrameSource,
        model: ViLAMP,
        budget: int,
        cache: Cache | None,
        progress: Callable[[str, int, int], Any] | None = None,
    ):
        self._notes: list[str] = []
        self._reread: list[str] = []
        self._source, self._model = source, model
        self._given_cache, self._progress = cache, progress
        self._side = model.config.vision_config.image_size
        need = len(source) * self._side**2 * 3
        self._refused = "" if need <= budget else f"they would take {size_text(need)} of disk"
        self._spool: Spool | None = None
        self._decoded = 0

    @property
    def notes(self) -> list[str]:
        """What the source says of itself, of an earlier session too, and what may be changed."""
        return [*dict.fromkeys([*self._notes, *self._source.notes]), *self._reread]

    def close(self) -> None:
        """Give up the spooled frames; what is in the cache stays."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def embeddings(self) -> tuple[Tensor, list[float]] | None:
        """What `keep_embeddings` was given, by an earlier session too; None if nothing was."""
        found = self._cache.load("embeddings", self._embeddings_key) if self._cache else None
        if found is None:
            return None
        tensors, texts = found
        try:
            skipped = [Skipped(*item) for item in json.loads(texts["skipped"])]
            embeds, times = tensors["embeds"], tensors["times"]
        except (KeyError, TypeError, ValueError):
            return None
        if not self._fit(embeds, times):
            return None
        self._source.skipped = skipped
        self._notes = _lines(texts.get("notes"))
        return embeds.to(self._model.device), times.tolist()

    def _fit(self, embeds: Tensor, times: Tensor) -> bool:
        """Whether these can be what `keep_embeddings` is given for this video and model."""
        width = self._model.config.clip_config.projection_dim
        return (
            (embeds.dtype, times.dtype) == (torch.float32, torch.float64)
            and times.ndim == 1
            and 0 < len(times) <= len(self._source)
            and embeds.shape == (len(times), width)
            and bool(embeds.isfinite().all())
            and bool(times.isfinite().all() and (times.diff() > 0).all())
        )

    def keep_embeddings(self, embeds: Tensor, times: list[float]) -> None:
        """Keep `[N, D]` and the times of the frames for later sessions."""
        if self._cache is not None:
            seconds = torch.tensor(times, dtype=torch.float64, device="cpu")
            tensors = {"embeds": embeds, "times": seconds}
            texts = {
                "skipped": json.dumps(self._source.skipped),
                "notes": json.dumps(list(self._source.notes)),
            }
            self._cache.store("embeddings", self._embeddings_key, tensors, texts)

    def for_clip(self, batch: int) -> Iterator[Batch]:
        """All frames for CLIP, in batches."""

        def resize(frames: list[np.ndarray]) -> Tensor:
            return self._model.clip_pixels([seen_by_clip(frame) for frame in frames])

        yield from self._decode(batch, resize)

    def for_siglip(
        self, batch: int, times: list[float], shown: Collection[int] = ()
    ) -> Iterator[Batch]:
        """All frames for SigLIP, in batches; `times` are those of the frames, `shown` the numbers
        of frames whose picture is wanted in its own size, which only decoding gives."""
        spool = self._complete_spool(len(times))
        if spool is not None and not shown:
            yield from spooled(spool, times, batch, self._model.siglip_pixels)
            return
        if self._decoded and not shown:
            self._reread = [f"the video is decoded again for its patches: {self._why_not()}"]
        yield from self._decode(batch, self._model.siglip_pixels, shown)

    def _decode(self, batch: int, resize: Resize, shown: Collection[int] = ()) -> Iterator[Batch]:
        self._decoded += 1
        spool = None if self._refused or self._spool is not None else self._new_spool()
        finished = False
        try:
            yield from decoded(
                self._source,
                batch,
                resize,
                shown=shown,
                spool=spool,
                shrink=lambda image: siglip_levels(image, self._side),
            )
            finished = True
        finally:
            if spool is not None:
                self._take(spool, finished)

    def _new_spool(self) -> Spool:
        if self._cache is None:
            return Spool(self._side, len(self._source))
        return self._cache.new_spool(self._frames_key, self._side, len(self._source))

    def _take(self, spool: Spool, finished: bool) -> None:
        """Keep a spool that has all frames; forget any other."""
        if not finished:
            spool.abandon()
        elif spool.finish():
            self._spool = spool
            if self._cache is not None:
                self._cache.keep(self._frames_key, spool)
        else:
            self._refused = spool.failed

    def _complete_spool(self, count: int) -> Spool | None:
        if self._spool is None and self._cache is not None and not self._refused:
            self._spool = self._cache.spool(self._frames_key, self._side, count)
        return self._spool

    def _why_not(self) -> str:
        return f"its frames are not on disk ({self._refused or 'reading was interrupted'})"

    @cached_property
    def _identified(self) -> tuple[Cache | None, str]:
        """The cache and what its names say of the content; no cache for what cannot be read whole,
        such as a folder with one unreadable picture, which decoding would leave out."""
        if self._given_cache is None:
            return None, ""
        try:
            return self._given_cache, self._source.fingerprint(self._show_hashing)
        except (OSError, ValueError, SyntaxError, MemoryError):
            return None, ""

    @cached_property
    def _show_hashing(self) -> Callable[[int, int], None]:
        start = time.monotonic()

        def show(done: int, total: int) -> None:
            # A bar that is gone at once only flickers.
            if self._progress is not None and time.monotonic() - start > SHOWN_AFTER:
                self._progress("hash", done, total)

        return show

    @property
    def _cache(self) -> Cache | None:
        return self._identified[0]

    @property
    def _content(self) -> str:
        return self._identified[1]

    @property
    def _embeddings_key(self) -> str:
        autocast = autocast_dtype(self._model.device)
        return key("embeddings", self._content, self._selector, autocast)

    @cached_property
    def _selector(self) -> str:
        return self._model.selector_fingerprint()

    @cached_property
    def _frames_key(self) -> str:
        return key("frames", self._content, self._side)


def _lines(text: str | None) -> list[str]:
    """A list of notes that was kept as JSON; anything else is none."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [line for line in found if isinstance(line, str)] if isinstance(found, list) else []
