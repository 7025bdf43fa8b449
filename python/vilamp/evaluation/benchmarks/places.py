"""Files of a data set: their names come from its tables and are not trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ...errors import InputError

SUFFIXES = (".mp4", ".MP4", ".mkv", ".webm", ".avi", ".mov")


def inside(folder: Path, name: str) -> Path:
    """A file of a folder, by its relative name; it need not be there.

    Raises:
        InputError: the name leads out of the folder, by itself or by a link.
    """
    path = _named(folder, name)
    try:
        within = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{name!r}: cannot be looked for in {folder} ({error})") from error
    if not within:
        raise InputError(
            f"{name!r}: leads out of {folder} by a link; name the folder where it is (--videos)"
        )
    return path


def _named(folder: Path, name: str) -> Path:
    """The same without asking the disk, where links can lead anywhere."""
    pure = PurePosixPath(name)
    if (
        not pure.parts
        or pure.is_absolute()
        or ".." in pure.parts
        or any(c in name for c in "\\\0:")
    ):
        raise InputError(f"{name!r}: wanted the name of a file in {folder}")
    return folder / pure


def first_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that is there, None for none.

    Raises:
        InputError: a name leads out of the folder.
    """
    for name in names:
        try:
            there = _named(folder, name).is_file()
        except OSError:
            # Such as a name that is too long for the file system: no such file.
            continue
        if there:
            return inside(folder, name)
    return None


def video_file(folder: Path, folders: Sequence[str], name: str, prefix: str = "") -> Path | None:
    """A video in one of some folders of a data set, None where there is none.

    Args:
        folder: of the data set.
        folders: in it, ours.
        name: of the video, the data set's; without one of `SUFFIXES` each of them is tried.
        prefix: ours, before the name.

    Raises:
        InputError: the name leads out of the folder.
    """
    # By itself first: behind a folder or a prefix of ours it would only look less strange.
    _named(folder, name)
    suffixes = ("",) if PurePosixPath(name).suffix in SUFFIXES else SUFFIXES
    return first_file(
        folder, [f"{place}/{prefix}{name}{s}".lstrip("/") for place in folders for s in suffixes]
    )


def table(folder: Path, patterns: Sequence[str], title: str) -> Path:
    """The file of questions: the first that fits one of the patterns.

    Raises:
        InputError: no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise InputError(f"--data: no such folder: {folder}")
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            return inside(folder, path.relative_to(folder).as_posix())
    wanted = " or ".join(patterns)
    raise InputError(f"{folder}: not {title} as it was released (wanted {wanted} in it)")
