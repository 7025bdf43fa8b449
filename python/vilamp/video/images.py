"""Pictures that are already samples: a folder, a list of PIL images, an array."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from ..errors import VideoError
from .container import MAX_PIXELS, explain
from .fit import fit
from .sampling import released_positions, thin
from .source import FrameSource
from .types import Frame, Skipped, VideoInfo

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}

# Named, so that formats whose readers run other programs (PostScript) are never tried.
# The reader of JPEG is that of MPO too.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# How a picture is brought upright, by its EXIF orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorts `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts]


def to_rgb(image: Image.Image) -> np.ndarray:
    """uint8 `[H, W, 3]`: upright by EXIF, alpha laid over black, 16-bit grey scaled to 8."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} is more than {MAX_PIXELS} pixels")
    # Not ImageOps.exif_transpose: that writes all of the EXIF anew, and fails over any bad entry.
    turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, rgba)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


class Pictures(FrameSource):
    """Pictures in a given order, `fps` of them to a second; subclasses fetch one at a time.

    All are yielded at the size of the first whole one; one that is broken is replaced by the one
    before it (at the start: by the first whole one) and listed in `skipped`.
    """

    def __init__(
        self,
        count: int,
        name: str,
        kind: str,
        *,
        fps: Fraction,
        sampling: str,
        max_frames: int | None,
        path: Path | None = None,
    ) -> None:
        self._name = name
        if count == 0:
            raise VideoError(f"{name}: wanted at least one picture, got none")
        self._fps = fps
        if sampling == "released":
            self._positions = released_positions(count, float(fps), max_frames)
        else:
            self._positions = thin(count, max_frames)
        self.skipped: list[Skipped] = []
        first = self._first()
        self.info = VideoInfo(
            path=None if path is None else str(path),
            width=first.shape[1],
            height=first.shape[0],
            duration=float(count / fps),
            codec=kind,
            frame_rate=float(fps),
            frame_count=count,
        )

    @abstractmethod
    def _fetch(self, position: int) -> np.ndarray:
        """Picture at `position` as uint8 `[H, W, 3]`; raises one of `BROKEN`."""

    @abstractmethod
    def _content(self) -> Iterator[bytes]:
        """What tells this content from another."""

    def _first(self) -> np.ndarray:
        reason = None
        for position in self._positions:
            try:
                return self._fetch(int(position))
            except BROKEN as error:
                reason = reason or explain(error)
        raise VideoError(f"{self._name}: wanted pictures, none could be read ({reason})")

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Frame]:
        self.skipped = []
        held: tuple[np.ndarray, float] | None = None
        for index, position in enumerate(self._positions):
            time = float(int(position) / self._fps)
            try:
                image = self._fetch(int(position))
                held = fit(image, self.info.width, self.info.height), time
            except BROKEN as error:
                self.skipped.append(Skipped(time, explain(error)))
                held = held or (self._first(), time)
            image, pts = held
            yield Frame(index, time, image.copy(), pts)

    def fingerprint(self, progress: Callable[[int, int], object] | None = None) -> str:
        """Hash of all pictures in order and of the sampling."""
        digest = hashlib.sha256(repr((str(self._fps), self._positions.tolist())).encode())
        total = self.info.frame_count
        for number, part in enumerate(self._content()):
            digest.update(hashlib.sha256(part).digest())
            if progress is not None:
                progress(min(number + 1, total), total)
        return digest.hexdigest()


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

    def _fetch(self, position: int) -> np.ndarray:
        with Image.open(self._paths[position], formats=FORMATS) as image:
            return to_rgb(image)

    def _content(self) -> Iterator[bytes]:
        for path in self._paths:
            yield path.read_bytes()


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

    def _fetch(self, position: int) -> np.ndarray:
        return to_rgb(self._images[position])

    def _content(self) -> Iterator[bytes]:
        for image in self._images:
            # As the model sees it: palette, transparency and orientation decide that too.
            rgb = to_rgb(image)
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

    def _fetch(self, position: int) -> np.ndarray:
        return np.ascontiguousarray(self._frames[position])

    def _content(self) -> Iterator[bytes]:
        yield repr(self._frames.shape).encode()
        for frame in self._frames:
            yield frame.tobytes()
