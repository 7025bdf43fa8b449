"""`vilamp niah run`: a model, or several methods of one, on all cases of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vilamp.cli import options
from vilamp.cli.loading import DEFAULT_MODEL, load_model
from vilamp.cli.niah_options import methods_of
from vilamp.cli.options import Sampling, Settings, size
from vilamp.cli.output import note, print_json
from vilamp.cli.progress import ProgressBars
from vilamp.errors import InputError
from vilamp.limits import MOST_FRAMES, MOST_NEW_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vilamp.evaluation.models import VideoModel
    from vilamp.evaluation.shards import Shard
    from vilamp.niah.cases import Cases

METHODS = ("dks+dfm", "uniform+dfm", "dks+mean")


def run(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Of the cases, from `vilamp niah build`.")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="SELECTOR+MERGING",
            help=f"May be given several times. [default: {', '.join(METHODS)}]",
        ),
    ] = None,
    vlm: Annotated[
        Path | None,
        typer.Option(
            "--vlm", metavar="FOLDER", help="Instead, a transformers model with uniform frames."
        ),
    ] = None,
    vlm_frames: Annotated[
        int, typer.Option("--vlm-frames", min=1, max=MOST_FRAMES, help="Frames that it sees.")
    ] = 32,
    model: options.Model = "default",
    device: options.Device = None,
    dtype: options.Dtype = None,
    keyframes: options.Keyframes = None,
    compat: options.CompatOption = None,
    max_new_tokens: Annotated[
        int,
        typer.Option(
            "--max-new-tokens", min=1, max=MOST_NEW_TOKENS, help="Longest answer, in tokens."
        ),
    ] = 16,
    shard: Annotated[
        str, typer.Option("--shard", metavar="I/N", help="Only the I-th of N parts of the cases.")
    ] = "1/1",
    videos: Annotated[
        Path | None,
        typer.Option("--videos", metavar="FOLDER", help="Where the videos are now, if moved."),
    ] = None,
    rendered: Annotated[
        bool, typer.Option("--rendered", help="Read the real files of `build --mp4`.")
    ] = False,
    features: Annotated[
        str,
        typer.Option(
            "--features",
            metavar="SIZE",
            help="Disk for what the towers make of each frame, in FOLDER/features.",
        ),
    ] = "8GiB",
    batch: Annotated[
        int,
        typer.Option(
            "--batch", min=1, max=MOST_FRAMES, help="Frames that a vision tower is given at once."
        ),
    ] = 64,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Answer the questions of all cases; a run that was stopped goes on where it was."""
    settings = Settings.of(
        model=model,
        device=device,
        dtype=dtype,
        fps=1.0,
        max_frames=None,
        keyframes=keyframes,
        compat=compat,
        sampling=Sampling.TIME,
    )
    if videos is not None and not videos.is_dir():
        raise InputError(f"--videos: no such folder: {videos}")
    space = size(features, "--features")
    if vlm is not None and method:
        raise InputError("--vlm and --method: a transformers model has no method of ours")
    methods = methods_of(method or METHODS, keyframes)

    with ProgressBars() as bars:
        bars("load", 0, None)
        from vilamp.evaluation.shards import Shard
        from vilamp.niah.cases import read_cases

        part = Shard.parse(shard)
        cases = read_cases(folder, videos)
        if rendered and any(case.video is None for case in cases.cases):
            raise InputError(f"--rendered: {folder} has no file of each case; see `build --mp4`")
        if vlm is not None:
            from vilamp.evaluation.transformers_model import TransformersVideoModel

            models: Sequence[VideoModel] = [
                TransformersVideoModel(
                    vlm,
                    vlm_frames,
                    device=settings.device,
                    dtype=settings.dtype,
                    max_new_tokens=max_new_tokens,
                )
            ]
        else:
            from vilamp.cache import Cache
            from vilamp.niah.features import Features
            from vilamp.niah.methods import ours

            loaded = load_model(settings, bars)
            kept = Features(loaded, Cache(folder / "features", space), batch)
            models = ours(loaded, kept, methods, max_new_tokens, _details(settings))
        bars("load", 1, 1)
        found = [_run_one(one, cases, part, rendered, bars) for one in models]

    for entry in found:
        for name, reason in entry["failed"][:1]:
            note(f"{entry['model']}: {len(entry['failed'])} questions left out, {name}: {reason}")
    if json:
        print_json({"folder": str(folder), "shard": shard, "models": found})
        return
    for entry in found:
        print(f"{entry['model']}: {entry['right']:,} of {entry['answered']:,} right")


def _details(settings: Settings) -> list[str]:
    """What the names of methods do not tell, where it is not as it is by default: answers of
    several models may lie in one folder."""
    own = settings.model == DEFAULT_MODEL
    found = [None if own else Path(settings.model).name, settings.compat, settings.dtype]
    return [text for text in found if text]


def _run_one(
    model: VideoModel, cases: Cases, shard: Shard, rendered: bool, bars: ProgressBars
) -> dict:
    from vilamp.niah.playlist import Opened
    from vilamp.niah.running import FOLDER, run_model, title
    from vilamp.niah.tables import Share, read_results

    def progress(phase: str, done: int, total: int | None) -> None:
        bars(f"{phase}: {name}", done, total)

    folder, name = cases.folder / FOLDER, title(model, rendered)
    failed = run_model(
        model,
        cases,
        folder,
        shard,
        opened=Opened(cases.fps),
        rendered=rendered,
        progress=progress,
    )
    share = Share.of(row["right"] for found in read_results(folder, name) for row in found.rows)
    if failed and not share.count:
        # A note beside "0 of 0 right" would be easy to miss.
        raise InputError(f"{name}: no question could be answered, {failed[0][0]}: {failed[0][1]}")
    return {"model": name, "answered": share.count, "right": share.right, "failed": failed}
