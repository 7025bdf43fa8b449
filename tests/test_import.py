"""What importing the package does, and what it does without its optional parts."""

import importlib.metadata
import os
import subprocess
import sys
import warnings

import pytest
import torch

import vilamp_kernels as vk
from vilamp_kernels import backends, cpu


def run(code, **environment):
    """Run `code` in a fresh process, Triton not interpreted, and give back what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env=os.environ | {"TRITON_INTERPRET": "0"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_starts_no_cuda_and_imports_no_triton():
    run(
        """
import sys, torch
before = set(sys.modules)
import vilamp_kernels
new = set(sys.modules) - before
assert not [name for name in new if "triton" in name and not name.startswith("vilamp")], new
assert not torch.cuda.is_initialized()
assert "vilamp_kernels._cpu" not in sys.modules  # loaded at the first call
assert "vilamp" not in sys.modules and "transformers" not in sys.modules
"""
    )


def test_without_the_extension_everything_runs_after_one_warning():
    run(
        """
import sys, warnings
sys.modules["vilamp_kernels._cpu"] = None  # importing it raises ImportError
import torch, vilamp_kernels as vk
frames = torch.eye(3)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        assert torch.equal(vk.similarity(frames, frames), frames)
assert len(caught) == 1, caught
assert "C++ module cannot be used" in str(caught[0].message)
cpu = vk.available_backends()["cpu"]
assert not cpu.available and "_cpu" in cpu.reason, cpu
try:
    vk.use_backend("cpu")
except ValueError as error:
    assert "not available" in str(error)
else:
    raise AssertionError("a missing backend was accepted")
"""
    )


def test_the_environment_forces_a_backend():
    code = """
import logging, torch, vilamp_kernels as vk
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=__import__("sys").stdout)
for _ in range(2):
    vk.similarity(torch.eye(3), torch.eye(3))
"""
    for name in ("reference", "cpu"):
        lines = run(code, VILAMP_KERNELS_BACKEND=name).splitlines()
        assert lines == [f"similarity on cpu: {name} backend (forced)"]
    failing = """
import torch, vilamp_kernels as vk
try:
    vk.similarity(torch.eye(3), torch.eye(3))
except ValueError as error:
    print(error)
"""
    out = run(failing, VILAMP_KERNELS_BACKEND="triton")
    assert out.startswith("VILAMP_KERNELS_BACKEND: backend 'triton' is not available: ")
    out = run(failing, VILAMP_KERNELS_BACKEND="fast")
    assert out.startswith("VILAMP_KERNELS_BACKEND: wanted one of reference, cpu, ")


SETS = "VILAMP_KERNELS_CPU: wanted one of "


def test_the_environment_names_an_instruction_set():
    code = "from vilamp_kernels import cpu; print(cpu.instruction_set())"
    for name in cpu.instruction_sets():
        assert run(code, VILAMP_KERNELS_CPU=name).strip() == name
    assert run(code, VILAMP_KERNELS_CPU="").strip() == cpu.instruction_sets()[0]


def test_an_unknown_instruction_set_is_an_error_at_every_call():
    out = run(
        """
import torch, vilamp_kernels as vk
for _ in range(2):
    try:
        vk.similarity(torch.eye(3), torch.eye(3))
    except ValueError as error:
        print(error)
""",
        VILAMP_KERNELS_CPU="fast",
    )
    lines = out.splitlines()
    assert len(lines) == 2 and lines[0] == lines[1], out
    assert lines[0].startswith(SETS) and lines[0].endswith("; given fast")
    with pytest.raises(ValueError, match=r"use_instruction_set: wanted one of .*; given fast"):
        cpu.use_instruction_set("fast").__enter__()


def test_doctor_says_so_in_one_line():
    code = "from vilamp.cli.app import run; print('exit', run(['doctor']))"
    lines = run(code, VILAMP_KERNELS_CPU="fast", COLUMNS="400").splitlines()
    assert len([line for line in lines if SETS in line and "given fast" in line]) == 1, lines


def test_public_names():
    for name in vk.__all__:
        assert getattr(vk, name).__doc__
    assert sorted(vk.__all__) == vk.__all__
    assert vk.__version__ == importlib.metadata.version("vilamp-kernels")


def test_available_backends_say_what_they_have_and_why():
    found = vk.available_backends()
    assert list(found) == ["reference", "cpu", "triton", "cuda"]
    assert found["reference"].available
    assert set(found["reference"].ops) == {
        "similarity",
        "select_keyframes",
        "fill_keyframes",
        "reference_frames",
        "differential_pool",
        "projected_differential_pool",
        "preprocess_frames",
    }
    assert set(found["cpu"].ops) == set(found["reference"].ops) - {"preprocess_frames"}
    assert set(found["triton"].ops) == set(found["reference"].ops)
    assert set(found["cuda"].ops) == {"similarity", "select_keyframes", "differential_pool"}
    for status in found.values():
        assert status.reason


def test_use_backend_nests_and_sets(monkeypatch):
    frames = torch.eye(3)
    monkeypatch.delitem(backends.IMPLS["fill_keyframes"], "cpu")
    missing = pytest.raises(ValueError, match="fill_keyframes: backend 'cpu' was forced")
    with vk.use_backend("cpu"):
        vk.similarity(frames, frames)
        with vk.use_backend("reference"):
            vk.fill_keyframes(frames[0] > 0, 2)
        with missing:  # the outer choice holds again
            vk.fill_keyframes(frames[0] > 0, 2)
    vk.use_backend("cpu")  # without `with`: from here on
    try:
        with missing:
            vk.fill_keyframes(frames[0] > 0, 2)
    finally:
        vk.use_backend(None)
    vk.fill_keyframes(frames[0] > 0, 2)
    with pytest.raises(ValueError, match="use_backend: backend 'cuda' is not available"):
        vk.use_backend("cuda")
    with pytest.raises(ValueError, match="use_backend: wanted one of"):
        vk.use_backend("fast")


def test_no_warning_when_the_extension_is_there():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vk.similarity(torch.eye(3), torch.eye(3))
