"""What reading only a file's keyframes costs in answers: `python -m bench.sampling`.

Drawn test videos of the default model (`vilamp.drawn`), one hidden clip of 5 to 10 seconds in each,
are encoded at 25 frames a second: once with the keyframes that x264 places by itself (at cuts, and
at most ten seconds apart), once with one every two seconds at least, as streaming services ask for.
Each question is answered from one frame a second and from the keyframes. Rows are written as they
come; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from vilamp.drawn import TYPES, plan_video, write_video
from vilamp.drawn.scene import SIZE
from vilamp.drawn.video import frames_of
from vilamp.method import Method
from vilamp.model import ViLAMP
from vilamp.train_default.evaluate import FIRST_SEED, Plan, answer_all, read

RATE = 25
KEYINTS = {"x264's own": None, "2 s": 2 * RATE}
SAMPLINGS = {"a frame a second": "time", "keyframes": "keyframes"}
COLUMNS = ["video", "keyint", "sampling", "frames", "type", "truth", "answer", "right"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sampling", description=__doc__)
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=300, help="of each video")
    parser.add_argument("--folder", type=Path, default=Path("runs/sampling"), help="of the files")
    parser.add_argument("--csv", type=Path, default=Path("runs/sampling/answers.csv"))
    options = parser.parse_args(arguments)
    print(table(measure(options)))


def measure(options: argparse.Namespace) -> list[dict]:
    """All rows, those of an earlier run included."""
    rows = list(csv.DictReader(options.csv.open())) if options.csv.exists() else []
    # A video is written at once, so only its last row tells that all are there.
    last = (list(KEYINTS)[-1], list(SAMPLINGS)[-1])
    done = {int(row["video"]) for row in rows if (row["keyint"], row["sampling"]) == last}
    rows = [row for row in rows if int(row["video"]) in done]
    options.folder.mkdir(parents=True, exist_ok=True)
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    part = options.csv.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(options.csv)
    model = ViLAMP.from_pretrained("default", device="cpu")
    with options.csv.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        for video in range(options.videos):
            if video in done:
                continue
            fresh = answers(model, video, options.seconds, options.folder / "drawn.mp4")
            writer.writerows(fresh)
            file.flush()
            rows += fresh
    return rows


def answers(model: ViLAMP, video: int, seconds: int, path: Path) -> list[dict]:
    """The question about one video, for each way to encode and to read it."""
    row, cases = plan_video(seconds, FIRST_SEED + video, needles=Plan(needles=1).kinds(video))
    rows = []
    for keyint, distance in KEYINTS.items():
        frames = frames_of(row, seconds * RATE, RATE, SIZE)
        write_video(path, frames, RATE, keyint=distance)
        for name, sampling in SAMPLINGS.items():
            clip = read(model, path, sampling=sampling)
            own = {
                "video": video,
                "keyint": keyint,
                "sampling": name,
                "frames": len(clip.times),
            }
            rows += [own | found for found in answer_all(model, clip, cases, {"a": Method()})]
        path.unlink()
    return rows


def table(rows: Iterable[dict]) -> str:
    """Markdown: share of right answers by kind of question, for each way."""
    right, frames = defaultdict(list), defaultdict(list)
    for row in rows:
        way = row["keyint"], row["sampling"]
        frames[way].append(int(row["frames"]))
        for group in (TYPES[row["type"]], "all"):
            right[way, group].append(int(row["right"]))
    groups = [*dict.fromkeys(TYPES.values()), "all"]
    lines = [
        f"| keyframes placed | read | frames (median) | {' | '.join(groups)} |",
        "| --- | --- |" + " ---: |" * (len(groups) + 1),
    ]
    for way in frames:
        shares = [right[way, group] for group in groups]
        cells = " | ".join(f"{100 * statistics.mean(own):.1f}" if own else "" for own in shares)
        lines.append(f"| {' | '.join(way)} | {statistics.median(frames[way]):.0f} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
