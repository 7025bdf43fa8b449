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
from vilamp.cli.output import OutputFile, attempt, note, print_json, terminal_text
from vilamp.cli.progress import ProgressBars
from vilamp.errors import InputError, NotFiniteError, ViLAMPError
from vilamp.limits import LARGEST_TEMPERATURE, MOST_NEW_TOKENS
from vilamp.method import Method

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query",
            metavar="TEXT",
            help="Rank frames by this, not by the question; one for all questions or one for each.",
        ),
    ] = None,
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
    queries = _queries(query or [], len(questions))
    spool_bytes = size(spool, "--spool")
    frames_at_once, most_bytes = batch_size(batch), budget_bytes(budget)
    output = OutputFile(report, "--report", video) if report else None

    frames = open_frames(video, settings)
    answers: list[Answer] = []
    failed: Exception | None = None
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
            stream = AnswerStream(bars, titled=len(questions) > 1, needed=output is None)
            found = session.answers(
                questions,
                queries=queries,
                max_new_tokens=max_new_tokens,
                do_sample=temperature > 0,
                temperature=temperature or 1.0,
                seed=seed,
                on_question=None if json else stream.begin,
                on_text=None if json else stream,
                illustrate=_worth_showing if output else None,
            )
            try:
                for answer in found:
                    answers.append(answer)
                    if not json:
                        stream(f"\n\n{keyframe_lines(answer.selection.keyframes)}\n")
            except ViLAMPError as error:
                # A later question failed: what was answered before is delivered all the same.
                failed = _of_question(error, questions)
                if not answers:
                    raise failed from error

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
    written = False
    if output:
        given = {"query": query, **used}
        given = {name: value for name, value in given.items() if value is not None}
        about = {**model_as_dict(model, loaded), **given}
        # The answer is printed all the same where a disk is full.
        unwritten = attempt(_write_report, output, frames, answers, about)
        written, failed = unwritten is None, failed or unwritten
    if json:
        shared = {
            "video": frames_as_dict(frames, answers[0].selection),
            "model": model_as_dict(model, loaded),
            "settings": used,
            "memory": memory_as_dict(session.plan),
            "notes": session.notes,
            "report": str(output.path) if written else None,
        }
        each = [
            _as_dict(answer, ranked_by or answer.question)
            for answer, ranked_by in zip(answers, queries, strict=False)
        ]
        stream.failed = attempt(
            print_json, {**each[0], **shared} if len(queries) == 1 else {"answers": each, **shared}
        )
    say_notes(settings, frames.skipped, session.notes)
    if written and not json:
        print(f"report: {output.path}", file=sys.stderr)
    if stream.failed and not isinstance(stream.failed, BrokenPipeError):
        # Hours of work may be in it, and stderr is what is left to say it on.
        for answer in answers:
            note(f"the answer to {answer.question!r} is: {answer.text}")
    if failed or stream.failed:
        raise failed or stream.failed


def _queries(given: list[str], questions: int) -> list[str | None]:
    """For each question the text that frames are ranked by; None for the question itself.

    Raises:
        InputError: one is empty, or there is neither one for all nor one for each.
    """
    texts = [asked(text, "--query") for text in given]
    if len(texts) not in (0, 1, questions):
        raise InputError(
            f"--query: wanted one for all questions or one for each of {questions}, "
            f"got {len(texts)}"
        )
    return texts if len(texts) == questions else (texts or [None]) * questions


def _as_dict(answer: Answer, query: str) -> dict[str, object]:
    return {
        "question": answer.question,
        "query": query,
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

    Args:
        titled: whether each answer is printed under its question.
        needed: whether the work ends when nobody reads stdout any more; else it goes on for what
            is written elsewhere.

    `failed` is the error that keeps answers from being printed, None while there is none.
    """

    def __init__(self, bars: ProgressBars, titled: bool = False, needed: bool = True) -> None:
        self._bars, self._titled, self._needed = bars, titled, needed
        self._first = True
        self.failed: OSError | None = None

    def begin(self, question: str) -> None:
        """The next answer is to this question."""
        if self._titled:
            self("" if self._first else "\n")
            self(f"{question}\n")
        self._first = False

    def __call__(self, piece: str) -> None:
        """Print one piece of the answer at once."""
        self._bars.close()
        if self.failed is None:
            try:
                sys.stdout.write(terminal_text(piece))
                sys.stdout.flush()
            except OSError as error:
                self.failed = error
                if self._needed and isinstance(error, BrokenPipeError):
                    raise


def _worth_showing(selection: SelectionResult) -> list[int]:
    from vilamp.report import merged_frames

    return merged_frames(selection)


def _of_question(error: ViLAMPError, questions: Sequence[str]) -> ViLAMPError:
    """The error with the question that it concerns, if that is one of several."""
    if not isinstance(error, NotFiniteError) or error.question is None or len(questions) == 1:
        return error
    return NotFiniteError(f"{questions[error.question]!r}: {error}", error.question)


def _write_report(
    output: OutputFile, frames: FrameSource, answers: list[Answer], settings: dict[str, object]
) -> None:
    from vilamp.report import Exchange, Report, page

    html = page(Report.of(frames, [Exchange(answer) for answer in answers], settings))
    output.write(html.encode("utf-8", "replace"))
