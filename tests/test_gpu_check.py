"""`bench/gpu_check.py`: its dry run, and that it finds what is wrong."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import gpu_check, gpu_floors
from bench.gpu.machine import Machine
from vilamp_kernels import backends
from vilamp_kernels.backends import IMPLS

ROOT = Path(__file__).parent.parent


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_dry_run_runs_every_section(tmp_path):
    path = tmp_path / "gpu.csv"
    assert gpu_check.main(["--dry-run", "--out", str(path)]) == 0
    found = rows(path)
    assert {row["section"] for row in found} == set(gpu_check.SECTIONS)
    assert {row["device"] for row in found} == {"dry run on the CPU"}
    checked = {(r["op"], r["backend"]) for r in found if r["section"] == "correctness"}
    public = set(backends.available_backends()["triton"].ops)
    assert {op for op, backend in checked if backend == "triton"} == public


@pytest.mark.parametrize("op", ["similarity", "differential_pool_backward", "select_keyframes"])
def test_a_wrong_result_is_found(tmp_path, monkeypatch, op):
    right = backends.IMPLS[op]["cpu"]

    def wrong(*args):
        first, *others = outs if isinstance(outs := right(*args), tuple) else (outs,)
        first = first + 1 if first.is_floating_point() else first - 1
        return (first, *others) if others else first

    monkeypatch.setitem(backends.IMPLS[op], "cpu", wrong)
    monkeypatch.setattr(Machine, "backends", lambda self, op: ["cpu"] if "cpu" in IMPLS[op] else [])
    path = tmp_path / "gpu.csv"
    assert gpu_check.main(["--dry-run", "--only", "correctness", "--out", str(path)]) == 1
    failed = {(r["op"], r["backend"]) for r in rows(path) if r["outcome"] == "failed"}
    assert failed == {(op.removesuffix("_backward"), "cpu")}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    program = [sys.executable, str(ROOT / "bench" / "gpu_check.py")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.count("\n") == 1
    assert "no GPU" in done.stdout


def test_a_floor_is_its_slowest_part():
    rates = {"hbm": 1e12, "tensor_bf16": 1e14, "fp32": 1e13, "cache": 0, "issue": 1}
    chip = gpu_floors.Chip("made up", "none", **rates)
    work = gpu_floors.Work("op", "shape", bytes=2e6, fp32=1e7, tensor=1e9)
    assert work.microseconds(chip) == pytest.approx(10)
    assert work.bound(chip) == "tensor"
    pool = gpu_floors.differential_pool(64, 729, 3584, 1, gpu_floors.BF16, 1)
    assert pool.bytes == 65 * 729 * 3584 * 2 + 64 * 3584 * 4


def test_the_table_of_the_docs_is_the_computed_one():
    page = (ROOT / "docs" / "gpu-kernels.md").read_text()
    assert "\n".join(gpu_floors.lines()) in page
