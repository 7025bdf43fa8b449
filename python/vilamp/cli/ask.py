"""`vilamp ask`: a question about a video, its answer, and where in the video it comes from."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vilamp.cli import options
from vilamp.cli.describe import (
    frames_as_dict,
    keyframe_lines,
    keyframes_as_dicts,
    memory_as_dict,
    model_as_dict,
)
from vilamp.cli.loading import load_model, open_cache, open_frames, say_notes
from vilamp.cli.options import Sampling, Settings, asked, batch_size, budget_bytes, size
from vilamp.cli.output import OutputFile, print_json, terminal_text
from vilamp.cli.progress import ProgressBars
from vilamp.limits import LARGEST_TEMPERATURE, MOST_NEW_TOKENS
from vilamp.method import Method

if TYPE_CHECKING:
    from vilamp.session import Answer, SelectionResult
    from vilamp.video import FrameSource


def ask(
    video: options.Video,
    questions: Annotated[
        list[str],
        typer.Argument(
            metavar="QUESTION...",
            help="What to ask of the video; several questions share the reading of it.",
        ),
    ],
    model: options.Model = "default",
    device: options.Device = None,
    dtype: options.Dtype = None,
    fps: options.Fps = 1.0,
    max_frames: options.MaxFrames = None,
    keyframes: options.Keyframes = None,
    selector: options.Selector = "dks",
    merging: options.Merging = "dfm",
    tau: options.Tau = None,
    alpha: options.Alpha = None,
    lam: options.Lam = None,
    sampling: options.SamplingOption = Sampling.TIME,
    compat: options.CompatOption = None,
    max_new_tokens: Annotated[
        int,
        typer.Option(
            "--max-new-tokens", min=1, max=MOST_NEW_TOKENS, help="Longest answer, in tokens."
        ),
    ] = 64,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            min=0,
            max=LARGEST_TEMPERATURE,
            help="Above 0: draw words at random; 0: take the likeliest.",
        ),
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            min=0,
            max=2**63 - 1,
            help="Seed of that drawing: same seed, same answer.",
        ),
    ] = 0,
    batch: options.Batch = "auto",
    budget: options.Budget = None,
    release_towers: options.ReleaseTowers = None,
    spool: options.Spool = "2GiB",
    cache: options.CacheOption = True,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="OUT.html", help="Write a page that shows the work."),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Answer questions about a video, with the times of the keyframes."""
    settings = Settings.of(
        model=model,
        device=device,
        dtype=dtype,
        fps=fps,
        max_frames=max_frames,
        keyframes=keyframes,
        compat=compat,
        sampling=sampling,
    )
    method = Method(selector, merging, tau=tau, alpha=alpha, lam=lam)
    questions = [asked(question) for question in questions]
    spool_bytes = size(spool, "--spool")
    frames_at_once, most_bytes = batch_size(batch), budget_bytes(budget)
    output = OutputFile(report, "--report", video) if report else None

    frames = open_frames(video, settings)
    answers = []
    with ProgressBars() as bars:
        loaded = load_model(settings, bars)
        session = loaded.session(
            frames,
            keyframes=settings.keyframes,
            method=method,
            batch=frames_at_once,
            budget=most_bytes,
            release_towers=release_towers,
            spool=spool_bytes,
            cache=open_cache(cache),
            progress=bars,
        )
        with session:
            stream = AnswerStream(bars, titled=len(questions) > 1)
            for answer in session.answers(
                questions,
                max_new_tokens=max_new_tokens,
                do_sample=temperature > 0,
                temperature=temperature or 1.0,
                seed=seed,
                on_question=None if json else stream.begin,
                on_text=None if json else stream,
                illustrate=_worth_showing if output else None,
            ):
                answers.append(answer)
                if not json:
                    print(f"\n\n{keyframe_lines(answer.selection.keyframes)}")

    used = {
        **asdict(method),
        **settings.as_dict(),
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
        "batch": frames_at_once,
        "budget": most_bytes,
        "release_towers": release_towers,
        "spool": spool_bytes,
        "cache": cache,
    }
    if output:
        given = {name: value for name, value in used.items() if value is not None}
        _write_report(output, frames, answers, {**model_as_dict(model, loaded), **given})
    if json:
        shared = {
            "video": frames_as_dict(frames, answers[0].selection),
            "model": model_as_dict(model, loaded),
            "settings": used,
            "memory": memory_as_dict(session.plan),
            "notes": session.notes,
            "report": str(output.path) if output else None,
        }
        found = [_as_dict(answer) for answer in answers]
        print_json({**found[0], **shared} if len(found) == 1 else {"answers": found, **shared})
    say_notes(settings, frames.skipped, session.notes)
    if output and not json:
        print(f"report: {output.path}", file=sys.stderr)


def _as_dict(answer: Answer) -> dict[str, object]:
    return {
        "question": answer.question,
        "answer": answer.text,
        "keyframes": keyframes_as_dicts(answer.selection.keyframes),
        "tokens": {
            "video": answer.visual_tokens,
            "prompt": answer.prompt_tokens,
            "answer": answer.new_tokens,
        },
        "timings": answer.timings,
    }


class AnswerStream:
    """Prints answers as they are generated; the bars leave the screen before the first piece.

    `titled`: each under its question.
    """

    def __init__(self, bars: ProgressBars, titled: bool = False) -> None:
        self._bars, self._titled = bars, titled
        self._first = True

    def begin(self, question: str) -> None:
        """The next answer is to this question."""
        if self._titled:
            self("" if self._first else "\n")
            self(f"{question}\n")
        self._first = False

    def __call__(self, piece: str) -> None:
        """Print one piece of the answer at once."""
        self._bars.close()
        sys.stdout.write(terminal_text(piece))
        sys.stdout.flush()


def _worth_showing(selection: SelectionResult) -> list[int]:
    from vilamp.report import merged_frames

    return merged_frames(selection)


def _write_report(
    output: OutputFile, frames: FrameSource, answers: list[Answer], settings: dict[str, object]
) -> None:
    from vilamp.report import Exchange, Report, page

    html = page(Report.of(frames, [Exchange(answer) for answer in answers], settings))
    output.write(html.encode("utf-8", "replace"))
