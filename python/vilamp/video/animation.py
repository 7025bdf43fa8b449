"""Animated WebP: all pictures, at the times that the file states."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import VideoError
from .container import explain
from .rgb import Still, to_rgb
from .sampling import plan_by_time, plan_keyframes, plan_released
from .source import FrameSource
from .stills import BROKEN, opened
from .types import Frame, Skipped, VideoInfo

MS = Fraction(1, 1000)

# Browsers show pictures of at most so many milliseconds for a tenth of a second.
SHORTEST_MS, USUAL_MS = 10, 100


class AnimatedWebP(FrameSource):
    """The pictures of an animated WebP file, composed on its canvas, once through.

    Raises:
        VideoError: not one picture can be read.
    """

    def __init__(self, path: Path, *, fps: Fraction, sampling: str, max_frames: int | None) -> None:
        self._path = path
        self._settings = str(fps), sampling, max_frames
        self.skipped: list[Skipped] = []
        with _readable(self._path) as image:
            durations = frame_durations(path)
            durations += [USUAL_MS] * (image.n_frames - len(durations))
            shown = [USUAL_MS if d <= SHORTEST_MS else d for d in durations[: image.n_frames]]
        ends = np.cumsum(shown, dtype=np.int64)
        self._stamps = ends - shown
        end = int(ends[-1])
        rate = len(shown) / (end / 1000)
        if sampling == "released":
            self._plan = plan_released(self._stamps, MS, rate, max_frames)
        elif sampling == "keyframes":
            self._plan = plan_keyframes(self._stamps, 0, MS, fps, max_frames)
        else:
            self._plan = plan_by_time(0, end, MS, fps, max_frames)
        self._due = np.searchsorted(self._stamps, self._plan.ticks, side="right") - 1
        first = self._first_whole()
        self.info = VideoInfo(
            path=str(path),
            width=first.image.shape[1],
            height=first.image.shape[0],
            duration=end / 1000,
            codec="webp",
            frame_rate=rate,
            rotation=first.orientation.degrees,
            frame_count=len(shown),
        )

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[Frame]:
        self.skipped = []
        with _readable(self._path) as image:
            held, still = None, None
            for index, number in enumerate(map(int, self._due)):
                time = float(self._plan.times[index])
                if number != held or still is None:
                    try:
                        still, held = _picture(image, number), number
                    except BROKEN as error:
                        self.skipped.append(Skipped(time, explain(error)))
                        if still is None:
                            still = self._first_whole()
                            held = None
                pts = time if held is None else float(self._stamps[held]) / 1000
                yield Frame(index, time, still.image.copy(), pts)

    def fingerprint(self, progress: Callable[[int, int], object] | None = None) -> str:
        """Hash of the whole file and of the sampling."""
        digest = hashlib.sha256(repr(self._settings).encode())
        digest.update(self._path.read_bytes())
        return digest.hexdigest()

    def _first_whole(self) -> Still:
        reason = None
        with _readable(self._path) as image:
            for number in dict.fromkeys(map(int, self._due)):
                try:
                    return _picture(image, number)
                except BROKEN as error:
                    reason = reason or explain(error)
        raise VideoError(f"{self._path}: wanted pictures, none could be read ({reason})")


@contextmanager
def _readable(path: Path) -> Iterator[Image.Image]:
    with ExitStack() as stack:
        try:
            image = stack.enter_context(opened(path))
        except BROKEN as error:
            raise VideoError(f"{path}: wanted a WebP animation ({explain(error)})") from error
        yield image


def _picture(image: Image.Image, number: int) -> Still:
    image.seek(number)
    return to_rgb(image)


def frame_durations(path: Path) -> list[int]:
    """Milliseconds of each picture of a WebP file, as its ANMF chunks state them; [] for a still.

    Read from the chunks (RFC 9649): Pillow tells a duration only when it has decoded the picture.
    """
    found = []
    with path.open("rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            size = int.from_bytes(header[4:], "little")
            start = file.tell()
            if header[:4] == b"ANMF":
                found.append(int.from_bytes(file.read(16)[12:15], "little"))
            file.seek(start + size + size % 2)
    return found
