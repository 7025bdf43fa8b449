"""This package's model on features that are kept: a play list is not looked at again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor

from ..evaluation.models import ViLAMPVideoModel
from ..model import ViLAMP
from ..session import VideoSession
from ..sweeps import Batch
from ..video import FrameSource
from .features import Features
from .playlist import Playlist


class FeatureSession(VideoSession):
    """A session on a play list whose features are kept, or will be."""

    def __init__(self, model: ViLAMP, playlist: Playlist, features: Features, **options: Any):
        # No frame is decoded for the second sweep, so none has to wait for it.
        super().__init__(model, playlist, spool=0, **options)
        self._playlist, self._features = playlist, features

    def _embeddings(self) -> Tensor:
        if self._embeds is None:
            total = len(self._playlist)
            self._progress("embed", 0, total)
            found = []
            for embeds, _ in self._parts():
                found.append(embeds)
                self._progress("embed", sum(map(len, found)), total)
            self._embeds = torch.cat(found)
            self._times = [k / self._playlist.fps for k in range(total)]
        return self._embeds

    def _patches(self, shown: Collection[int]) -> Iterator[tuple[Batch, Tensor]]:
        if shown:
            yield from super()._patches(shown)
            return
        start, total = 0, len(self._playlist)
        self._progress("merge", 0, total)
        for _, patches in self._parts():
            stop = start + len(patches)
            yield Batch(start, self._times[start:stop], []), patches
            start = stop
            self._progress("merge", start, total)

    def _parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        playlist = self._playlist
        for piece in playlist.pieces:
            yield from self._features.parts(playlist.opened, piece, playlist.size)


class FeatureViLAMP(ViLAMPVideoModel):
    """As `ViLAMPVideoModel`; play lists are answered from kept features where these have room."""

    def __init__(self, model: ViLAMP, features: Features, **options: Any):
        super().__init__(model, **options)
        self._features = features

    def session(self, video: FrameSource) -> VideoSession:
        if isinstance(video, Playlist) and self._features.fits(video):
            return FeatureSession(self.model, video, self._features, **self.options)
        return super().session(video)
