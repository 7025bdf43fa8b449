"""One frame a second of a long real video by several readers: `python -m bench.decoders`.

FOOTAGE is made into an H.264 file of an hour (`bench.footage`). Each reader opens it and gives the
picture of every second as RGB in a process of its own, all in turn, two threads each; the clock
runs from opening to the last picture, imports are outside. A reader that is not installed is left
out and named. torchcodec also needs FFmpeg's shared libraries (4 to 8) on the system.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import footage
from .long_video import cores, decode
from .rows import RESULTS, machine

CSV = RESULTS / "decoders.csv"
THREADS, CHUNK = 2, 16
COLUMNS = [
    "reader",
    "version",
    "video_s",
    "keyint",
    "run",
    "pictures",
    "wall_s",
    "cpu_s",
    "peak_rss_mb",
    "cpu",
    "cores",
    "os",
    "python",
    "commit",
]


def _vilamp(video: Path, seconds: int) -> int:
    from vilamp.video import open_video

    return sum(1 for _ in open_video(video))


def _vilamp_keyframes(video: Path, seconds: int) -> int:
    from vilamp.video import open_video

    return sum(1 for _ in open_video(video, sampling="keyframes"))


def _pyav(video: Path, seconds: int) -> int:
    return decode(video)


def _torchcodec(video: Path, seconds: int) -> int:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(video), dimension_order="NHWC", num_ffmpeg_threads=THREADS)
    return sum(len(decoder.get_frames_at(chunk).data) for chunk in _chunks(seconds))


def _decord(video: Path, seconds: int) -> int:
    import decord

    reader = decord.VideoReader(str(video), num_threads=THREADS)
    return sum(len(reader.get_batch(chunk).asnumpy()) for chunk in _chunks(seconds))


def _opencv(video: Path, seconds: int) -> int:
    import cv2

    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, THREADS])
    number = pictures = 0
    while capture.grab():
        if number % footage.RATE == 0:
            pictures += len(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)) > 0
        number += 1
    return pictures


# Name -> module that has to be there, and the reading.
READERS: dict[str, tuple[str, Callable[[Path, int], int]]] = {
    "vilamp": ("av", _vilamp),
    "vilamp, keyframes": ("av", _vilamp_keyframes),
    "PyAV, every picture": ("av", _pyav),
    "torchcodec": ("torchcodec", _torchcodec),
    "decord": ("decord", _decord),
    "OpenCV, grab loop": ("cv2", _opencv),
}


def _chunks(seconds: int) -> Iterator[list[int]]:
    """Numbers of the pictures of every second, a few at a time."""
    numbers = [second * footage.RATE for second in range(seconds)]
    for at in range(0, seconds, CHUNK):
        yield numbers[at : at + CHUNK]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.decoders", description=__doc__)
    parser.add_argument("footage", type=Path, nargs="*", help="real videos to loop")
    parser.add_argument("--folder", type=Path, default=Path("runs/long_video"), help="of the file")
    parser.add_argument("--seconds", type=int, default=3600, help="length, a multiple of ten")
    parser.add_argument("--keyint", type=int, default=footage.SEGMENT, help="frames to a keyframe")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--video", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.reader:
        print(json.dumps(_once(options.reader, options.video, options.seconds)))
    elif not options.footage:
        parser.error("name at least one real video")
    else:
        options.folder.mkdir(parents=True, exist_ok=True)
        print(_table(_measure(options)))


def _once(name: str, video: Path, seconds: int) -> dict[str, str]:
    """One reading in this process."""
    module, read = READERS[name]
    try:
        version = importlib.import_module(module).__version__
    # Whatever a broken installation raises.
    except Exception as error:
        return {"missing": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    if name.startswith("vilamp"):
        importlib.import_module("vilamp.video")
    elif name == "torchcodec":
        importlib.import_module("torchcodec.decoders")
    start, used = time.perf_counter(), time.process_time()
    pictures = read(video, seconds)
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    return {
        "version": version,
        "pictures": str(pictures),
        "wall_s": f"{wall:.2f}",
        "cpu_s": f"{cpu:.2f}",
        "peak_rss_mb": f"{peak / 1e6:.1f}",
    }


def _measure(options: argparse.Namespace) -> list[dict[str, str]]:
    """All readings, each written to the CSV as it ends."""
    name = f"{options.seconds}-{options.keyint}.mp4"
    video = footage.write(
        options.folder / name, options.seconds, options.footage, keyint=options.keyint
    )
    same = {key: value for key, value in machine().items() if key in COLUMNS}
    same |= {"cores": str(cores()), "video_s": str(options.seconds), "keyint": str(options.keyint)}
    CSV.parent.mkdir(parents=True, exist_ok=True)
    # Rows of other files stay, those of this one are replaced.
    mine = (same["video_s"], same["keyint"])
    kept = [r for r in _old() if (r["video_s"], r["keyint"]) != mine]
    rows, missing = [], set()
    with CSV.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        for run in range(options.runs):
            for reader in READERS:
                if reader in missing:
                    continue
                told = _in_child(reader, video, options.seconds)
                if "missing" in told:
                    print(f"{reader}: left out ({told['missing']})", file=sys.stderr)
                    missing.add(reader)
                    continue
                rows.append({"reader": reader, "run": str(run), **told, **same})
                writer.writerow(rows[-1])
                file.flush()
                print(reader, told, file=sys.stderr, flush=True)
    return rows


def _old() -> list[dict[str, str]]:
    if not CSV.exists():
        return []
    with CSV.open(newline="") as file:
        return list(csv.DictReader(file))


def _in_child(reader: str, video: Path, seconds: int) -> dict[str, str]:
    line = [sys.executable, "-m", "bench.decoders", "--reader", reader]
    line += ["--video", str(video), "--seconds", str(seconds)]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"missing": f"exit status {done.returncode}: {last}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _table(rows: list[dict[str, str]]) -> str:
    """Markdown: medians, and the ratio to ours."""
    lines = [
        "| reader | pictures | wall, s | / vilamp | processor, s | / vilamp | peak RSS, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]

    def median(reader: str, column: str) -> float:
        return statistics.median(float(r[column]) for r in rows if r["reader"] == reader)

    for reader in dict.fromkeys(row["reader"] for row in rows):
        cells = []
        for column in ("wall_s", "cpu_s"):
            own = median(reader, column)
            cells.append(f"{own:.1f} | {own / median('vilamp', column):.2f}")
        pictures = next(row["pictures"] for row in rows if row["reader"] == reader)
        peak = median(reader, "peak_rss_mb")
        lines.append(f"| {reader} | {pictures} | {' | '.join(cells)} | {peak:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
