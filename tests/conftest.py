"""Fixtures shared by all tests."""

import os
from pathlib import Path

# Triton decides when a kernel is defined whether it is interpreted or compiled for a GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch

import vilamp_kernels as vk
from vilamp_kernels import backends, cpu, triton
from vilamp_kernels.testing import moved

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of recorded inputs and outputs of the published implementation.

    `GOLDEN_DIR` names the full set; without it the subset in `tests/data/golden` is used.
    """
    return Path(os.environ.get("GOLDEN_DIR", DATA / "golden"))


@pytest.fixture(scope="session")
def golden_file(golden_dir):
    """`golden_file(name)` -> path; skips the test when the subset does not hold that file."""

    def find(name: str) -> Path:
        path = golden_dir / name
        if not path.exists():
            if "GOLDEN_DIR" in os.environ:
                pytest.fail(f"{name} is missing from GOLDEN_DIR={golden_dir}")
            pytest.skip(f"{name} is only in the full golden data; set GOLDEN_DIR to run it")
        return path

    return find


@pytest.fixture(autouse=True)
def draws_of_its_own():
    """What a test draws without a generator depends on no test before it."""
    torch.manual_seed(moved(0))


@pytest.fixture(autouse=True, scope="session")
def cache_of_its_own(tmp_path_factory):
    """Nothing is read from the user's cache, or written to it."""
    os.environ["VILAMP_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def video_dir() -> Path:
    return DATA / "videos"


def _cpu_backends() -> list[str]:
    """`reference`, and the C++ kernels once for each instruction set of this CPU."""
    if not cpu.status()[0]:
        return ["reference"]
    return ["reference", *(f"cpu-{name}" for name in cpu.instruction_sets())]


def pytest_generate_tests(metafunc):
    """`backend`: all that have the `OPS` of the test file; `fp64_backend`: not those of GPUs."""
    names = _cpu_backends()
    if "fp64_backend" in metafunc.fixturenames:
        metafunc.parametrize("fp64_backend", names, indirect=True)
    if "backend" in metafunc.fixturenames:
        ops = getattr(metafunc.module, "OPS", ())
        if not all("cpu" in backends.IMPLS[op] for op in ops):
            names = ["reference"]
        if ops and triton.status()[0] and all("triton" in backends.IMPLS[op] for op in ops):
            names = [*names, "triton"]
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request):
    """Runs a test once on each backend, by name."""
    name, _, instruction_set = request.param.partition("-")
    if name == "triton" and "fp64" in getattr(request.node, "callspec", request).id.split("-"):
        pytest.skip("the GPU backends leave fp64 to the reference")
    with vk.use_backend(name), cpu.use_instruction_set(instruction_set or None):
        yield name


fp64_backend = backend


@pytest.fixture
def uninitialised_is_nan():
    """`torch.empty` and its like give NaN, so that an element that nobody wrote shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
