"""`vilamp eval BENCHMARK`: ask its questions, keep the answers, print the score."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vilamp.cli import options
from vilamp.cli.eval_report import print_lines, say_what_counts
from vilamp.cli.loading import load_model, say_notes
from vilamp.cli.options import Sampling, Settings, batch_size, budget_bytes, size
from vilamp.cli.output import OutputFile, note, print_json
from vilamp.cli.progress import ProgressBars
from vilamp.errors import InputError
from vilamp.limits import MOST_FRAMES, MOST_NEW_TOKENS
from vilamp.method import Method

if TYPE_CHECKING:
    from vilamp.evaluation.benchmarks.report import Line
    from vilamp.evaluation.benchmarks.running import Plan
    from vilamp.evaluation.models import VideoModel

Data = Annotated[
    Path, typer.Option("--data", metavar="FOLDER", help="Where the benchmark is, as released.")
]
Videos = Annotated[
    Path | None,
    typer.Option("--videos", metavar="FOLDER", help="Where its videos are, if not in there."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Where the answers go. [default: eval/NAME]"),
]
Split = Annotated[
    str | None, typer.Option("--split", help="Which questions. [default: the usual ones]")
]
WithSubtitles = Annotated[bool, typer.Option("--subtitles", help="Put them into the prompts.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first so many questions.")
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only the I-th of N parts of the videos. [default: torchrun's, else 1/1]",
    ),
]
Name = Annotated[
    str | None, typer.Option("--name", help="Of the model, in tables. [default: its folder's]")
]
Vlm = Annotated[
    Path | None,
    typer.Option("--vlm", metavar="FOLDER", help="Instead, a transformers model, uniform frames."),
]
VlmFrames = Annotated[
    int, typer.Option("--vlm-frames", min=1, max=MOST_FRAMES, help="Frames that it sees.")
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens",
        min=1,
        max=MOST_NEW_TOKENS,
        help="Longest answer, in tokens. [default: the benchmark's]",
    ),
]


def command_for(name: str) -> Callable[..., None]:
    """The command of one benchmark; all have the same options."""

    def command(
        data: Data,
        videos: Videos = None,
        out: Out = None,
        split: Split = None,
        subtitles: WithSubtitles = False,
        limit: Limit = None,
        shard: ShardOption = None,
        model: options.Model = "default",
        name_: Name = None,
        vlm: Vlm = None,
        vlm_frames: VlmFrames = 32,
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
        max_new_tokens: MaxNewTokens = None,
        batch: options.Batch = "auto",
        budget: options.Budget = None,
        release_towers: options.ReleaseTowers = None,
        spool: options.Spool = "2GiB",
        json: options.Json = False,
        debug: options.Debug = False,
    ) -> None:
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
        _run(
            name,
            settings,
            data=data,
            videos=videos,
            out=out or Path("eval") / name,
            split=split,
            subtitles=subtitles,
            limit=limit,
            shard=shard,
            name=name_,
            vlm=vlm,
            vlm_frames=vlm_frames,
            max_new_tokens=max_new_tokens,
            json=json,
            method=Method(selector, merging, tau=tau, alpha=alpha, lam=lam),
            batch=batch_size(batch),
            budget=budget_bytes(budget),
            release_towers=release_towers,
            spool=size(spool, "--spool"),
        )

    return command


def _run(
    benchmark_name: str,
    settings: Settings,
    *,
    data: Path,
    videos: Path | None,
    out: Path,
    split: str | None,
    subtitles: bool,
    limit: int | None,
    shard: str | None,
    json: bool,
    **about_model: object,
) -> None:
    with ProgressBars() as bars:
        bars("load", 0, None)
        from vilamp.evaluation.benchmarks import benchmark
        from vilamp.evaluation.benchmarks.report import Line
        from vilamp.evaluation.benchmarks.running import Plan, read_runs, run_benchmark
        from vilamp.evaluation.ranks import wait_for_all
        from vilamp.evaluation.results import as_json
        from vilamp.evaluation.shards import Shard

        own = Shard.parse(shard) if shard is not None else None
        part = own or Shard.of_torchrun() or Shard()
        plan = Plan.of(
            benchmark(benchmark_name),
            data,
            videos,
            split,
            subtitles,
            frames={
                "fps": settings.fps,
                "sampling": settings.sampling,
                "max_frames": settings.max_frames,
            },
            limit=limit,
        )
        measured = _model(settings, plan, bars, **about_model)
        bars("load", 1, 1)
        failed = run_benchmark(measured, plan, out, part, bars)
        if own is None:
            wait_for_all()
    _say_failures(plan, failed)
    # Under torchrun the first process speaks for all.
    if own is None and part.number != 1:
        return
    wanted = plan.settings(measured)
    runs = [run for run in read_runs(out) if run.settings == as_json(wanted)]
    (line,) = map(Line.of, runs)
    if failed and not line.run.rows:
        # A note beside "0 of 900" would be easy to miss.
        raise InputError(f"no question could be answered, {failed[0][0]}: {failed[0][1]}")
    written = _write(line, plan, out)
    if json:
        about = {"folder": str(out), "shard": str(part), "failed": failed, "written": written}
        print_json({**line.as_dict(), **about})
        return
    print_lines([line])
    say_what_counts([line])
    if about_model["vlm"] is None:
        say_notes(settings, ())
    for path in written:
        print(f"written: {path}", file=sys.stderr)


def _model(
    settings: Settings,
    plan: Plan,
    bars: ProgressBars,
    *,
    name: str | None,
    vlm: Path | None,
    vlm_frames: int,
    max_new_tokens: int | None,
    method: Method,
    **session: object,
) -> VideoModel:
    from dataclasses import replace

    from vilamp.evaluation.models import ViLAMPVideoModel
    from vilamp.evaluation.ranks import local_device

    longest = max_new_tokens or plan.benchmark.max_new_tokens
    settings = replace(settings, device=settings.device or local_device())
    if vlm is not None:
        if method != Method() or settings.keyframes is not None:
            raise InputError("--vlm: a transformers model has no keyframes, selector or merging")
        from vilamp.evaluation.transformers_model import TransformersVideoModel

        return TransformersVideoModel(
            vlm,
            vlm_frames,
            device=settings.device,
            dtype=settings.dtype,
            max_new_tokens=longest,
            name=name,
        )
    loaded = load_model(settings, bars)
    return ViLAMPVideoModel(
        loaded,
        name or _name(settings, method),
        longest,
        keyframes=settings.keyframes,
        method=method,
        progress=bars,
        **session,
    )


def _name(settings: Settings, method: Method) -> str:
    """Of the model's folder, with what differs from the model's own way."""
    own = Method()
    parts = [f"ViLAMP {Path(settings.model).name}"]
    if (method.selector, method.merging) != (own.selector, own.merging):
        parts.append(f"{method.selector}+{method.merging}")
    numbers = {
        "keyframes": settings.keyframes,
        "tau": method.tau,
        "alpha": method.alpha,
        "lam": method.lam,
        "compat": settings.compat,
    }
    parts += [f"{name} {value}" for name, value in numbers.items() if value is not None]
    return ", ".join(parts)


def _write(line: Line, plan: Plan, out: Path) -> list[str]:
    """The report, and what the benchmark has beside it; both anew after each run."""
    import json

    from vilamp.evaluation.benchmarks.running import file_name

    contents = {"report.json": line.as_dict(), **plan.benchmark.extras(line.run.rows)}
    written = []
    for end, value in contents.items():
        path = out / f"{file_name(line.run.settings)}.{end}"
        text = json.dumps(value, indent=2, ensure_ascii=False)
        # Names of files may have bytes that are no text.
        OutputFile(path, "--out").write(f"{text}\n".encode("utf-8", "replace"))
        written.append(str(path))
    return written


def _say_failures(plan: Plan, failed: list[tuple[str, str]]) -> None:
    missing = plan.missing
    if missing:
        videos = {item.video for item in missing}
        note(
            f"{len(missing)} questions not asked: {len(videos)} videos are not there, "
            f"such as {missing[0].video}"
        )
    if failed:
        note(f"{len(failed)} questions not answered, {failed[0][0]}: {failed[0][1]}")
