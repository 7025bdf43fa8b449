"""Putting clips in a row, hiding needles among them, and writing the result as an H.264 file."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from os import PathLike

import av
import numpy as np

from .questions import TYPES, Case, ask, types_of
from .scene import SIZE, Clip, clip_frame, sample_clip

# Share of the haystack that is set in the place of some needle.
SAME_PLACE = 0.4


def confusable(clip: Clip, other: Clip, kind: str) -> bool:
    """Whether a second clip makes a question about the first ambiguous."""
    if kind == "place":
        return (clip.colour, clip.shape) == (other.colour, other.shape)
    if kind == "anchor colour":
        return (clip.place, clip.shape) == (other.place, other.shape)
    return clip.anchor == other.anchor


def plan_video(
    seconds: float, seed: int, split: str = "test", needles: int | Sequence[str] = 1
) -> tuple[list[tuple[float, Clip]], list[Case]]:
    """Choose the clips of a video and the questions about it.

    Args:
        seconds: length of the video; at least 10 for each needle.
        seed: the same arguments give the same plan.
        split: "train" or "test": which anchors, layouts and sentences to use.
        needles: how many questions, or the type of each (keys of `TYPES`), one clip for each.
    Returns:
        The clips with their start times in seconds, covering the whole video, and the questions.
    Raises:
        ValueError: an unknown type or split, or a video too short for its needles.
    """
    rng = np.random.default_rng([seed, 7])
    if isinstance(needles, int):
        needles = [list(TYPES)[i] for i in rng.permutation(len(TYPES)).repeat(needles)[:needles]]
    unknown = [kind for kind in needles if kind not in TYPES]
    if unknown:
        raise ValueError(
            f"question types are {', '.join(TYPES)}; got {', '.join(map(str, unknown))}"
        )
    if seconds < 10 * max(1, len(needles)):
        raise ValueError(
            f"a video with {len(needles)} needles needs 10 s for each, got {seconds:g} s"
        )

    hidden: list[tuple[Clip, str]] = []
    while len(hidden) < len(needles):
        kind = needles[len(hidden)]
        clip = sample_clip(rng, split)
        apart = all(
            not confusable(clip, other, kind) and not confusable(other, clip, other_kind)
            for other, other_kind in hidden
        )
        if kind in types_of(clip) and apart:
            hidden.append((clip, kind))

    row: list[Clip] = [clip for clip, _ in hidden]
    places = [clip.place for clip, _ in hidden]
    while sum(clip.seconds for clip in row) < seconds + 10:
        same = bool(places) and rng.random() < SAME_PLACE
        clip = sample_clip(rng, split, place=int(rng.choice(places)) if same else None)
        if not any(confusable(needle, clip, kind) for needle, kind in hidden):
            row.append(clip)
    row, cases = _lay_out(row, hidden, seconds, split, rng)
    return row, cases


def _lay_out(row, hidden, seconds, split, rng):
    """Shuffle until every needle lies inside the video, then word the questions."""
    needles = [clip for clip, _ in hidden]
    while True:
        order = [row[i] for i in rng.permutation(len(row))]
        starts = np.cumsum([0.0] + [clip.seconds for clip in order[:-1]])
        placed = [(float(start), clip) for start, clip in zip(starts, order, strict=True)]
        at = {id(clip): start for start, clip in placed}
        if all(at[id(clip)] + clip.seconds <= seconds for clip in needles):
            break
    cases = []
    for clip, kind in hidden:
        question, answer = ask(clip, kind, split, rng)
        cases.append(Case(question, answer, kind, at[id(clip)], at[id(clip)] + clip.seconds))
    return [(start, clip) for start, clip in placed if start < seconds], cases


def frames_of(
    row: list[tuple[float, Clip]], count: int, fps: int, size: int
) -> Iterator[np.ndarray]:
    """The first `count` frames of clips with their start times, uint8 RGB `[size, size, 3]`."""
    current = 0
    for k in range(count):
        while current + 1 < len(row) and row[current + 1][0] <= k / fps:
            current += 1
        start, clip = row[current]
        yield clip_frame(clip, k / fps - start, size)


def write_video(
    path: str | PathLike,
    frames: Iterable[np.ndarray],
    fps: int,
    *,
    crf: int = 23,
    keyint: int | None = None,
) -> int:
    """Encode frames as H.264 (yuv420p) in MP4.

    Args:
        path: file to write; any object with `write` and `seek` works too.
        frames: uint8 RGB [H, W, 3], all of one even size.
        fps: frames per second.
        crf: quality of the encoder, lower is better.
        keyint: most frames from one keyframe to the next; the encoder's own choice (250) if None.
    Returns:
        How many frames were written.
    """
    target = path if hasattr(path, "write") else str(path)
    with av.open(target, "w", format="mp4") as container:
        stream = None
        count = 0
        for picture in frames:
            count += 1
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps))
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                # One thread: the same frames give the same file.
                stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
                if keyint is not None:
                    stream.options |= {"g": str(keyint)}
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        if stream is not None:
            container.mux(stream.encode())
    return count


def draw_video(
    path: str | PathLike,
    *,
    seconds: float,
    seed: int,
    split: str = "test",
    fps: int = 2,
    needles: int | Sequence[str] = 1,
    size: int = SIZE,
) -> list[Case]:
    """Draw a video with hidden needles and write it as an H.264 file.

    Args:
        path: file to write (MP4).
        seconds: length of the video; at least 10 for each needle.
        seed: the same arguments give the same video and the same questions.
        split: "test" for anchors, layouts and sentences that training never uses, or "train".
        fps: frames per second of the file, a whole number.
        needles: how many questions, or the type of each (keys of `TYPES`).
        size: side of the square frames in pixels, even.
    Returns:
        The questions in the order of `needles`, with answers and the time spans that show them.
    Raises:
        ValueError: an unknown type or split, or a video too short for its needles.
    """
    row, cases = plan_video(seconds, seed, split, needles)
    write_video(path, frames_of(row, round(seconds * fps), fps, size), fps)
    return cases
