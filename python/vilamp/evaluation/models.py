"""What a model must be able to do to be measured, and this package's own model in that form."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from ..method import PAPER, Method
from ..precision import precision_name
from ..video import FrameSource

if TYPE_CHECKING:
    from ..model import ViLAMP
    from ..session import VideoSession


@dataclass(frozen=True)
class Question:
    """What is asked of a video."""

    text: str
    """The whole prompt, answer options included."""
    query: str | None = None
    """What frames are ranked by, for models that rank them; the text when None."""


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    frames: list[int] = field(default_factory=list)
    """Numbers, ascending, of the sampled frames that the model saw in full."""


class VideoModel(Protocol):
    """A model that can be measured: it answers questions about a video."""

    name: str
    """Tells it from others in tables and figures."""

    def settings(self) -> dict[str, Any]:
        """What its answers depend on, as JSON values: a run goes on only with the same."""
        ...

    def answers(self, video: FrameSource, questions: Sequence[Question]) -> Iterator[Reply]:
        """One reply per question, in order, each as soon as it is there.

        Raises:
            VideoError: the video cannot be read.
        """
        ...


SAMPLED = 256
"""Numbers of each weight that `weights_fingerprint` looks at."""


def weights_fingerprint(model: nn.Module) -> str:
    """Tells one set of weights from another: from some numbers of each, so that it takes no time.

    Not a guard against someone who wants two models to look alike.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        some = flat[:: max(1, flat.numel() // SAMPLED)].cpu().contiguous().view(torch.uint8)
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(some.numpy().tobytes())
    return digest.hexdigest()[:16]


def _given(method: Method) -> dict[str, Any]:
    """The settings of a method that are not left to the model."""
    return {name: value for name, value in asdict(method).items() if value is not None}


class ViLAMPVideoModel:
    """This package's model; questions about one video share its sweeps.

    Args:
        model: from `ViLAMP.from_pretrained`.
        name: in tables and figures.
        max_new_tokens: longest answer.
        options: of `model.session`, such as `method`, `keyframes`, `batch` or `cache`.
    """

    def __init__(
        self, model: ViLAMP, name: str = "ViLAMP", max_new_tokens: int = 64, **options: Any
    ):
        self.model, self.name, self.max_new_tokens = model, name, max_new_tokens
        self.options = options

    def settings(self) -> dict[str, Any]:
        method = self.options.get("method", PAPER)
        keyframes = self.options.get("keyframes") or method.keyframes
        return {
            "weights": weights_fingerprint(self.model),
            "compat": self.model.config.compat,
            "dtype": precision_name(self.model.dtype, self.model.device),
            "keyframes": keyframes or self.model.config.keyframes,
            "method": _given(method),
            "max_new_tokens": self.max_new_tokens,
        }

    def session(self, video: FrameSource) -> VideoSession:
        """A session on the video, with the options."""
        return self.model.session(video, **self.options)

    def answers(self, video: FrameSource, questions: Sequence[Question]) -> Iterator[Reply]:
        texts = [question.text for question in questions]
        queries = [question.query for question in questions]
        # What the session holds on disk and in memory is not kept for the next video.
        with self.session(video) as session:
            for answer in session.answers(
                texts, queries=queries, max_new_tokens=self.max_new_tokens
            ):
                frames = [keyframe.index for keyframe in answer.selection.keyframes]
                yield Reply(answer.text, frames)
