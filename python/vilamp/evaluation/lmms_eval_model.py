"""The model that lmms-eval runs: its requests, answered by sessions on videos.

    lmms-eval --model vilamp --model_args pretrained=FOLDER,dtype=bfloat16 --tasks mlvu_dev

Needs lmms-eval; `lmms_eval_plugin.py` registers it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms

from ..errors import InputError
from ..generate import check_options
from ..method import Method
from ..model import ViLAMP
from ..video import open_video
from .ranks import local_device

MAX_NEW_TOKENS = 64
"""Where a task names no longest answer."""

# Some tasks have the options in the question; frames are ranked by the question alone.
_OPTIONS = re.compile(r"\n\s*\(?A[).:]")


@dataclass(frozen=True)
class _Wanted:
    """How the answer to a request is made."""

    max_new_tokens: int
    temperature: float
    until: tuple[str, ...]


class ViLAMPForLmmsEval(lmms):
    """ViLAMP as a "simple" model of lmms-eval.

    Args:
        pretrained: model folder, hub id, or `default` for the small embedded model.
        device, dtype, compat: as in `ViLAMP.from_pretrained`.
        fps, sampling, max_frames: as in `vilamp.video.open_video`.
        keyframes, tower_batch, spool: as in `ViLAMP.session` (`tower_batch` is its `batch`).
        selector, merging, tau, alpha, lam: as in `vilamp.method`.
        batch_size: lmms-eval's; videos are read one at a time, so 1.
    Raises:
        InputError: an option that is not one of these, or cannot be used.
        CheckpointError: no such model.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "default",
        device: str | None = None,
        dtype: str | None = None,
        compat: str | None = None,
        fps: float = 1.0,
        sampling: str = "time",
        max_frames: int | None = None,
        keyframes: int | None = None,
        tower_batch: int | None = None,
        selector: str = "dks",
        merging: str = "dfm",
        tau: float | None = None,
        alpha: float | None = None,
        lam: float | None = None,
        spool: int | None = None,
        batch_size: int | str = 1,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise InputError(f"vilamp: no option {', '.join(sorted(unknown))}")
        if str(batch_size) != "1":
            raise InputError(
                f"vilamp: videos are read one at a time: batch_size 1, not {batch_size}"
            )
        self._model = ViLAMP.from_pretrained(
            pretrained, compat=compat, dtype=dtype, device=local_device() or device
        )
        self._device = self._model.device
        self._frames = {"fps": fps, "sampling": sampling, "max_frames": max_frames}
        method = Method(selector, merging, tau=tau, alpha=alpha, lam=lam)
        self._options = {"keyframes": keyframes, "method": method, "batch": tower_batch}
        if spool is not None:
            self._options["spool"] = spool

    @property
    def device(self) -> torch.device:
        """Where it runs; lmms-eval counts requests there."""
        return self._device

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Answers in the order of the requests; those about one video share its sweeps.

        Raises:
            InputError: a request without a video or pictures, or with an option that is not there.
            VideoError: a video cannot be read.
        """
        from tqdm import tqdm

        together: dict[Any, list[int]] = {}
        for number, request in enumerate(requests):
            visual = self._visual(request)
            # Pictures are told apart by their document, files by their name.
            own = visual if isinstance(visual, str) else (request.args[4], request.args[3])
            key = own, _wanted(request.args[1])
            together.setdefault(key, []).append(number)
        answers = [""] * len(requests)
        with tqdm(total=len(requests), disable=self.rank != 0, desc="ViLAMP") as bar:
            for (_, wanted), numbers in together.items():
                texts = self._answers([requests[number] for number in numbers], wanted)
                for number, text in zip(numbers, texts, strict=True):
                    answers[number] = text
                    arguments = requests[number].args
                    self.cache_hook.add_partial(
                        "generate_until", (arguments[0], arguments[1]), text
                    )
                    bar.update()
        return answers

    def loglikelihood(self, requests: Sequence[Instance]) -> NoReturn:
        """Not offered: answers are generated, as in the published evaluation."""
        raise NotImplementedError(
            "vilamp answers by generating: no log-likelihoods; take the task's generate_until form"
        )

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> NoReturn:
        """Not offered: a prompt is one turn about one video."""
        raise NotImplementedError("vilamp answers single questions: no tasks of several rounds")

    def _answers(self, requests: Sequence[Instance], wanted: _Wanted) -> list[str]:
        """Answers to requests about the same video."""
        video = open_video(self._visual(requests[0]), **self._frames)
        with self._model.session(video, **self._options) as session:
            found = session.answers(
                [request.args[0] for request in requests],
                queries=[self._query(request) for request in requests],
                max_new_tokens=wanted.max_new_tokens,
                do_sample=wanted.temperature > 0,
                temperature=wanted.temperature or 1.0,
            )
            return [_cut(answer.text, wanted.until) for answer in found]

    def _document(self, request: Instance) -> Any:
        _, _, _, number, task, split = request.args
        return self.task_dict[task][split][number]

    def _visual(self, request: Instance) -> Any:
        """A path, or a list of pictures."""
        found = request.args[2](self._document(request))
        found = list(found) if isinstance(found, (list, tuple)) else [found]
        if len(found) == 1 and isinstance(found[0], str):
            return found[0]
        if not found or any(isinstance(one, str) or not hasattr(one, "convert") for one in found):
            kinds = ", ".join(sorted({type(one).__name__ for one in found})) or "nothing"
            raise InputError(
                f"vilamp: {request.task_name}: wanted one video or some pictures, got {kinds}"
            )
        return found

    def _query(self, request: Instance) -> str | None:
        """The bare question of the document; None, for the whole prompt, where it has none."""
        document = self._document(request)
        question = document.get("question") if isinstance(document, Mapping) else None
        if not isinstance(question, str):
            return None
        return _OPTIONS.split(question, maxsplit=1)[0].strip() or None


def _wanted(given: Mapping[str, Any]) -> _Wanted:
    """The generation options of a task.

    Raises:
        InputError: beams, or a share of the words, which are not offered.
    """
    if (given.get("num_beams") or 1) != 1:
        raise InputError(f"vilamp: num_beams: wanted 1, got {given['num_beams']}")
    temperature = float(given.get("temperature") or 0)
    if not given.get("do_sample", temperature > 0):
        temperature = 0.0
    if temperature and (given.get("top_p") or 1) != 1:
        raise InputError(f"vilamp: top_p: wanted 1, got {given['top_p']}")
    longest = int(given.get("max_new_tokens") or MAX_NEW_TOKENS)
    check_options(longest, temperature > 0, temperature or 1.0)
    until = given.get("until") or ()
    return _Wanted(longest, temperature, (until,) if isinstance(until, str) else tuple(until))


def _cut(text: str, until: Sequence[str]) -> str:
    """The text up to the first of some marks."""
    for mark in until:
        # An empty mark would be everywhere.
        if mark:
            text = text.split(mark, 1)[0]
    return text.strip()
