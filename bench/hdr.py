"""What a 4K HDR picture costs beside the same picture as SDR: `python -m bench.hdr`.

One drawn picture, textured and coloured over the whole range of codes, is encoded with x265 as SDR
of 8 and 10 bits, HLG and PQ. Each round reads all four files in turn, as a question does: every
picture decoded, converted to RGB, and resized for both towers. Processor time, per picture.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from vilamp.preprocess import clip_pixels, siglip_pixels
from vilamp.video import open_video

from .rows import RESULTS, machine

CSV = RESULTS / "hdr.csv"
WIDTH, HEIGHT, RATE = 3840, 2160, 25
SIGLIP_SIZE, CLIP_SIZE = 384, 224
BT709, BT2020, PQ, HLG, LIMITED = 1, 9, 16, 18, 1
# Name -> bits, matrix and primaries, transfer characteristic.
KINDS = {
    "SDR, 8 bits": (8, BT709, BT709),
    "SDR, 10 bits": (10, BT709, BT709),
    "HLG": (10, BT2020, HLG),
    "PQ": (10, BT2020, PQ),
}
COLUMNS = ["kind", "run", "pictures", "cpu_ms", "/ SDR, 8 bits", "/ SDR, 10 bits"]
COLUMNS += ["cpu", "os", "python", "av", "commit"]


def picture(seed: int = 0) -> np.ndarray:
    """float32 `[HEIGHT, WIDTH, 3]` in 0..1: RGB noise of every size from 960 pixels to one."""
    rng = np.random.default_rng(seed)
    total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for size in (960, 120, 15, 1):
        coarse = rng.random((-(-HEIGHT // size), -(-WIDTH // size), 3), dtype=np.float32)
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel] - 0.5)
            layer = layer.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
            total[..., channel] += np.asarray(layer) * (0.2 if size == 1 else 1)
    return np.clip(0.5 + 0.7 * total, 0, 1)


def frame_of(rgb: np.ndarray, bits: int, matrix: int) -> av.VideoFrame:
    """4:2:0 in limited range; `rgb` as by `picture`, already coded for the display."""
    red, blue = {BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}[matrix]
    luma = rgb @ np.array([red, 1 - red - blue, blue], np.float32)
    planes = [16 + 219 * luma]
    for channel, weight in ((2, blue), (0, red)):
        chroma = (rgb[..., channel] - luma) / (2 - 2 * weight)
        planes.append(128 + 224 * (chroma[::2, ::2] + chroma[1::2, 1::2]) / 2)
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p" if bits == 8 else "yuv420p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        codes = np.round(values * (1 << (bits - 8))).astype(np.uint8 if bits == 8 else np.uint16)
        rows = np.zeros((plane.height, plane.line_size // codes.itemsize), codes.dtype)
        rows[:, : plane.width] = codes
        plane.update(rows.tobytes())
    return frame


def write(path: Path, kind: str, pictures: int) -> None:
    bits, matrix, transfer = KINDS[kind]
    frame = frame_of(picture(), bits, matrix)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "x265-params": "log-level=error"}
        stream = container.add_stream("libx265", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, frame.format.name
        context = stream.codec_context
        context.colorspace = context.color_primaries = matrix
        context.color_trc, context.color_range = transfer, LIMITED
        for number in range(pictures):
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read(path: Path) -> float:
    """Processor time of a pass in milliseconds per picture; opening is outside the clock."""
    source = open_video(path, fps=RATE)
    start = time.process_time()
    for frame in source:
        siglip_pixels([frame.image], SIGLIP_SIZE)
        clip_pixels([frame.image], CLIP_SIZE, (0.5,) * 3, (0.5,) * 3)
    return 1e3 * (time.process_time() - start) / len(source)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hdr", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/hdr"), help="of the files")
    parser.add_argument("--pictures", type=int, default=8, help="of each file")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for kind in KINDS:
        name = f"{kind.lower().replace(', ', '-').replace(' ', '-')}-{options.pictures}.mp4"
        paths[kind] = options.folder / name
        if not paths[kind].exists():
            write(paths[kind], kind, options.pictures)
    # Once outside the clock: imports, tables, the file's pages.
    for path in paths.values():
        read(path)
    same = {key: value for key, value in machine().items() if key in COLUMNS}
    same |= {"av": av.__version__, "pictures": str(options.pictures)}
    rows = []
    for run in range(options.runs):
        times = {kind: read(path) for kind, path in paths.items()}
        for kind, took in times.items():
            ratios = {f"/ {sdr}": f"{took / times[sdr]:.3f}" for sdr in list(KINDS)[:2]}
            rows.append({"kind": kind, "run": str(run), "cpu_ms": f"{took:.1f}", **ratios, **same})
    CSV.parent.mkdir(parents=True, exist_ok=True)
    with CSV.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(_table(rows))


def _table(rows: list[dict[str, str]]) -> str:
    """Markdown: medians over the runs."""
    figures = COLUMNS[3:6]
    lines = ["| 4K, H.265 | ms | / SDR, 8 bits | / SDR, 10 bits |", "| --- | ---: | ---: | ---: |"]
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind]
        medians = [statistics.median(float(row[column]) for row in own) for column in figures]
        lines.append(f"| {kind} | {medians[0]:.0f} | {medians[1]:.2f} | {medians[2]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
