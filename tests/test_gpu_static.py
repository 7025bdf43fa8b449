"""What compilers make of the GPU kernels: within the committed budget, without spills."""

import os
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

from bench import gpu_static
from bench.gpu import compiled

ROOT = Path(__file__).parent.parent
STREAMING = (
    "similarity_fwd_kernel",
    "select_round_kernel",
    "differential_pool_fwd_kernel",
    "differential_pool_bwd_dots_kernel",
    "projected_cosines_kernel",
    "pool_by_cosines_kernel",
    "projected_bwd_dots_kernel",
)
"""The kernels that read all frames or patches."""

PTX = """
.target sm_80
.visible .entry kernel()
{
    ld.global.b32 %r1, [%rd1];
$L__BB0_1:                              // %loop
    @%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
    ld.global.L1::evict_first.b16 { %rs1 }, [ %rd1 + 0 ];
$L__BB0_2:
    cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x8, %r2;
    @%p2 bra $L__BB0_2;
    @%p1 bra $L__BB0_1;
    mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1}, {%r1}, {%r2}, {%f1};
}
"""
PTXAS = """
ptxas info    : Compiling entry function 'first' for 'sm_80'
ptxas info    : Function properties for first
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 56 registers, used 1 barriers, 1024 bytes smem, 400 bytes cmem[0]
ptxas info    : Compiling entry function 'second' for 'sm_80'
    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 255 registers, 400 bytes cmem[0]
"""


def test_loads_and_loops_are_read_from_ptx():
    found = compiled.loads(PTX)
    assert found["widest_load"] == 16
    assert found["loop_load"] == 8  # of the inner loop: the outer one is no innermost one
    narrow = PTX.replace("$L__BB0_2:", "").replace("@%p2 bra $L__BB0_2;", "")
    assert compiled.loads(narrow)["loop_load"] == 8
    assert compiled.loads(narrow.replace("0x8", "16"))["loop_load"] == 16
    assert found["matrix"].startswith("mma.sync")
    assert compiled.loads("ld.global.nc.v2.f64 {a, b}, [c];")["widest_load"] == 16
    assert compiled.loads("ld.shared.b32 a, [c];") == {
        "widest_load": 0,
        "loop_load": 0,
        "matrix": "",
    }


def test_registers_and_spills_are_read_from_ptxas():
    assert compiled.parse_ptxas(PTXAS) == {"first": (56, 0, 1024), "second": (255, 20, 0)}


def test_occupancy():
    def kernel(registers, shared, warps, target="sm_80"):
        return compiled.Resources("k", target, registers, 0, shared, warps, 16, 16, "")

    assert kernel(32, 0, 4).occupancy == 1
    assert kernel(128, 0, 4).occupancy == 0.25
    assert kernel(32, 80_000, 4).occupancy == 2 * 4 / 64
    assert kernel(32, 0, 1).occupancy == 0.5  # 32 blocks are all that fit
    assert kernel(32, 0, 4, "gfx942").occupancy is None


ROW = {
    "backend": "triton",
    "case": "c",
    "kernel": "k",
    "variant": "0",
    "target": "sm_80",
    "registers": "64",
    "spills": "0",
    "shared": "1024",
    "loop_load": "16",
    "compiler": "triton 3.9.0",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"registers": "65"}, "registers 65, budget 64"),
        ({"shared": "2048"}, "shared 2048, budget 1024"),
        ({"spills": "4"}, "4 bytes of spills"),
        ({"loop_load": "4"}, "loop_load 4, budget 16"),
        ({"kernel": "new"}, "is not in gpu_budget.csv"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_over_the_budget_is_named(change, said):
    assert gpu_static.excess([ROW], [ROW]) == []
    wrong = gpu_static.excess([ROW | change], [ROW])
    assert wrong and said in wrong[0]


def test_another_compiler_is_a_warning():
    with pytest.warns(UserWarning, match=r"budget is of triton 3\.9\.0, this is triton 4"):
        assert gpu_static.excess([ROW | {"registers": "99", "compiler": "triton 4"}], [ROW]) == []


def test_the_budget_itself():
    rows = gpu_static.read()
    # Said in docs/gpu-kernels.md.
    assert not [row for row in rows if int(row["spills"])]
    targets = {row["target"] for row in rows if row["backend"] == "triton"}
    assert targets == {*(f"sm_{n}" for n in compiled.CUDA_TARGETS), *compiled.AMD_TARGETS}
    streaming = [row for row in rows if row["kernel"] in STREAMING and row["target"] != "gfx942"]
    assert {row["kernel"] for row in streaming} == set(STREAMING)
    assert {row["widest_load"] for row in streaming} == {"16"}
    # That of pool_by_cosines is unrolled: the loop that is left reads the cosines.
    loops = {row["loop_load"] for row in streaming if row["kernel"] != "pool_by_cosines_kernel"}
    assert loops == {"16"}
    tensor = [r for r in streaming if r["kernel"] == "projected_cosines_kernel"]
    assert all(row["matrix"] for row in tensor if "fp32" not in row["case"])


def run(*options):
    """The command in a process of its own, in which Triton compiles."""
    return subprocess.run(
        [sys.executable, "-m", "bench.gpu_static", *options],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("target", ["80", "90"])
def test_kernels_in_bf16_are_within_the_budget(target):
    if version("triton") != "3.9.0":
        warnings.warn("the budget was made with triton 3.9.0", stacklevel=1)
    done = run("--dtype", "bf16", "--target", target)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "within the budget" in done.stdout


@pytest.mark.slow
def test_all_kernels_are_within_the_budget():
    done = run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
