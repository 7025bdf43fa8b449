"""The options that `ask` and `select` share, and the checks that need neither video nor model."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Annotated

import typer

from vilamp.arguments import number
from vilamp.config_fields import shown
from vilamp.errors import InputError
from vilamp.limits import LOWEST_FPS
from vilamp.method import MERGINGS, SELECTORS

DTYPES = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
}
FASTEST_FPS = 240.0


class Sampling(str, Enum):
    """Which frames of the video are looked at."""

    TIME = "time"
    RELEASED = "released"
    KEYFRAMES = "keyframes"


class Compat(str, Enum):
    """Whose rules the model follows."""

    PAPER = "paper"
    RELEASED = "released"


Video = Annotated[str, typer.Argument(metavar="VIDEO", help="Video file, or a folder of images.")]
Model = Annotated[
    str,
    typer.Option("--model", help="Model folder or hub id; `default` is the small embedded model."),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", help="Such as cpu, cuda, cuda:1, mps. [default: a CUDA GPU, else cpu]"
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="fp32|bf16|fp16",
        help="Precision of the model. [default: as it was saved]",
    ),
]
Fps = Annotated[float, typer.Option("--fps", help="Frames looked at per second of video.")]
MaxFrames = Annotated[
    int | None,
    typer.Option(
        "--max-frames", min=1, help="Thin evenly down to this many frames. [default: all of them]"
    ),
]
Keyframes = Annotated[
    int | None,
    typer.Option("--keyframes", min=1, help="Most keyframes to take. [default: as the model says]"),
]
CompatOption = Annotated[
    Compat | None,
    typer.Option("--compat", help="Rules to follow. [default: those the model was trained with]"),
]
SamplingOption = Annotated[
    Sampling,
    typer.Option(
        "--sampling",
        help="Frames by time, by count as the published code does, or the keyframes of the file.",
    ),
]
Selector = Annotated[
    str,
    typer.Option(
        "--selector",
        metavar="NAME",
        help=f"How keyframes are chosen: {', '.join(SELECTORS)}.",
    ),
]
Merging = Annotated[
    str,
    typer.Option(
        "--merging",
        metavar="NAME",
        help=f"What other frames become: {', '.join(MERGINGS)}.",
    ),
]
Tau = Annotated[
    float | None,
    typer.Option(
        "--tau", help="dks: passes over frames more alike than this. [default: the model's]"
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option("--alpha", help="dfm: temperature over patches. [default: the model's]"),
]
Lam = Annotated[
    float | None,
    typer.Option("--lam", help="dfm: weight of likeness to the keyframe before. [default: 1]"),
]
Spool = Annotated[
    str,
    typer.Option(
        "--spool",
        metavar="SIZE",
        help="Disk for frames in the model's size, so that the video is decoded once; 0 for none.",
    ),
]
CacheOption = Annotated[
    bool,
    typer.Option("--cache/--no-cache", help="Keep what a later question on the video can use."),
]
Batch = Annotated[
    str,
    typer.Option(
        "--batch",
        metavar="N|auto",
        help="Frames that a vision tower is given at once; auto: 16, on a GPU what fits.",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="SIZE",
        help="Memory not to exceed, weights included; refused before the work if too small.",
    ),
]
ReleaseTowers = Annotated[
    bool | None,
    typer.Option(
        "--release-towers/--keep-towers",
        help="Move the vision towers off a GPU while they are not needed. [default: if it has to]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do, checked.

    Raises:
        InputError: a value that no video and no model could make sense of.
    """

    model: str
    device: str | None
    dtype: str | None
    """Name of a torch dtype such as "bfloat16"."""
    fps: float
    max_frames: int | None
    keyframes: int | None
    compat: str | None
    sampling: str

    def __post_init__(self) -> None:
        require_fps(self.fps)
        if self.dtype is not None and self.dtype not in DTYPES.values():
            raise InputError(f"--dtype: wanted fp32, bf16 or fp16, got {self.dtype!r}")

    @classmethod
    def of(
        cls,
        *,
        model: str,
        device: str | None,
        dtype: str | None,
        fps: float,
        max_frames: int | None,
        keyframes: int | None,
        compat: Compat | None,
        sampling: Sampling,
    ) -> Settings:
        """The settings as the options give them."""
        return cls(
            model=model,
            device=device,
            dtype=DTYPES.get(dtype, dtype) if dtype is not None else None,
            fps=fps,
            max_frames=max_frames,
            keyframes=keyframes,
            compat=compat.value if compat else None,
            sampling=sampling.value,
        )

    def as_dict(self) -> dict[str, object]:
        """The settings by name, for JSON and reports."""
        return asdict(self)


def require_fps(fps: float) -> None:
    """Check `--fps`.

    Raises:
        InputError: out of its range.
    """
    number(
        "--fps", fps, LOWEST_FPS, FASTEST_FPS, f"a number from {LOWEST_FPS:g} to {FASTEST_FPS:g}"
    )


SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*(?:([kMGT])(i?)B?|B)?", re.IGNORECASE | re.ASCII)


def size(text: str, option: str) -> int:
    """Bytes from a text such as 24GiB, 500MB or 0.

    Raises:
        InputError: it is no size.
    """
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{option}: wanted a size such as 24GiB or 500MB, got {shown(text)}")
    number, prefix, binary = match.groups()
    power = "KMGT".index(prefix.upper()) + 1 if prefix else 0
    return int(float(number) * (1024 if binary else 1000) ** power)


def batch_size(text: str) -> int | None:
    """Frames in a batch, None for auto.

    Raises:
        InputError: neither auto nor a whole number from 1 on.
    """
    text = text.strip().lower()
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
        raise InputError(f"--batch: wanted auto or a whole number from 1 on, got {shown(text)}")
    return int(text)


def budget_bytes(text: str | None) -> int | None:
    """Bytes of `--budget`, None for no budget.

    Raises:
        InputError: it is no size, or 0.
    """
    count = size(text, "--budget") if text is not None else None
    if count == 0:
        raise InputError(f"--budget: wanted a size above 0, got {shown(text)}")
    return count


def asked(text: str, what: str = "the question") -> str:
    """A question or query without surrounding space.

    Raises:
        InputError: nothing is left of it, or it is not UTF-8.
    """
    try:
        # Bytes of the command line that the locale has no letter for arrive as lone surrogates.
        text = text.encode("utf-8", "surrogateescape").decode("utf-8").strip()
    except UnicodeError as error:
        raise InputError(f"{what}: wanted UTF-8, got bytes of another encoding") from error
    if not text:
        raise InputError(f"{what} is empty")
    return text
