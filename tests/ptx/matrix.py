"""The full matrix of `matrix_cases`, in shards that can be stopped and gone on with.

python -m ptx.matrix                 # in tests/: all cases that have no record yet
python -m ptx.matrix --shard 1/2     # every second one; 2/2 may run at the same time
python -m ptx.matrix --merge         # what the shards found joins the committed record

Each case that ends adds a line to the file of its shard, so a stop loses the case at work and no
more. A case that has passed with the kernels as they are now is left out. With `--merge` the
newest line of each case goes into `matrix.csv`, which is committed.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol
from unittest import mock

from .kernel_hash import kernel_hash
from .machine import Module

COMMITTED = Path(__file__).with_name("matrix.csv")
SHARDS = Path(__file__).resolve().parents[2] / "build" / "ptx-matrix"
PASSED, FAILED = "passed", "failed"


class Case(Protocol):
    """What a case needs: see `matrix_cases.Case`."""

    kernels: str

    def run(self, orders) -> None: ...


@dataclass
class Record:
    """One line: what became of a case."""

    case: str
    kernels: str  # hash of their sources
    orders: str
    verdict: str
    launches: int  # in all orders
    instructions: int  # of warps, in all launches
    finished: str  # UTC
    reason: str = ""


COLUMNS = [field.name for field in fields(Record)]


@dataclass
class Work:
    launches: int = 0
    instructions: int = 0


@contextmanager
def counted() -> Iterator[Work]:
    """Counts what the interpreter runs within the block."""
    work, launch = Work(), Module.launch

    def counting(self, *args, **kwargs):
        stats = launch(self, *args, **kwargs)
        work.launches += 1
        work.instructions += stats.warp_instructions
        return stats

    with mock.patch.object(Module, "launch", counting):
        yield work


def run_case(name: str, case: Case, orders: Iterable[tuple[str, int]], kernels: str) -> Record:
    """Run one case; any error is a verdict, but for a stop by the user."""
    reason = ""
    with counted() as work:
        try:
            case.run(orders)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if not reason and not work.launches:
        reason = "no kernel was launched"
    return Record(
        name,
        kernels,
        " ".join(order if not seed else f"{order}-{seed}" for order, seed in orders),
        FAILED if reason else PASSED,
        work.launches,
        work.instructions,
        datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        reason,
    )


def read(path: Path) -> list[Record]:
    """The lines of a file; one that was cut off by a stop does not count."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    rows = csv.DictReader(whole.splitlines())
    return [Record(**row | {k: int(row[k]) for k in ("launches", "instructions")}) for row in rows]


def newest(paths: Iterable[Path]) -> dict[str, Record]:
    """For each case its newest record in these files."""
    found: dict[str, Record] = {}
    for path in paths:
        for record in read(path):
            if record.case not in found or record.finished >= found[record.case].finished:
                found[record.case] = record
    return found


def files(committed: Path = COMMITTED, shards: Path = SHARDS) -> list[Path]:
    return [committed, *sorted(shards.glob("*.csv"))]


class ShardFile:
    """The file that one shard appends to; another process cannot have it at the same time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{path.name}: another process runs this shard") from None
        self._file.seek(0)
        text = self._file.read()
        self._file.truncate(text.rfind(b"\n") + 1)
        if b"\n" not in text:
            self._write(COLUMNS)

    def _write(self, row: Iterable) -> None:
        line = LineWriter()
        csv.writer(line, lineterminator="\n").writerow(row)
        self._file.write(line.text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def append(self, record: Record) -> None:
        self._write(asdict(record).values())

    def close(self) -> None:
        self._file.close()


class LineWriter:
    """Keeps the one line that is written to it."""

    text = ""

    def write(self, text: str) -> None:
        self.text = text


def run_shard(
    cases: Mapping[str, Case],
    orders: Iterable[tuple[str, int]],
    number: int,
    count: int,
    committed: Path = COMMITTED,
    shards: Path = SHARDS,
    hash_of: Callable[[str], str] = kernel_hash,
    say: Callable[[str], None] = print,
) -> list[Record]:
    """Run every `count`-th case from the `number`-th, but those that have passed; the records."""
    known = newest(files(committed, shards))
    mine = list(cases)[number - 1 :: count]
    left = [
        name
        for name in mine
        if name not in known
        or known[name].verdict != PASSED
        or known[name].kernels != hash_of(cases[name].kernels)
    ]
    say(f"{len(mine) - len(left)} of {len(mine)} cases have passed; {len(left)} left")
    file, records = ShardFile(shards / f"{number}-of-{count}.csv"), []
    try:
        for i, name in enumerate(left, 1):
            begin = time.monotonic()
            record = run_case(name, cases[name], orders, hash_of(cases[name].kernels))
            file.append(record)
            records.append(record)
            seconds = time.monotonic() - begin
            say(f"[{i}/{len(left)}] {name}: {record.verdict} ({seconds:.1f} s) {record.reason}")
    finally:
        file.close()
    return records


def merge(cases: Iterable[str], committed: Path = COMMITTED, shards: Path = SHARDS) -> int:
    """Write the newest record of each case to the committed file; how many there are."""
    found = newest(files(committed, shards))
    records = [found[name] for name in cases if name in found]
    part = committed.with_name(committed.name + ".part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(asdict(record).values() for record in records)
    part.replace(committed)
    return len(records)


def shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"wanted i/n with i from 1 to n; given {text!r}")
    return int(number), int(count)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ptx.matrix", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="i/n")
    parser.add_argument("--merge", action="store_true", help="write the committed record, run none")
    arguments = parser.parse_args()

    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported, as in the tests
    import torch
    from matrix_cases import CASES, ORDERS

    # What nobody wrote is NaN, as in the fixture `uninitialised_is_nan`.
    torch.use_deterministic_algorithms(True, warn_only=True)
    if arguments.merge:
        print(f"{merge(CASES)} of {len(CASES)} cases have a record in {COMMITTED.name}")
        return
    records = run_shard(CASES, ORDERS, *arguments.shard, say=lambda text: print(text, flush=True))
    failed = [record.case for record in records if record.verdict != PASSED]
    if failed:
        sys.exit(f"{len(failed)} cases failed")


if __name__ == "__main__":
    main()
