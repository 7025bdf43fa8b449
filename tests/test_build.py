"""The C++ module: it is there, it refuses nonsense, and the build survives without a compiler."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
_cpu = pytest.importorskip("vilamp_kernels._cpu", reason="the C++ module is not built")


def call(**changes):
    frames, queries, out = torch.ones(2, 3, 4), torch.ones(2, 1, 4), torch.zeros(2, 1, 3)
    arguments = {
        "dtype": "float32",
        "frames": frames.data_ptr(),
        "frames_shape": (2, 3, 4),
        "frames_stride": (12, 4),
        "queries": queries.data_ptr(),
        "queries_shape": (2, 1, 4),
        "queries_stride": (4, 4),
        "out": out.data_ptr(),
        "eps": 1e-8,
        "threads": 1,
    }
    _cpu.similarity(**(arguments | changes))
    return out


def test_the_module_computes():
    torch.testing.assert_close(call(), torch.ones(2, 1, 3))
    assert _cpu.compiler.startswith("compiled by ")


REFUSED = {
    "dtype": {"dtype": "int8"},
    "negative size": {"frames_shape": (2, -3, 4)},
    "batch": {"queries_shape": (1, 1, 4)},
    "width": {"queries_shape": (2, 1, 5)},
    "frames address": {"frames": 0},
    "queries address": {"queries": 0},
    "out address": {"out": 0},
    "threads": {"threads": 0},
    "eps": {"eps": -1.0},
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_bad_input(case):
    with pytest.raises(ValueError, match="similarity: "):
        call(**REFUSED[case])


def test_refuses_wrong_types():
    with pytest.raises(TypeError):
        call(frames_shape=(2, 3))
    with pytest.raises(TypeError):
        call(frames=1.5)
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
    assert "vilamp_kernels/py.typed" in names
