"""`vilamp analyze`: where a model's attention goes in a video."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vilamp.cli import options
from vilamp.cli.loading import load_model, open_cache, open_frames
from vilamp.cli.options import Sampling, Settings, asked
from vilamp.cli.output import OutputFile, note, print_json
from vilamp.cli.progress import ProgressBars
from vilamp.errors import CheckpointError, InputError
from vilamp.limits import MOST_FRAMES

if TYPE_CHECKING:
    from vilamp.analysis.watched import Watch

FRAMES = 32
ANSWERS = "questions.jsonl"


def analyze(
    video: Annotated[
        str | None, typer.Argument(metavar="[VIDEO]", help="Video file, or a folder of images.")
    ] = None,
    question: Annotated[
        str | None, typer.Argument(metavar="[QUESTION]", help="What to ask of the video.")
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions",
            metavar="FILE.jsonl",
            help="Many questions instead: lines with video (a path beside the file) and question.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where figures and pictures go.")
    ] = Path("analysis"),
    model: options.Model = "default",
    frames: Annotated[
        int,
        typer.Option(
            "--frames",
            min=1,
            max=MOST_FRAMES,
            help="Evenly spaced frames that a model of transformers is given.",
        ),
    ] = FRAMES,
    device: options.Device = None,
    dtype: options.Dtype = None,
    fps: options.Fps = 1.0,
    max_frames: options.MaxFrames = None,
    keyframes: options.Keyframes = None,
    compat: options.CompatOption = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Measure which frames and patches hold a question's attention, over all layers and heads."""
    settings = Settings.of(
        model=model,
        device=device,
        dtype=dtype,
        fps=fps,
        max_frames=max_frames,
        keyframes=keyframes,
        compat=compat,
        sampling=Sampling.TIME,
    )
    groups = _groups(video, question, questions)
    # A list may be long: a broken video of it is told at its turn.
    if questions is None:
        open_frames(groups[0][0].video, settings)
    from vilamp.analysis.study import findings, require_findings, summary
    from vilamp.evaluation.results import Results
    from vilamp.evaluation.runner import run

    with ProgressBars() as bars:
        watch, facts = _watch(settings, frames, bars)
        kept = {**settings.as_dict(), **facts}
        # Where the computing is done changes no result, so a run may go on elsewhere.
        del kept["device"]
        with Results(out / ANSWERS, kept) as results:

            def work(group):
                found = watch(
                    open_frames(group[0].video, settings), [item.question for item in group]
                )
                for item, watched in zip(group, found, strict=True):
                    yield {
                        "video": item.video,
                        "question": item.question,
                        **findings(watched),
                    }

            failed = run(groups, lambda item: item.id, work, results, bars)
            wanted = {item.id for group in groups for item in group}
            rows = [row for row in results.rows if row["id"] in wanted]
    if not rows:
        raise InputError(f"analyze: no question could be studied, {failed[0][0]}: {failed[0][1]}")
    for _, reason in failed:
        note(reason)
    for row in rows:
        require_findings(row, out / ANSWERS)
    found = summary(rows)
    written = _write(out, rows, found)
    if json:
        print_json({"settings": kept, **found, "written": [str(path) for path in written]})
        return
    _print(found)
    for path in written:
        print(f"written: {path}", file=sys.stderr)


def _groups(video: str | None, question: str | None, questions: Path | None) -> list[list[Any]]:
    from vilamp.analysis.questions import Asked, listed

    if (questions is None) == (video is None or question is None) or (questions and video):
        raise InputError("wanted VIDEO and QUESTION, or --questions FILE.jsonl")
    if questions is not None:
        return listed(questions)
    text = asked(question)
    return [[Asked(f"{video}: {text}", video, text)]]


def _watch(settings: Settings, frames: int, bars: ProgressBars) -> tuple[Watch, dict[str, Any]]:
    """The model to watch, and what its results depend on."""
    from vilamp.analysis.watched import WatchedTransformers, WatchedViLAMP
    from vilamp.evaluation.models import weights_fingerprint

    if _kind(settings.model) in ("llava_onevision", "qwen2_vl", "qwen2_5_vl"):
        from vilamp.evaluation.transformers_model import TransformersVideoModel

        bars("load", 0, None)
        loaded = TransformersVideoModel(
            settings.model, frames, device=settings.device, dtype=settings.dtype
        )
        bars("load", 1, 1)
        return WatchedTransformers(loaded), loaded.settings()
    model = load_model(settings, bars)
    watch = WatchedViLAMP(
        model, keyframes=settings.keyframes, cache=open_cache(True), progress=bars
    )
    return watch, {"weights": weights_fingerprint(model)}


def _kind(model: str) -> str | None:
    """The model type that a folder's config states."""
    from vilamp.config_fields import read_json

    try:
        return read_json(Path(model) / "config.json").get("model_type")
    except (CheckpointError, OSError):
        return None


def _write(out: Path, rows: list[dict[str, Any]], found: dict[str, Any]) -> list[Path]:
    from importlib.util import find_spec

    from vilamp.analysis.tables import curves_csv, frames_csv, layers_csv

    files = {
        "frames.csv": frames_csv(rows),
        "layers.csv": layers_csv(rows),
        "curves.csv": curves_csv(found),
    }
    if find_spec("matplotlib") is None:
        note('no pictures: they need matplotlib: pip install "vilamp-kernels[plot]"')
    else:
        from vilamp.analysis.plot import curves_picture, frames_picture

        files |= {"curves.png": curves_picture(found), "frames.png": frames_picture(rows)}
    for name, content in files.items():
        OutputFile(out / name, "--out").write(content)
    return [out / name for name in files]


def _print(found: dict[str, Any]) -> None:
    def percent(name: str) -> str:
        return f"{100 * found[name]:.1f}%"

    lines = [
        f"{found['questions']} question{'s' * (found['questions'] != 1)}, means",
        f"{percent('on_video'):>7}  of a question's attention goes to the video",
        f"{percent('frames_for_90_share'):>7}  of the frames hold 90% of that "
        f"({percent('frames_for_90_by_head')} where each head ranks frames for itself)",
    ]
    if found["patches_for_80_share"] is not None:
        lines.append(f"{percent('patches_for_80_share'):>7}  of a frame's patches hold 80% of it")
    if found["likeness"]:
        top, random = found["likeness"]["top"], found["likeness"]["random"]
        lines.append(
            f"{top:>7.3f}  mean cosine between the frames that hold half of it, {random:.3f} "
            "between as many random ones"
        )
    print("\n".join(lines))
