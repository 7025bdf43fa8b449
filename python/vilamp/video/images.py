"""Pictures that are already samples: a folder, a list of PIL images, an array."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import VideoError
from .container import explain
from .names import natural_key
from .rgb import Still, to_rgb
from .sampling import released_positions, thin
from .source import FrameSource
from .stills import BROKEN, SUFFIXES, check_cost, opened, read_still
from .types import Frame, Skipped, VideoInfo

# Of TIFF: kinds of pages that are no pictures of their own.
NEW_SUBFILE_TYPE, REDUCED, MASK = 254, 1, 4


class Pictures(FrameSource):
    """Pictures in a given order, `fps` of them to a second; subclasses fetch one at a time.

    Each is yielded in its own size; one that is broken is replaced by the one before it (at the
    start: by the first whole one) and listed in `skipped`.
    """

    def __init__(
        self,
        number: int,
        name: str,
        kind: str,
        *,
        fps: Fraction,
        sampling: str,
        max_frames: int | None,
        path: Path | None = None,
    ) -> None:
        self._name = name
        if number == 0:
            raise VideoError(f"{name}: wanted at least one picture, got none")
        self._fps = fps
        if sampling == "released":
            self._positions = released_positions(number, float(fps), max_frames)
        else:
            self._positions = thin(number, max_frames)
        self.skipped: list[Skipped] = []
        # How many pictures each remark is about, and the first of them; up to `_looked_at`.
        self._remarks: dict[str, tuple[int, str]] = {}
        self._looked_at = -1
        # The first one, decoded to learn that there is one, until it is asked for.
        self._kept: tuple[int, Still] | None = None
        position, first = self._first()
        self._kept = position, first
        self.info = VideoInfo(
            path=None if path is None else str(path),
            width=first.image.shape[1],
            height=first.image.shape[0],
            duration=float(number / fps),
            codec=kind,
            frame_rate=float(fps),
            rotation=first.orientation.degrees,
            frame_count=number,
        )

    @property
    def notes(self) -> list[str]:
        """What was decided about pictures that can be shown in several ways, one line a kind."""
        return [
            f"{number} picture{'s' * (number > 1)}{_such_as(name)}: {remark}"
            for remark, (number, name) in self._remarks.items()
        ]

    @abstractmethod
    def _fetch(self, position: int) -> Still:
        """Picture at `position`; raises `BROKEN`."""

    def _name_of(self, position: int) -> str:
        """What to call a picture in a note; empty where it has no name."""
        return ""

    @abstractmethod
    def _content(self) -> Iterator[bytes]:
        """What tells this content from another."""

    def _look_at(self, position: int) -> Still:
        if self._kept is not None and self._kept[0] == position:
            (_, still), self._kept = self._kept, None
            return still
        still = self._fetch(position)
        if position > self._looked_at:
            self._looked_at = position
            for remark in still.remarks:
                known, name = self._remarks.get(remark, (0, self._name_of(position)))
                self._remarks[remark] = known + 1, name
        return still

    def _first(self) -> tuple[int, Still]:
        reason = None
        for position in self._positions:
            try:
                return int(position), self._look_at(int(position))
            except BROKEN as error:
                reason = reason or explain(error)
        raise VideoError(f"{self._name}: wanted pictures, none could be read ({reason})")

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Frame]:
        self.skipped = []
        # The last whole one is read again where it has to stand in: held beside the next, a large
        # picture would take its memory twice.
        whole: int | None = None
        for index, position in enumerate(map(int, self._positions)):
            time = pts = float(position / self._fps)
            try:
                still = self._look_at(position)
                whole = position
            except BROKEN as error:
                self.skipped.append(Skipped(time, explain(error)))
                still = self._stand_in(whole)
                pts = time if whole is None else float(whole / self._fps)
            yield Frame(index, time, still.image, pts)
            del still

    def _stand_in(self, whole: int | None) -> Still:
        if whole is None:
            return self._first()[1]
        try:
            return self._fetch(whole)
        except BROKEN as error:
            raise VideoError(
                f"{self._name}: wanted the pictures as they were opened, one has changed "
                f"({explain(error)})"
            ) from error

    def fingerprint(self, progress: Callable[[int, int], object] | None = None) -> str:
        """Hash of all pictures in order and of the sampling."""
        digest = hashlib.sha256(repr((str(self._fps), self._positions.tolist())).encode())
        total = self.info.frame_count
        for number, part in enumerate(self._content()):
            digest.update(hashlib.sha256(part).digest())
            if progress is not None:
                progress(min(number + 1, total), total)
        return digest.hexdigest()


def _such_as(name: str) -> str:
    return f" (such as {name})" if name else ""


class ImageFiles(Pictures):
    """Image files, read one at a time."""

    def __init__(self, paths: Sequence[Path], name: str, path: Path, **settings) -> None:
        self._paths = list(paths)
        super().__init__(len(paths), name, "images", path=path, **settings)

    @classmethod
    def of_folder(cls, folder: Path, **settings) -> ImageFiles:
        """The images directly in `folder`, in natural order of their names."""
        try:
            paths = [
                p
                for p in folder.iterdir()
                if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
            ]
        except OSError as error:
            raise VideoError(f"{folder}: wanted a readable folder ({explain(error)})") from error
        if not paths:
            raise VideoError(f"{folder}: wanted a folder of images, found none in it")
        return cls(sorted(paths, key=natural_key), str(folder), folder, **settings)

    def _fetch(self, position: int) -> Still:
        return read_still(self._paths[position])

    def _name_of(self, position: int) -> str:
        return self._paths[position].name

    def _content(self) -> Iterator[bytes]:
        for path in self._paths:
            yield path.read_bytes()


class Pages(Pictures):
    """The pages of a TIFF file, which have no times: each is a picture of its own.

    Reduced copies of other pages and masks are left out.
    """

    def __init__(self, path: Path, **settings) -> None:
        self._path = path
        self._pages, self._cut = [], ""
        try:
            with opened(path) as image:
                for number in count():
                    if _is_page(image, number):
                        self._pages.append(number)
        except EOFError:
            # Behind the last page.
            pass
        except BROKEN as error:
            if not self._pages:
                raise VideoError(f"{path}: wanted an image ({explain(error)})") from error
            self._cut = f"the file is cut off or damaged behind page {len(self._pages)}"
        super().__init__(len(self._pages), str(path), "images", path=path, **settings)

    @property
    def notes(self) -> list[str]:
        return [*super().notes, *([self._cut] if self._cut else [])]

    def _fetch(self, position: int) -> Still:
        with opened(self._path) as image:
            image.seek(self._pages[position])
            check_cost(image)
            return to_rgb(image)

    def _content(self) -> Iterator[bytes]:
        yield self._path.read_bytes()


def _is_page(image: Image.Image, number: int) -> bool:
    image.seek(number)
    return not image.tag_v2.get(NEW_SUBFILE_TYPE, 0) & (REDUCED | MASK)


class ImageList(Pictures):
    """PIL images."""

    def __init__(self, images: Sequence[Image.Image], **settings) -> None:
        for position, image in enumerate(images):
            if not isinstance(image, Image.Image):
                raise VideoError(
                    f"list of images: wanted PIL images, item {position} is a "
                    f"{type(image).__name__}"
                )
        self._images = list(images)
        super().__init__(len(images), "list of images", "images", **settings)

    def _fetch(self, position: int) -> Still:
        return to_rgb(self._images[position])

    def _content(self) -> Iterator[bytes]:
        for image in self._images:
            # As the model sees it: palette, transparency and orientation decide that too.
            try:
                rgb = to_rgb(image).image
            except BROKEN as error:
                raise VideoError(f"{self._name}: {explain(error)}") from error
            yield repr(rgb.shape).encode() + rgb.tobytes()


class ImageArray(Pictures):
    """An array or tensor of frames, uint8 `[N, H, W, 3]`, RGB."""

    def __init__(self, frames, **settings) -> None:
        # A torch tensor, without importing torch to find out.
        if hasattr(frames, "detach"):
            frames = frames.detach().cpu().numpy()
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise VideoError(
                "array of frames: wanted uint8 [N, H, W, 3], "
                f"got {frames.dtype} {list(frames.shape)}"
            )
        if 0 in frames.shape[1:3]:
            raise VideoError(f"array of frames: wanted pixels, got {list(frames.shape)}")
        self._frames = frames
        super().__init__(len(frames), "array of frames", "array", **settings)

    def _fetch(self, position: int) -> Still:
        # A copy: what a consumer does to a frame does not reach the source.
        return Still(np.array(self._frames[position], order="C"))

    def _content(self) -> Iterator[bytes]:
        yield repr(self._frames.shape).encode()
        for frame in self._frames:
            yield frame.tobytes()
