"""A question about a real video of 10,000 seconds: `python -m bench.long_video FOOTAGE...`.

FOOTAGE is any video of a few seconds or more; it is made into real H.264 files of 1,000 and 10,000
seconds (`bench.footage`). In turn, each in a process of its own: `vilamp ask` with the embedded
model at one frame a second, and a plain loop that decodes the same file and converts the sampled
pictures to RGB. Reported are wall time and peak resident size as the system counts it for the
finished process (`ru_maxrss`), and what the model alone takes for a frame.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import footage
from .rows import RESULTS, machine

SHORT, LONG = 1_000, 10_000
QUESTION = "In what place do you see the pink cross?"
CSV = RESULTS / "long_video.csv"
COLUMNS = [
    "what",
    "video_s",
    "run",
    "wall_s",
    "cpu_s",
    "peak_rss_mb",
    "embed_s",
    "merge_s",
    "answer_s",
    "embed_ms_per_frame",
    "merge_ms_per_frame",
    "cpu",
    "cores",
    "os",
    "python",
    "torch",
    "av",
    "commit",
]
PLAIN = "decode only"
MODEL_FRAMES, MODEL_BATCH = 320, 16


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.long_video", description=__doc__)
    parser.add_argument("footage", type=Path, nargs="*", help="real videos to loop")
    parser.add_argument("--folder", type=Path, default=Path("runs/long_video"), help="of the files")
    parser.add_argument("--runs", type=int, default=3, help="of the short video")
    parser.add_argument("--long-runs", type=int, default=1, help="of the long one")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.plain:
        decode(options.plain)
    elif options.model:
        print(json.dumps(model_alone(options.model)))
    elif not options.footage:
        parser.error("name at least one real video")
    else:
        options.folder.mkdir(parents=True, exist_ok=True)
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """All runs, each written to the CSV as it ends."""
    import av

    same = {k: v for k, v in machine().items() if k in COLUMNS}
    same |= {"cores": str(cores()), "av": av.__version__}
    rows: list[dict[str, str]] = []
    CSV.parent.mkdir(parents=True, exist_ok=True)
    with CSV.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in _runs(options):
            writer.writerow({**row, **same})
            file.flush()
            print({k: v for k, v in row.items() if v}, file=sys.stderr, flush=True)
            rows.append(row)
    print(table(rows))


def _runs(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    for seconds, runs in ((SHORT, options.runs), (LONG, options.long_runs)):
        video = footage.write(options.folder / f"{seconds}.mp4", seconds, options.footage)
        for run in range(runs):
            # In turn, so that a machine that slows down slows all alike.
            yield {
                "what": PLAIN,
                **_row(seconds, run),
                **_child(["bench.long_video", "--plain"], video),
            }
            ask = ["vilamp", "ask", "--no-cache", "--json"]
            yield {"what": "ask", **_row(seconds, run), **_child(ask, video, QUESTION)}
        if seconds == SHORT:
            yield {
                "what": "model",
                **_row(seconds, 0),
                **_child(["bench.long_video", "--model"], video),
            }


def _row(seconds: int, run: int) -> dict[str, str]:
    return {"video_s": str(seconds), "run": str(run)}


def _child(command: list[str], *arguments: object) -> dict[str, str]:
    """Runs a module in a process of its own: wall time, peak resident size, what it says."""
    line = [sys.executable, "-m", *command, *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(line, stdout=said)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        # Waited for above, which its own bookkeeping does not know.
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(line)}: exit status {process.returncode}")
        said.seek(0)
        told = json.loads(said.read() or "{}")
    # Kilobytes on Linux, bytes on macOS.
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    row = {
        "wall_s": f"{wall:.2f}",
        "cpu_s": f"{used.ru_utime + used.ru_stime:.2f}",
        "peak_rss_mb": f"{peak / 1e6:.1f}",
    }
    for name, value in told.get("timings", told).items():
        if f"{name}_s" in COLUMNS or name in COLUMNS:
            row[name if name in COLUMNS else f"{name}_s"] = f"{value:.3f}"
    return row


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode(video: Path) -> int:
    """The plain loop: every picture decoded, one a second converted; the number of those."""
    import av

    sampled = 0
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        # As our own reader sets them.
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = min(8, cores())
        for frame in container.decode(stream):
            if frame.pts * frame.time_base >= sampled:
                frame.to_ndarray(format="rgb24")
                sampled += 1
    return sampled


def model_alone(video: Path) -> dict[str, float]:
    """Milliseconds a frame of the two sweeps' towers and the merging, pixels at hand."""
    import torch
    from vilamp.model import ViLAMP
    from vilamp.video import open_video

    model = ViLAMP.from_pretrained("default")
    frames = [f.image for f in open_video(video, max_frames=MODEL_FRAMES)]
    batches = [frames[at : at + MODEL_BATCH] for at in range(0, len(frames), MODEL_BATCH)]
    clip = [model.clip_pixels(batch) for batch in batches]
    siglip = [model.siglip_pixels(batch) for batch in batches]
    query = model.embed_query(QUESTION)
    took = {}
    with torch.no_grad():
        for _ in range(2):  # The first time warms up.
            start = time.perf_counter()
            embeds = torch.cat([model.embed_frames(pixels) for pixels in clip])
            took["embed_ms_per_frame"] = 1e3 * (time.perf_counter() - start) / len(frames)
            merger = model.merger(query, model.select(embeds, query))
            start = time.perf_counter()
            for number, pixels in enumerate(siglip):
                merger.push(model.patches(pixels), number * MODEL_BATCH)
            took["merge_ms_per_frame"] = 1e3 * (time.perf_counter() - start) / len(frames)
    return took


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: medians by length, and the ratios to plain decoding."""
    lines = [
        "| video | run | wall, s | / decoding | processor, s | / decoding | peak RSS, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for seconds in (SHORT, LONG):
        plain = _medians(rows, PLAIN, seconds)
        for what in (PLAIN, "ask"):
            own = _medians(rows, what, seconds)
            if own and plain:
                lines.append(
                    f"| {seconds:,} s | {what} | {own['wall_s']:.1f} | "
                    f"{own['wall_s'] / plain['wall_s']:.2f} | {own['cpu_s']:.1f} | "
                    f"{own['cpu_s'] / plain['cpu_s']:.2f} | {own['peak_rss_mb']:.0f} |"
                )
    for row in rows:
        if row["what"] == "model":
            embed, merge = row["embed_ms_per_frame"], row["merge_ms_per_frame"]
            lines.append(f"\nModel alone: {embed} ms a frame in sweep 1, {merge} in sweep 2.")
    return "\n".join(lines)


def _medians(rows: list[dict[str, str]], what: str, seconds: int) -> dict[str, float]:
    """Of one length; empty if it was not run."""
    own = [row for row in rows if row["what"] == what and row["video_s"] == str(seconds)]
    names = ("wall_s", "cpu_s", "peak_rss_mb") if own else ()
    return {name: statistics.median(float(row[name]) for row in own) for name in names}


if __name__ == "__main__":
    main()
