"""The full matrix of GPU kernels: its committed record, how the record is made, and all of it."""

import csv

import pytest
import torch
from ptx import PtxError, known_triton, matrix
from ptx.kernel_hash import kernel_hash
from ptx.triton_runner import TritonRunner

pytest.importorskip("triton")

from matrix_cases import CASES, LENGTHS, ORDERS


def test_the_committed_record():
    """If it skips: `cd tests && python -m ptx.matrix && python -m ptx.matrix --merge`."""
    records = matrix.newest([matrix.COMMITTED])
    failed = [name for name, record in records.items() if record.verdict != matrix.PASSED]
    assert not failed, failed
    stale = {case.kernels for name, case in CASES.items() if not is_recorded(name, records)}
    if stale:
        pytest.skip(f"changed since the matrix was run: {', '.join(sorted(stale))}")


def is_recorded(name, records):
    return name in records and records[name].kernels == kernel_hash(CASES[name].kernels)


def test_every_kernel_has_cases_of_each_length_and_a_far_one():
    shapes = {}
    for case in CASES.values():
        shapes.setdefault(case.kernels, []).append(case.shape)
    for kernels, found in shapes.items():
        first = {shape.split("-")[0] for shape in found}
        assert first >= {f"N{n}" for n in LENGTHS}, kernels
        # Launchers copy indices, and the backward has the forward's rows in other kernels.
        if kernels not in ("triton/reference_frames", "triton/projected_backward"):
            assert "far" in first, kernels
    assert len(CASES) == sum(len(set(found)) for found in shapes.values())
    assert {"forward", "reverse"} < {order for order, _ in ORDERS}
    assert len([order for order, _ in ORDERS if order == "random"]) >= 3


def test_a_hash_is_of_all_that_a_kernel_is_made_of(tmp_path):
    from ptx.kernel_hash import python_files

    for name, text in {
        "op": "from . import layout as l\nfrom .shared import (\n    one,\n)\nconfig('no')\n",
        "layout": "",
        "shared": "from .deep import x\nx = config(\n    'a')\n".replace("'", '"'),
        "deep": "from .op import again\n",
        "other": "",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.json").write_text("[]")
    names = {path.name for path in python_files(tmp_path / "op.py")}
    assert names == {"op.py", "layout.py", "shared.py", "deep.py", "a.json"}


class Stop(BaseException):
    """As a signal would."""


class Case:
    """Runs a known kernel, or raises."""

    kernels = "known"

    def __init__(self, error=None, idle=False):
        self.error, self.idle, self.runs = error, idle, 0

    def run(self, orders):
        self.runs += 1
        if self.error:
            raise self.error
        for order, seed in () if self.idle else orders:
            x = torch.ones(8)
            TritonRunner(order, seed)(
                known_triton.add, (1,), (x, x, x.clone(), 8), {"BLOCK": 32, "num_warps": 1}
            )


class Matrix:
    """A matrix in a folder of its own."""

    def __init__(self, folder):
        self.committed, self.shards = folder / "matrix.csv", folder / "shards"
        self.said, self.hash = [], "1"

    def run(self, cases, number=1, count=1):
        where = {"committed": self.committed, "shards": self.shards}
        return matrix.run_shard(
            cases,
            (("forward", 0), ("random", 2)),
            *(number, count),
            **where,
            hash_of=lambda kernels: self.hash,
            say=self.said.append,
        )

    def merge(self, cases):
        return matrix.merge(cases, committed=self.committed, shards=self.shards)


@pytest.fixture
def small(tmp_path):
    return Matrix(tmp_path)


def test_a_record_says_what_ran(small):
    cases = {
        "right": Case(),
        "wrong": Case(AssertionError("worst, element:\n  5")),
        "outside": Case(PtxError("outside")),
        "idle": Case(idle=True),
    }
    right, wrong, outside, idle = small.run(cases)
    assert (right.verdict, right.launches, right.orders) == ("passed", 2, "forward random-2")
    assert right.instructions > 10
    assert wrong.verdict == "failed" and wrong.reason == "AssertionError: worst, element: 5"
    assert outside.verdict == "failed" and outside.reason == "PtxError: outside"
    assert idle.verdict == "failed" and "no kernel" in idle.reason
    assert small.merge(cases) == 4
    found = matrix.newest([small.committed])
    assert list(found.values()) == [right, wrong, outside, idle]


def test_a_stop_loses_the_case_at_work_and_no_more(small):
    cases = {"one": Case(), "two": Case(Stop()), "three": Case()}
    with pytest.raises(Stop):
        small.run(cases)
    cases["two"].error = None
    assert [record.case for record in small.run(cases)] == ["two", "three"]
    assert small.run(cases) == []
    assert [case.runs for case in cases.values()] == [1, 2, 1]


def test_a_line_that_was_cut_off_does_not_count(small):
    cases = {"one": Case(), "two": Case()}
    small.run(cases)
    path = small.shards / "1-of-1.csv"
    path.write_bytes(path.read_bytes()[:-20])
    assert list(matrix.newest([path])) == ["one"]
    assert [record.case for record in small.run(cases)] == ["two"]
    with path.open() as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["one", "two"]


def test_changed_kernels_and_failed_cases_run_again(small):
    cases = {"right": Case(), "wrong": Case(AssertionError())}
    small.run(cases)
    small.merge(cases)
    for path in small.shards.iterdir():
        path.unlink()
    cases["wrong"].error = None
    assert [record.case for record in small.run(cases)] == ["wrong"]
    small.hash = "2"
    assert [record.case for record in small.run(cases)] == ["right", "wrong"]


def test_shards_share_the_cases_out(small):
    cases = {str(i): Case() for i in range(5)}
    assert [r.case for r in small.run(cases, 1, 2)] == ["0", "2", "4"]
    assert [r.case for r in small.run(cases, 2, 2)] == ["1", "3"]
    assert small.merge(cases) == 5
    assert list(matrix.newest([small.committed])) == list(cases)
    # The record leaves out what is no case any more.
    assert small.merge(["3", "1"]) == 2


def test_a_shard_runs_once_at_a_time(small):
    busy = matrix.ShardFile(small.shards / "1-of-1.csv")
    with pytest.raises(SystemExit, match="another process"):
        small.run({"one": Case()})
    busy.close()
    assert len(small.run({"one": Case()})) == 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/-2"])
def test_shards_that_are_none(text):
    with pytest.raises(matrix.argparse.ArgumentTypeError, match="wanted i/n"):
        matrix.shard(text)
    assert matrix.shard("2/3") == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("uninitialised_is_nan")
def test_matrix(name):
    CASES[name].run(ORDERS)
