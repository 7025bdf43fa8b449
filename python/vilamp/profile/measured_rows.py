"""Rows of measurements: the CSV, written as they come, so that a run that was killed goes on."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import InputError
from ..text_files import read_text
from .measure import Measurement, Request
from .phases import ALL_PHASES, CALLER_PHASES

KINDS = ("resident", "allocated", "reserved")
"""Of memory, as `vilamp.profile.peaks` has them."""
LARGEST_FILE = 64 << 20
"""Bytes of a file of measurements; a row takes about one KiB."""
_COUNTS = ("frames", "tokens", "keyframes", "new_tokens")


@dataclass(frozen=True)
class MeasuredRow:
    """A measurement, what was asked for, and what the simulator says of the same run."""

    request: Request
    measured: Measurement
    simulated: int
    """Peak in bytes; weights included, Python and its libraries not."""

    def as_dict(self) -> dict[str, object]:
        """By the names of the CSV; None where there is no such figure."""
        found = self.measured
        return {
            **{f"asked_{name}": value for name, value in asdict(self.request).items()},
            "kind": "measured",
            "hardware": found.hardware,
            "device": found.device,
            "dtype": found.dtype,
            "frames": found.frames,
            "tokens": found.tokens,
            "keyframes": found.keyframes,
            "new_tokens": found.new_tokens,
            "weights_bytes": found.weights,
            "resident_before_bytes": found.before,
            **{f"{kind}_peak_bytes": found.peak(kind) for kind in KINDS},
            "simulated_peak_bytes": self.simulated,
            "load_s": found.load,
            "wall_s": found.wall,
            **{f"{phase}_s": found.seconds.get(phase, 0.0) for phase in ALL_PHASES},
            **{
                f"{phase}_{kind}_bytes": found.peaks.get(kind, {}).get(phase)
                for phase in CALLER_PHASES
                for kind in KINDS
            },
        }

    @classmethod
    def of(cls, request: Request, line: dict[str, str]) -> MeasuredRow:
        """The row of a line of the CSV.

        Raises:
            ValueError: a figure is missing or is no number.
        """
        peaks = {
            kind: {
                phase: int(line[f"{phase}_{kind}_bytes"])
                for phase in CALLER_PHASES
                if line[f"{phase}_{kind}_bytes"]
            }
            for kind in KINDS
        }
        measured = Measurement(
            hardware=line["hardware"],
            device=line["device"],
            dtype=line["dtype"],
            **{name: int(line[name]) for name in _COUNTS},
            weights=int(line["weights_bytes"]),
            before=int(line["resident_before_bytes"]),
            load=float(line["load_s"]),
            wall=float(line["wall_s"]),
            seconds={phase: float(line[f"{phase}_s"]) for phase in ALL_PHASES},
            peaks={kind: phases for kind, phases in peaks.items() if phases},
        )
        return cls(request, measured, int(line["simulated_peak_bytes"]))


class Sheet:
    """The CSV file. A line is there whole or is taken away when the file is opened again.

    Args:
        path: it may exist, with lines of an earlier run.
    Raises:
        InputError: the file is another one than this class writes.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lines: list[dict[str, str]] = []
        try:
            text = read_text(path, LARGEST_FILE) if path.exists() else ""
        except InputError as error:
            raise InputError(f"--csv: {error}") from error
        whole = text[: text.rfind("\n") + 1]
        if whole and not whole.startswith(_header()):
            raise InputError(
                f"--csv: {path} has other columns than `--measure` writes; name another file"
            )
        if text and not whole and not _header().startswith(text):
            raise InputError(f"--csv: {path} is no CSV file of `--measure`; name another file")
        if whole != text:
            # A run was killed while it wrote.
            self._replace(whole)
        self._lines = list(csv.DictReader(io.StringIO(whole)))

    def find(self, request: Request, frames: int) -> MeasuredRow | None:
        """The row of an earlier run that was asked for the same.

        Raises:
            InputError: it is there and cannot be read.
        """
        wanted = {f"asked_{name}": _text(value) for name, value in asdict(request).items()}
        wanted["frames"] = str(frames)
        for line in self._lines:
            if all(line.get(name) == value for name, value in wanted.items()):
                try:
                    return MeasuredRow.of(request, line)
                except (ValueError, TypeError) as error:
                    raise InputError(f"--csv: {self.path}: not a line of ours ({error})") from error
        return None

    def add(self, row: MeasuredRow) -> None:
        """Append a row, on disk when this returns.

        Raises:
            InputError: it cannot be written.
        """
        line = _line(_text(value) for value in row.as_dict().values())
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                text = line if os.fstat(file).st_size else _header() + line
                if os.write(file, text.encode()) < len(text.encode()):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise InputError(f"--csv: cannot write {self.path}: {error.strerror}") from error

    def _replace(self, text: str) -> None:
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            part.write_text(text, "utf-8")
            os.replace(part, self.path)
        except OSError as error:
            raise InputError(f"--csv: cannot write {self.path}: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)


def columns() -> list[str]:
    """Of the CSV."""
    empty = Measurement(0, "", "", "", 0, 0, 0, 0, 0, 0.0, 0.0)
    return list(MeasuredRow(Request(), empty, 0).as_dict())


def _header() -> str:
    return _line(columns())


def _line(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _text(value: object) -> str:
    return "" if value is None else str(value)
