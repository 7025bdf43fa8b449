"""A model that answers without weights: it reads the real frames and ranks them by brightness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
from vilamp.session import Answer, Illustration, Keyframe, SelectionResult
from vilamp.video import FrameSource


class FakeModel:
    """Stands for `vilamp.model.ViLAMP` where only the command line is looked at."""

    config = SimpleNamespace(compat="paper", keyframes=3)
    device, dtype = "cpu", "torch.float32"

    def __init__(self, text: str = "a <b>bright</b>\x1b[31m frame") -> None:
        self.text = text
        self.loaded_with: dict[str, object] = {}
        self.asked_with: dict[str, object] = {}

    def from_pretrained(self, name: str, **options: object) -> FakeModel:
        self.loaded_with = {"name": name, **options}
        return self

    def session(
        self,
        source: FrameSource,
        *,
        keyframes: int | None = None,
        progress: Callable[[str, int, int | None], None],
        **reading: object,
    ) -> FakeSession:
        self.read_with = reading
        return FakeSession(self, source, keyframes or self.config.keyframes, progress)


class FakeSession:
    """Stands for `vilamp.session.VideoSession`."""

    def __init__(self, model: FakeModel, source: FrameSource, budget: int, progress) -> None:
        self.model, self.source, self.budget, self.progress = model, source, budget, progress

    def select(self, question: str) -> SelectionResult:
        frames = list(self.source)
        self.progress("embed", len(frames), len(frames))
        scores = [float(frame.image.mean()) / 255 for frame in frames]
        best = sorted(np.argsort(scores, kind="stable")[::-1][: self.budget].tolist())
        keyframes = [Keyframe(n, frames[n].time, scores[n], "score") for n in best]
        return SelectionResult(question, keyframes, scores, [frame.time for frame in frames])

    notes = ()
    plan = SimpleNamespace(peak=1, batch=16, prefill_chunk=1024, release_towers=False)

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def answers(
        self,
        questions: list[str],
        *,
        queries: list[str | None] | None = None,
        on_question: Callable[[str], None] | None = None,
        **options: object,
    ) -> Iterator[Answer]:
        self.model.queries = queries
        for question in questions:
            if on_question:
                on_question(question)
            yield self._answer(question, **options)

    def ask(self, question: str, **options: object) -> Answer:
        (answer,) = self.answers([question], **options)
        return answer

    def _answer(
        self,
        question: str,
        *,
        max_new_tokens: int = 64,
        on_text: Callable[[str], None] | None = None,
        illustrate: Callable[[SelectionResult], list[int]] | None = None,
        **sampling: object,
    ) -> Answer:
        self.model.asked_with = sampling
        selection = self.select(question)
        for piece in self.model.text.split(" ") if on_text else ():
            on_text(piece + " ")
        shown = {keyframe.index: None for keyframe in selection.keyframes}
        for index in illustrate(selection) if illustrate else ():
            shown[index] = np.full((3, 3), 1 / 9, dtype=np.float32)
        return Answer(
            question=question,
            text=self.model.text,
            selection=selection,
            visual_tokens=20,
            prompt_tokens=30,
            new_tokens=min(4, max_new_tokens),
            timings={"embed": 0.1, "answer": float("nan")},
            illustrations=[
                Illustration(frame, shown[frame.index])
                for frame in self.source
                if illustrate and frame.index in shown
            ],
        )
