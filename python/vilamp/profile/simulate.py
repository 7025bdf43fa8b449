"""A question about a video of any length, run without weights and without computing anything.

The model's own code runs on fake tensors under a `Meter`: what is allocated here is what a device
would allocate for the same calls. The order of the calls, and what is kept between them, is that of
`vilamp.session`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..generate import PREFILL_CHUNK
from ..keyframes import Selection
from ..model import ViLAMP
from ..prompt import IMAGE_TOKEN_ID
from ..sweeps import RESIZED_AHEAD
from ..visual_tokens import VisualTokens
from . import workspace
from .folding import Folding
from .meter import Meter, Reading, Workspace

PHASES = ("embed", "select", "merge", "prefill", "decode")
SWEEPS = ("embed", "merge", "answer")
"""What progress is shown of."""
PROMPT_BEFORE, PROMPT_AFTER = 14, 26
"""Tokens on both sides of the video, with a question of some 20 tokens."""
AHEAD = RESIZED_AHEAD + 1
"""Batches of pixels that wait for the model: in the queue, and in the hand of who fills it."""
STEPS = 3
"""New tokens that are run; the others take what the last of these took."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """How the model is used."""

    batch: int = 16
    """Frames that a vision tower is given at once; `VideoSession`'s default."""
    prefill_chunk: int = PREFILL_CHUNK
    release_towers: bool = False
    """CLIP leaves the device before the second sweep, SigLIP, projector and maps before the prompt
    is read."""
    new_tokens: int = 64
    keyframes: int | None = None
    """Budget of keyframes; the model's when None."""
    questions: int = 1
    """Asked together: both sweeps are shared, the tokens of all wait for the answers."""


@dataclass
class Simulation:
    """Bytes and products of one question about a video."""

    frames: int
    tokens: int = 0
    """Of the prompt, the video's included."""
    weights: int = 0
    """Bytes of all weights."""
    cache: int = 0
    """Bytes of the key-value cache."""
    peaks: dict[str, int] = field(default_factory=dict)
    """Most bytes held at once in each phase, weights included."""
    flops: dict[str, int] = field(default_factory=dict)
    """Of each phase, 2 per multiply-add."""

    @property
    def peak(self) -> int:
        return max(self.peaks.values(), default=self.weights)

    @property
    def total_flops(self) -> int:
        return sum(self.flops.values())


class Simulator:
    """Simulates videos of any length for one model.

    Args:
        model: from `full_size.without_weights`.
        settings: how it is used.
        fold: count repeated batches instead of running them.
        kernels: what the ops of this package need while they run, see `vilamp.profile.workspace`.
        threads: count the pixels that other threads make ready; torch's profiler, to compare with,
            does not see those.
    """

    def __init__(
        self,
        model: ViLAMP,
        settings: Settings | None = None,
        *,
        fold: bool = True,
        kernels: Workspace = workspace.gpu,
        threads: bool = True,
    ):
        self.model = model
        self.settings = settings or Settings()
        self._folding = Folding(fold)
        self._kernels = kernels
        self._threads = threads

    @torch.no_grad()
    def run(self, frames: int, progress: Progress | None = None) -> Simulation:
        """One question about a video of so many frames (0: the model alone, at rest).

        Args:
            progress: called as `progress(phase, done, total)`, in frames or tokens.
        """
        meter = Meter(workspace=self._kernels)
        meter.track(*self.model.parameters(), *self.model.buffers())
        found = Simulation(frames, weights=meter.held)
        if frames:
            # What is real is on the host, wherever PyTorch makes tensors by default.
            with torch.device("cpu"), meter:
                run = _Run(self.model, self.settings, self._folding, meter, found, progress)
                run.threads = self._threads
                run.all()
        return found


class _Run:
    """One pass through all phases."""

    threads = True

    def __init__(
        self,
        model: ViLAMP,
        settings: Settings,
        folding: Folding,
        meter: Meter,
        found: Simulation,
        progress: Progress | None,
    ):
        self.model, self.settings, self.folding = model, settings, folding
        self.meter, self.found = meter, found
        self.progress = progress or (lambda phase, done, total: None)

    def all(self) -> None:
        with _Phase(self, "embed"):
            embeds = self.embed()
        with _Phase(self, "select"):
            # As many tokens as a question has that fills CLIP's context.
            context = self.model.config.clip_config.text_config.max_position_embeddings
            text = torch.zeros((1, context), dtype=torch.int64)
            # One after the other, as in a session.
            each = [self.model.embed_question(text) for _ in range(self.settings.questions)]
            question = torch.cat(each)
            selection = self.model.select(embeds, question, self.settings.keyframes)
        self.release(self.model.frame_selector)
        with _Phase(self, "merge"):
            visuals = self.merge(question, selection)
        self.release(*self.model.vision_modules())
        # The first is the one that has the others waiting beside it.
        self.answer(visuals[0])

    def embed(self) -> Tensor:
        size = self.model.config.clip_config.vision_config.image_size
        embeds = []
        waiting = self.pixels(AHEAD * self.settings.batch, size, torch.float32)
        for start, stop in self.batches("embed"):
            parts = self.pixels(stop - start, size, waiting.dtype)
            embeds.append(self.read("embed", self.model.embed_frames, parts))
            del parts
        return torch.cat(embeds)

    def release(self, *modules: nn.Module) -> None:
        if self.settings.release_towers:
            for module in modules:
                self.meter.release(*module.parameters(), *module.buffers())

    def merge(self, question: Tensor, selection: Selection) -> list[Tensor]:
        size = self.model.config.vision_config.image_size
        merger = self.model.merger(question, selection)
        visuals = [
            VisualTokens(self.model, indices, self.found.frames) for indices in selection.indices
        ]
        waiting = self.pixels(AHEAD * self.settings.batch, size, self.model.dtype)
        for start, stop in self.batches("merge"):
            parts = self.pixels(stop - start, size, waiting.dtype)
            patches = self.read("patches", self.model.patches, parts)
            merged = merger.push(patches, start)
            for tokens, visual in zip(merged, visuals, strict=True):
                visual.add(start, patches, tokens)
            del parts, patches, merged, tokens
        return [visual.tokens for visual in visuals]

    def pixels(self, n: int, size: int, dtype: torch.dtype) -> Tensor:
        """Frames as a tower wants them; one tensor has the bytes of as many as there are frames."""
        made = self.meter.empty(n, 3, size, size, dtype=dtype)
        if not self.threads:
            self.meter.release(made)
        return made

    def read(self, name: str, tower: Callable[[Tensor], Tensor], parts: Tensor) -> Tensor:
        """A batch through a tower; its frames are joined for it."""
        return self.folding.run(self.meter, (name, len(parts)), lambda: tower(torch.cat([parts])))

    def answer(self, visual: Tensor) -> None:
        """Prompt and answer; what is read of the new tokens ends each phase."""
        text = self.model.config.text_config
        before, after = [1] * PROMPT_BEFORE, [1] * PROMPT_AFTER
        ids = torch.tensor([[*before, IMAGE_TOKEN_ID, *after]])
        phases = iter((_Phase(self, "prefill"), *(_Phase(self, "decode") for _ in range(STEPS))))
        phase = next(phases)
        phase.__enter__()
        steps: list[tuple[Reading, int]] = []

        def next_phase(token: int) -> None:
            nonlocal phase
            phase.__exit__()
            steps.append((self.meter.now, self.meter.held))
            self.progress("answer", len(steps), min(STEPS, self.settings.new_tokens))
            if len(steps) > STEPS:
                raise _Enough
            phase = next(phases)
            phase.__enter__()

        self.progress("answer", 0, min(STEPS, self.settings.new_tokens))
        embeds = self.model.assemble(ids, visual)
        length = embeds.shape[1] + self.settings.new_tokens
        width = text.hidden_size // text.num_attention_heads
        states = text.num_hidden_layers * 2 * text.num_key_value_heads * width
        self.found.tokens = embeds.shape[1]
        self.found.cache = states * length * embeds.element_size()
        try:
            self.model.decode(
                embeds,
                self.settings.new_tokens,
                on_token=next_phase,
                prefill_chunk=self.settings.prefill_chunk,
            )
        except _Enough:
            # Further steps are like the last one, each on top of the logits of those before it.
            left = max(0, self.settings.new_tokens - 1 - STEPS)
            (_, held), (last, after_last) = steps[-2:]
            self.found.peaks["decode"] += left * (after_last - held)
            self.found.flops["decode"] += left * last.flops

    def batches(self, phase: str) -> list[tuple[int, int]]:
        n, batch = self.found.frames, self.settings.batch
        for start in range(0, n, batch):
            self.progress(phase, start, n)
            yield start, min(start + batch, n)
        self.progress(phase, n, n)


class _Phase:
    """What happens inside `with` goes to a phase of the result."""

    def __init__(self, run: _Run, name: str):
        self.run, self.name = run, name

    def __enter__(self) -> None:
        self.run.meter.start()

    def __exit__(self, *_: object) -> None:
        peaks, flops, now = self.run.found.peaks, self.run.found.flops, self.run.meter.now
        peaks[self.name] = max(peaks.get(self.name, 0), now.peak)
        flops[self.name] = flops.get(self.name, 0) + now.flops


class _Enough(Exception):
    """The steps that are run are over."""
