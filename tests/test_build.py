"""The C++ module: it is there, it refuses nonsense, and the build survives without a compiler."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from vilamp_kernels.cpu import module as cpu_module

ROOT = Path(__file__).parent.parent
_cpu = pytest.importorskip("vilamp_kernels._cpu", reason="the C++ module is not built")


FRAMES, QUERIES, PATCHES = torch.ones(2, 3, 4), torch.ones(2, 1, 4), torch.ones(1, 3, 2, 4)
LONGS = torch.zeros(2, 1, 2, dtype=torch.int64)
COUNT = torch.zeros(2, 1, dtype=torch.int64)
FILLED = torch.zeros(2, 3, dtype=torch.bool)
OUT, TOKENS = torch.zeros(2, 1, 3), torch.zeros(1, 1, 3, 4)
COMMON = {"eps": 1e-8, "threads": 1}
CALLS = {
    "similarity": {
        "dtype": "float32",
        "frames": FRAMES,
        "queries": QUERIES,
        "out": OUT,
        **COMMON,
    },
    "select_keyframes": {
        "dtype": "float32",
        "frames": FRAMES,
        "scores": torch.ones(2, 1, 3),
        "lengths": None,
        "indices": LONGS,
        "count": COUNT,
        "tau": 0.5,
        "min_score": None,
        "fill": False,
        **COMMON,
    },
    "fill_keyframes": {
        "mask": torch.zeros(2, 3, dtype=torch.bool),
        "out": FILLED,
        "k": 2,
    },
    "reference_frames": {
        "indices": LONGS[:, 0],
        "out": torch.zeros(2, 3, dtype=torch.int64),
        "policy": "nearest",
    },
    "differential_pool": {
        "dtype": "float32",
        "patches": PATCHES,
        "queries": QUERIES[:1],
        "references": PATCHES[:, :1],
        "assignment": torch.zeros(1, 1, 3, dtype=torch.int64),
        "alpha": 0.1,
        "lam": 1.0,
        "tokens": TOKENS,
        "weights": None,
        **COMMON,
    },
}


def call(name, **changes):
    """Call a function of the module; tensors become (address, sizes, strides)."""
    arguments = CALLS[name] | changes
    given = {
        key: cpu_module.address(value) if isinstance(value, torch.Tensor) else value
        for key, value in arguments.items()
    }
    return getattr(_cpu, name)(**given)


def test_the_module_computes():
    call("similarity")
    torch.testing.assert_close(OUT, torch.ones(2, 1, 3))
    call("select_keyframes")
    assert LONGS.tolist() == [[[0, -1]], [[0, -1]]] and COUNT.tolist() == [[1], [1]]
    call("fill_keyframes")
    assert FILLED.sum(1).tolist() == [2, 2]
    call("reference_frames", indices=torch.zeros(2, 1, dtype=torch.int64))
    call("differential_pool")
    torch.testing.assert_close(TOKENS, torch.ones(1, 1, 3, 4))
    assert _cpu.compiler.startswith("compiled by ")


REFUSED = [
    ("similarity", "dtype", "int8"),
    ("similarity", "frames", (FRAMES.data_ptr(), (2, -3, 4), (12, 4, 1))),
    ("similarity", "frames", (FRAMES.data_ptr(), (2, 3, 4), (12, 1, 3))),
    ("similarity", "queries", QUERIES[:1]),
    ("similarity", "queries", torch.ones(2, 1, 5)),
    *(("similarity", name, (0, (2, 3, 4), (12, 4, 1))) for name in ("frames", "queries", "out")),
    ("similarity", "threads", 0),
    ("similarity", "eps", -1.0),
    ("similarity", "eps", float("nan")),
    ("select_keyframes", "scores", torch.ones(2, 1, 4)),
    ("select_keyframes", "lengths", (COUNT.data_ptr(), (1,), (1,))),
    ("select_keyframes", "count", COUNT[:1]),
    ("select_keyframes", "threads", 0),
    ("fill_keyframes", "out", FILLED[:1]),
    ("fill_keyframes", "k", -1),
    ("reference_frames", "policy", "last"),
    ("reference_frames", "indices", torch.full((2, 1), 3)),
    ("reference_frames", "out", torch.zeros(1, 3, dtype=torch.int64)),
    ("differential_pool", "queries", QUERIES),
    ("differential_pool", "assignment", torch.full((1, 1, 3), 1)),
    ("differential_pool", "assignment", torch.full((1, 1, 3), -3)),
    ("differential_pool", "tokens", torch.ones(1, 1, 3, 5)),
    ("differential_pool", "dtype", "int64"),
]


@pytest.mark.parametrize("name,argument,value", REFUSED, ids=lambda value: str(value)[:20])
def test_refuses_bad_input(name, argument, value):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call(name, **{argument: value})


def test_refuses_wrong_types():
    with pytest.raises(TypeError):
        call("similarity", frames=(FRAMES.data_ptr(), (2, 3), (3, 1)))
    with pytest.raises(TypeError):
        call("similarity", frames=1.5)
    with pytest.raises(TypeError):
        _cpu.similarity("float32")


def copy_of_the_sources(folder):
    for name in ("csrc", "vilamp_kernels", "python"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__", "default_model")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)


def setup_py(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "setup.py", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "environment,cause",
    [
        ({"PATH": "/nowhere", "CXX": ""}, "no C++ compiler found"),
        ({"CXX": "false"}, "returned non-zero exit status"),
    ],
    ids=["no compiler", "compiler fails"],
)
def test_the_build_warns_and_goes_on_without_a_compiler(tmp_path, environment, cause):
    copy_of_the_sources(tmp_path)
    done = setup_py(tmp_path, "build_ext", "--inplace", **environment)
    assert done.returncode == 0, done.stderr
    said = [line for line in (done.stdout + done.stderr).splitlines() if "plain PyTorch" in line]
    assert len(said) == 1, said
    assert cause in said[0]
    assert not list(tmp_path.rglob("_cpu*.so"))


@pytest.mark.parametrize(
    "environment,cause",
    [
        ({"FORCE_CUDA": ""}, "returned non-zero exit status"),
        ({"FORCE_CUDA": "", "VILAMP_CUDA_ARCHS": "20"}, "knows none of the architectures 20"),
    ],
    ids=["nvcc fails", "unknown architecture"],
)
def test_the_build_warns_and_goes_on_without_the_cuda_module(tmp_path, environment, cause):
    copy_of_the_sources(tmp_path)
    nvcc = tmp_path / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    # Says what it knows, and compiles nothing.
    nvcc.write_text('#!/bin/sh\ntest "$1" = --list-gpu-arch && echo compute_80\n')
    nvcc.chmod(0o755)
    environment = {"CUDA_HOME": str(nvcc.parent.parent), "CXX": "false"} | environment
    done = setup_py(tmp_path, "build_ext", "--inplace", **environment)
    assert done.returncode == 0, done.stderr
    said = [line for line in (done.stdout + done.stderr).splitlines() if "CUDA module" in line]
    assert len(said) == 1 and cause in said[0], said
    if "VILAMP_CUDA_ARCHS" not in environment:  # by default 80, 90 and 100
        assert f"{nvcc} does not list 90, 100: not compiled for" in done.stderr
    done = setup_py(tmp_path, "build_ext", "--inplace", **environment | {"FORCE_CUDA": "1"})
    assert done.returncode != 0 and cause in done.stdout + done.stderr
    done = setup_py(tmp_path, "build_ext", "--inplace", **environment | {"FORCE_CUDA": "0"})
    assert done.returncode == 0 and "CUDA module" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_wheel_carries_the_module_and_all_of_the_package(tmp_path):
    copy_of_the_sources(tmp_path)
    done = setup_py(tmp_path, "bdist_wheel", "--dist-dir", str(tmp_path / "dist"))
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("vilamp_kernels/_cpu.") for name in names)
    sources = {str(path.relative_to(ROOT)) for path in ROOT.glob("vilamp_kernels/**/*.py")}
    assert sources <= set(names)
    # For CuPy, which compiles them where there is no nvcc.
    cuda = {f"vilamp_kernels/cuda/csrc/{path.name}" for path in ROOT.glob("csrc/cuda/*")}
    assert cuda and cuda <= set(names)
    assert "vilamp_kernels/py.typed" in names
