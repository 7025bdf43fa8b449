"""A contact sheet: the keyframes of a question as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from vilamp.clock import clock

if TYPE_CHECKING:
    from vilamp.session import Keyframe, SelectionResult

CELL = 320
"""Width of a thumbnail, and the most of its height, in pixels."""
SYSTEM_FONTS = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")
SHAPE = 1.6
"""Width over height that the sheet aims at."""
MARGIN, GAP, CAPTION, HEADER = 40, 20, 58, 104
PAPER, INK, QUIET, RULE, CURVE, MARK = (
    "#16181b",
    "#f2f0ec",
    "#9d9a93",
    "#34383d",
    "#7fb0e0",
    "#ff8a50",
)


def contact_sheet(
    selection: SelectionResult, thumbnails: Sequence[Image.Image], subtitle: str = ""
) -> Image.Image:
    """Thumbnails in time order, the time and the relevance under each.

    Args:
        selection: names the question and the keyframes.
        thumbnails: the picture of each keyframe, at most `CELL` pixels wide and high.
        subtitle: a remark below the question, such as the name of the video.
    """
    columns = _columns(thumbnails)
    rows = math.ceil(len(thumbnails) / columns)
    row = max((picture.height for picture in thumbnails), default=0) + CAPTION
    # A single narrow column would leave no room for the question.
    width = 2 * MARGIN + max(columns, 2) * (CELL + GAP) - GAP
    height = HEADER + rows * (row + GAP) - GAP + MARGIN if rows else HEADER + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _header(draw, width, selection.question, subtitle)
    scores = [keyframe.score for keyframe in selection.keyframes]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    for number, (keyframe, picture) in enumerate(zip(selection.keyframes, thumbnails, strict=True)):
        x = MARGIN + number % columns * (CELL + GAP)
        y = HEADER + number // columns * (row + GAP)
        # Pictures stand on one line, so that the captions of a row do too.
        top = y + row - CAPTION - picture.height
        sheet.paste(picture, (x + (CELL - picture.width) // 2, top), _rounded(picture.size))
        level = (keyframe.score - low) / (high - low) if high > low else 1.0
        _caption(draw, x, y + row - CAPTION, keyframe, level)
    return sheet


def _columns(thumbnails: Sequence[Image.Image]) -> int:
    """As many columns as give about the shape of a screen, with few places left empty."""
    count = len(thumbnails)
    if count < 2:
        return 1
    row = max(picture.height for picture in thumbnails) + CAPTION + GAP
    ideal = math.sqrt(SHAPE * count * row / (CELL + GAP))
    near = range(max(2, math.floor(ideal) - 1), math.ceil(ideal) + 2)
    return min(near, key=lambda columns: -count % columns / columns + abs(columns - ideal) / 4)


def _rounded(size: tuple[int, int]) -> Image.Image:
    # Drawn larger and shrunk: PIL's own corners are jagged.
    mask = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), 32, fill=255)
    return mask.resize(size, Image.Resampling.LANCZOS)


def _header(draw: ImageDraw.ImageDraw, width: int, question: str, subtitle: str) -> None:
    room = width - 2 * MARGIN
    for text, size, colour, y in ((question, 28, INK, 28), (subtitle, 16, QUIET, 66)):
        font = _font(size, text)
        draw.text((MARGIN, y), _fit(draw, text, font, room), colour, font)


def _font(size: int, text: str) -> ImageFont.FreeTypeFont:
    """PIL's own font, which has little beyond ASCII, or one of the system for other letters."""
    for name in () if text.replace("·", "").isascii() else SYSTEM_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _caption(draw: ImageDraw.ImageDraw, x: int, y: int, keyframe: Keyframe, level: float) -> None:
    note = f"{keyframe.score:.3f}" + (" · fill" if keyframe.chosen == "fill" else "")
    draw.text((x, y + 8), clock(keyframe.time), INK, ImageFont.load_default(21))
    draw.text((x + CELL, y + 11), note, QUIET, ImageFont.load_default(17), anchor="ra")
    draw.rounded_rectangle((x, y + 38, x + CELL - 1, y + 41), 2, RULE)
    end = x + (CELL - 1) * max(level if math.isfinite(level) else 0.0, 0.02)
    draw.rounded_rectangle((x, y + 38, end, y + 41), 2, MARK if level == 1.0 else CURVE)


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    text = " ".join(text.split())
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text + "…", font) > room:
        text = text[:-1]
    return text.rstrip() + "…"
