"""What a file holds, told from its first bytes and not from its name."""

from __future__ import annotations

from pathlib import Path

from . import heif
from .animation import frame_durations
from .container import check_local_file
from .stills import SUFFIXES

VIDEO, STILL, ANIMATED_WEBP, TIFF = "video", "still", "animated webp", "tiff"

PNG = b"\x89PNG\r\n\x1a\n"
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Chunks in front of the picture; an intact file has a few.
MOST_CHUNKS = 1000


def of_file(path: Path) -> str:
    """`VIDEO` for what libav reads (GIF and animated PNG too), else the kind of image.

    Raises:
        VideoError: not readable, or empty.
    """
    check_local_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
            if head.startswith(PNG):
                return VIDEO if _is_animated_png(file) else STILL
        if head.startswith(b"GIF8"):
            return VIDEO
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return ANIMATED_WEBP if frame_durations(path) else STILL
        if head.startswith(TIFF_MARKS):
            return TIFF
        if head[4:8] == b"ftyp":
            return STILL if heif.is_still(path) else VIDEO
    except OSError:
        # Whoever reads it says what is wrong.
        return VIDEO
    # A stream of JPEG pictures begins as a photo does, so here the name decides.
    return STILL if path.suffix.lower() in SUFFIXES else VIDEO


def _is_animated_png(file) -> bool:
    """Whether the control chunk of an animation comes before the first picture."""
    file.seek(len(PNG))
    for _ in range(MOST_CHUNKS):
        header = file.read(8)
        if len(header) < 8 or header[4:] == b"IDAT":
            return False
        if header[4:] == b"acTL":
            return True
        file.seek(int.from_bytes(header[:4], "big") + 4, 1)
    return False
