"""The CUDA kernels' two ways to a GPU: the module that nvcc built, and the source for NVRTC.

None of it needs a GPU or a driver.
"""

import contextlib
import importlib.util
import re
import subprocess
import sys
import types

import nvrtc
import pytest
import torch
from ptx import cuda_ptx

import vilamp_kernels as vk
from vilamp_kernels import backends, cuda
from vilamp_kernels.cuda import availability, cupy_module, inputs, module, pooling, selection
from vilamp_kernels.cuda import launch as cuda_launch

needs_module = pytest.mark.skipif(
    importlib.util.find_spec("vilamp_kernels._cuda") is None, reason="the module is not built"
)
needs_nvrtc = pytest.mark.skipif(
    nvrtc.library() is None, reason="no libnvrtc (pip install nvidia-cuda-nvrtc)"
)
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
FILES = sorted(set(cupy_module._FILES.values()))
PARAMETERS = re.compile(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)")


def entries(text):
    """The kernels of some PTX, each with the types of its parameters."""
    return {
        name: re.findall(r"\.param\s+\.(\w+)", parameters)
        for name, parameters in PARAMETERS.findall(text)
    }


def kernels_of_the_sources():
    found = {}
    for file in FILES:
        found |= entries(cuda_ptx.ptx_of(cuda_ptx.ROOT / "csrc" / "cuda" / file))
    return found


# --- the module


@needs_module
def test_the_module_has_all_kernels():
    assert sorted(module.load().kernels()) == sorted(kernels_of_the_sources())


def test_every_parameter_is_8_bytes_or_a_float():
    kinds = {kind for types in kernels_of_the_sources().values() for kind in types}
    assert kinds == {"u64", "f32"}


@needs_module
@no_gpu
def test_the_module_can_be_imported_without_a_driver():
    code = """
import vilamp_kernels._cuda as module
count, reason = module.devices()
assert count == 0 and reason, (count, reason)
print(module.architectures(), reason)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sm_" in done.stdout and "compute_" in done.stdout


@needs_module
@no_gpu
def test_a_launch_without_a_driver_is_a_clear_error():
    options = {"shared": 0, "stream": 0, "device": 0, "args": [0, 1.0], "cooperative": False}
    with pytest.raises(RuntimeError, match=r"^similarity_fwd_q1_fp32: .*\(cudaError\w+\)$"):
        module.load().launch("similarity_fwd_q1_fp32", (1, 1, 1), (32, 1, 1), **options)
    with pytest.raises(RuntimeError, match=r"^similarity_fwd_q1_fp32: .*\(cudaError\w+\)$"):
        module.load().blocks_per_processor("similarity_fwd_q1_fp32", 128, 0, 0)


@needs_module
def test_unknown_kernels_and_arguments_are_refused():
    options = {"shared": 0, "stream": 0, "device": 0, "cooperative": False}
    with pytest.raises(ValueError, match="no CUDA kernel is named nothing"):
        module.load().launch("nothing", (1, 1, 1), (32, 1, 1), args=[], **options)
    with pytest.raises(TypeError):
        module.load().launch("similarity_fwd_q1_fp32", (1, 1, 1), (1, 1, 1), args=["x"], **options)


def test_arguments_are_packed_as_addresses_integers_and_floats():
    x = torch.ones(3)
    assert module.packed((x, 7, None, 0.5)) == [x.data_ptr(), 7, 0, 0.5]
    packed = cupy_module.packed((x, 7, None, 0.5))
    assert [value.itemsize for value in packed] == [8, 8, 8, 4]
    assert [value.item() for value in packed] == [x.data_ptr(), 7, 0, 0.5]


@pytest.mark.parametrize(
    "capability,built_for,runs",
    [
        ((8, 0), ["sm_80"], True),
        ((8, 9), ["sm_80"], True),  # a later chip of the same generation
        ((8, 0), ["sm_86", "compute_86"], False),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_80", "compute_80"], True),  # the driver compiles PTX
        ((12, 0), ["sm_90", "sm_100", "compute_100"], True),
        ((7, 5), ["sm_80", "compute_80"], False),
        ((8, 0), [], False),
        ((9, 0), ["sm_90a"], True),  # what only this chip has
        ((9, 0), ["sm_80", "compute_90a"], True),
        ((10, 0), ["sm_90a", "compute_90a"], False),
        ((12, 1), ["sm_120a"], False),
        ((8, 7), ["sm_80", "sm_86"], False),  # a Jetson
        ((8, 7), ["sm_87"], True),
        ((8, 7), ["sm_80", "compute_80"], True),
        ((8, 9), ["sm_87"], False),
    ],
)
def test_which_chips_a_build_serves(capability, built_for, runs):
    assert module.has_code_for(capability, built_for) == runs


# --- the choice


@no_gpu
def test_without_a_gpu_the_status_says_so():
    available, reason = cuda.status()
    assert not available and "PyTorch sees no GPU" in reason
    assert "nvcc" in reason and "CuPy" in reason
    assert not cuda.serves(torch.device("cpu"))
    assert cuda.status(torch.device("cuda", 0)) == (available, reason)
    with pytest.raises(ValueError, match=r"'cuda' is not available: .*no GPU"):
        vk.use_backend("cuda")


@pytest.fixture
def pretend(monkeypatch):
    """A GPU of a name and compute capability, and what there is to run kernels on it."""

    def change(capability, built_for=(), complaint="", cupy=None, broken=None, hip=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A Chip")
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(module, "architectures", lambda: list(built_for))
        monkeypatch.setattr(module, "no_devices", lambda: complaint)
        monkeypatch.setattr(cupy_module, "version", lambda: cupy)
        monkeypatch.setattr(cupy_module, "complaint", lambda device: broken)
        availability._choice.cache_clear()

    yield change
    availability._choice.cache_clear()


def test_the_module_comes_before_cupy(pretend):
    pretend((8, 0), ["sm_80", "compute_80"], cupy="13.6")
    assert availability.provider(torch.device("cuda", 0)) is module
    assert cuda.status() == (True, "module built by nvcc for sm_80, compute_80; A Chip (sm_80)")
    assert cuda.serves(torch.device("cuda")) and backends._serves(
        "cuda", torch.device("cuda"), torch.float32
    )


@pytest.mark.parametrize(
    "capability,built_for,complaint",
    [
        ((9, 0), ["sm_80"], ""),
        ((8, 0), [], "No module named 'vilamp_kernels._cuda'"),
        ((8, 0), ["sm_80"], "CUDA driver version is insufficient for CUDA runtime version"),
    ],
    ids=["architecture", "not built", "old driver"],
)
def test_cupy_where_the_module_cannot(pretend, capability, built_for, complaint):
    pretend(capability, built_for, complaint, cupy="13.6")
    assert availability.provider(torch.device("cuda", 0)) is cupy_module
    assert "compiled by NVRTC through CuPy 13.6" in cuda.status()[1]
    pretend(capability, built_for, complaint)
    available, reason = cuda.status()
    assert not available and (complaint or "no code for A Chip (sm_90)") in reason
    with pytest.raises(RuntimeError, match="nothing can start them on cuda:0"):
        availability.provider(torch.device("cuda", 0))


def test_a_broken_cupy_is_not_used(pretend):
    pretend((9, 0), ["sm_80"], cupy="13.6", broken="ImportError: libnvrtc.so.12")
    available, reason = cuda.status()
    assert not available and "no code for A Chip (sm_90)" in reason
    assert reason.endswith("CuPy cannot be used: ImportError: libnvrtc.so.12")
    with pytest.raises(RuntimeError, match=r"libnvrtc\.so\.12"):
        availability.provider(torch.device("cuda", 0))


def test_old_chips_and_other_makers_are_refused(pretend):
    pretend((7, 5), ["sm_80", "compute_80"], cupy="13.6")
    assert cuda.status() == (False, "A Chip (sm_75) is older than sm_80")
    pretend((9, 4), ["sm_90"], hip="6.2")
    assert cuda.status() == (False, "this PyTorch is for AMD GPUs")
    assert not cuda.serves(torch.device("cuda"))


def test_each_device_has_its_own_status(pretend, monkeypatch):
    pretend((8, 0), ["sm_80"])
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: ((8, 0), (9, 0))[device]
    )
    assert cuda.status() == cuda.status(torch.device("cuda")) == cuda.status(torch.device("cuda:0"))
    assert cuda.status()[0]
    available, reason = cuda.status(torch.device("cuda", 1))
    assert not available and "no code for A Chip (sm_90)" in reason
    assert cuda.serves(torch.device("cuda", 1))  # they would be for it


def test_tensors_on_several_devices_are_refused():
    args = (torch.ones(1), torch.ones(1, device="meta"))
    with pytest.raises(ValueError, match="similarity_fwd: wanted tensors on one device; given"):
        cuda_launch.launch("similarity_fwd", 1, 32, *args)
    with pytest.raises(RuntimeError, match="given tensors on cpu"):
        availability.provider(torch.device("cpu"))


# --- the source for CuPy


def test_the_source_includes_nothing():
    for file in FILES:
        assert "#include" not in cupy_module.source(file)


def test_every_kernel_is_in_the_file_that_cupy_is_given():
    for file in FILES:
        for kernel in entries(cuda_ptx.ptx_of(cuda_ptx.ROOT / "csrc" / "cuda" / file)):
            assert cupy_module.file_of(kernel) == file


@needs_nvrtc
@pytest.mark.parametrize("file", FILES)
def test_nvrtc_compiles_what_cupy_would_give_it(file):
    ptx = nvrtc.compile_to_ptx(
        cupy_module.source(file), (*cupy_module.OPTIONS, "--gpu-architecture=compute_80")
    )
    of_nvcc = entries(cuda_ptx.ptx_of(cuda_ptx.ROOT / "csrc" / "cuda" / file))
    assert entries(ptx) == of_nvcc


@needs_nvrtc
def test_an_error_of_nvrtc_is_seen():
    with pytest.raises(ValueError, match=r"cuda_bf16\.h"):
        nvrtc.compile_to_ptx("#include <cuda_bf16.h>", ())


class FakeCuPy:
    """What the runner uses of CuPy, with a note of each launch."""

    def __init__(self):
        self.compiled, self.launches, self.limits = [], [], []
        outer = self

        class Function:
            limit = 48 << 10

            @property
            def max_dynamic_shared_size_bytes(self):
                return self.limit

            @max_dynamic_shared_size_bytes.setter
            def max_dynamic_shared_size_bytes(self, value):
                self.limit = value
                outer.limits.append(value)

            def kernel(self, *args, **options):
                if args[0][0] > 1000:
                    raise RuntimeError("invalid configuration")
                outer.launches.append((args, options))

            kernel.ptr = 1

        class RawModule:
            def __init__(self, *, code, options):
                outer.compiled.append((code, options))

            def get_function(self, name):
                return Function()

        self.RawModule = RawModule
        self.cuda = types.SimpleNamespace(
            Device=lambda device: contextlib.nullcontext(),
            ExternalStream=lambda stream, device: contextlib.nullcontext(),
            compiler=types.SimpleNamespace(CompileException=ValueError),
            driver=types.SimpleNamespace(
                CUDADriverError=RuntimeError,
                occupancyMaxActiveBlocksPerMultiprocessor=self.occupancy,
            ),
            runtime=types.SimpleNamespace(CUDARuntimeError=OSError, is_hip=False),
            nvrtc=types.SimpleNamespace(getVersion=lambda: (12, 9)),
        )

    def occupancy(self, kernel, threads, shared):
        if threads > 1024:
            raise RuntimeError("invalid value")
        return (100 << 10) // shared


@pytest.fixture
def fake_cupy(monkeypatch):
    fake = FakeCuPy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    caches = (cupy_module._module, cupy_module._function, cupy_module.blocks_per_processor)
    for cache in caches:
        cache.cache_clear()
    yield fake
    for cache in caches:
        cache.cache_clear()


def test_cupy_compiles_each_file_once_and_says_so(fake_cupy, caplog):
    caplog.set_level("INFO", "vilamp_kernels")
    x = torch.ones(3)
    for kernel in ("select_keyframes_fwd_fp32", "select_keyframes_fwd_bf16"):
        record = cuda_launch.Launch(kernel, (3, 1, 1), (256, 1, 1), (x, 1, 0.5), 64 << 10, True)
        cupy_module.launch(record, 0, 0)
    (line,) = caplog.messages
    assert "compiling csrc/cuda/selection.cu with NVRTC" in line
    assert fake_cupy.compiled == [(cupy_module.source("selection.cu"), cupy_module.OPTIONS)]
    (args, options), _ = fake_cupy.launches
    assert args == ((3, 1, 1), (256, 1, 1), (x.data_ptr(), 1, 0.5))
    assert options == {"shared_mem": 64 << 10, "enable_cooperative_groups": True}
    assert fake_cupy.limits == [64 << 10, 64 << 10]


def test_the_limit_of_shared_memory_only_grows(fake_cupy):
    for kib in (8, 64, 96, 64, 96, 48):
        record = cuda_launch.Launch("similarity_fwd_q1_fp32", (1,), (32,), (1,), kib << 10)
        cupy_module.launch(record, 0, 0)
    assert fake_cupy.limits == [64 << 10, 96 << 10]


def test_what_cupy_can_lack(fake_cupy, monkeypatch):
    def fails(*_):
        raise OSError("no such library\n" * 100)

    assert cupy_module.complaint(0) is None
    with monkeypatch.context() as patch:
        patch.setattr(fake_cupy.cuda.nvrtc, "getVersion", fails)
        complaint = cupy_module.complaint(0)
        assert complaint.startswith("OSError: no such library no such") and len(complaint) <= 200
    with monkeypatch.context() as patch:
        patch.setattr(fake_cupy.cuda, "Device", fails)
        assert "no such library" in cupy_module.complaint(0)
    with monkeypatch.context() as patch:
        patch.setattr(fake_cupy.cuda.runtime, "is_hip", True)
        assert cupy_module.complaint(0) == "it is for AMD GPUs"
    monkeypatch.setitem(sys.modules, "cupy", None)  # what an import then raises
    assert cupy_module.complaint(0).startswith("ModuleNotFoundError: ")


def test_an_error_of_cupy_names_the_kernel(fake_cupy):
    record = cuda_launch.Launch("similarity_fwd_q1_fp32", (2000, 1, 1), (32, 1, 1), (1,))
    with pytest.raises(RuntimeError, match=r"^similarity_fwd_q1_fp32: invalid configuration$"):
        cupy_module.launch(record, 0, 0)


def test_how_many_blocks_fit_through_cupy(fake_cupy):
    name = "select_keyframes_fwd_fp32"
    assert cupy_module.blocks_per_processor(name, 256, 40 << 10, 0) == 2
    with pytest.raises(RuntimeError, match=f"^{name}: not even one block of 256 threads"):
        cupy_module.blocks_per_processor(name, 256, 110 << 10, 0)
    with pytest.raises(RuntimeError, match=f"^{name}: invalid value$"):
        cupy_module.blocks_per_processor(name, 2048, 40 << 10, 0)


# --- what launchers decide


def test_alignment():
    x = torch.zeros(4, 64, dtype=torch.bfloat16)
    assert inputs.aligned(x) and inputs.aligned(x[:, :60], x[::2])
    assert not inputs.aligned(x[:, 1:])
    assert not inputs.aligned(x.view(-1)[:252].view(4, 63))
    assert inputs.aligned(x.view(-1)[:63].view(1, 63))  # the stride of one row is never used


@pytest.mark.parametrize("room", [101_376, 166_912, 232_448], ids=["sm_86", "sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("questions", [1, 4])
def test_every_plan_fits_the_chip(room, dtype, questions):
    size = 4 if dtype == "fp32" else 2
    for c in (1, 64, 768, 1152, 3584, 4096, 6144):
        found = pooling.plan(c, questions, dtype, room)
        assert found is not None and found.shared <= room
        assert 1 <= found.stages <= 4
        assert found.threads * found.variant.vectors * 16 >= c * size
        assert found.threads % 32 == 0
    published = pooling.plan(3584, 1, "bf16", room)
    assert published.stages >= 2 and 2 * published.shared <= 167_936
    assert pooling.plan(100_000, 1, dtype, room) is None


def test_parts_cover_all_patches_and_fill_the_device():
    for blocks, m, resident in ((64, 729, 216), (1, 729, 216), (1, 1, 216), (10_000, 729, 216)):
        parts, rows = pooling.parts_of(blocks, m, resident, 2)
        assert (parts - 1) * rows < m <= parts * rows
        assert blocks * parts >= min(resident // 2, blocks * m // 32)


def test_memory_of_the_taken_frame():
    assert selection.taken_bytes(512, 4) == 2048
    assert selection.taken_bytes(512, 2) == 2048 + 64
    assert selection.taken_bytes(1, 2) == 4 * (32 + 16 + 4)


@pytest.mark.parametrize("spare,launched", [(1023, False), (1024, True)])
def test_selection_leaves_room_for_static_shared_memory(monkeypatch, spare, launched):
    launches = []
    room = selection.taken_bytes(64, 4) + spare
    monkeypatch.setattr(selection, "chip", lambda device: cuda_launch.Chip(2, room))
    monkeypatch.setattr(selection, "resident_blocks", lambda *_: 4)
    monkeypatch.setattr(selection, "launch", lambda *args, **options: launches.append(args[0]))
    frames, scores = torch.randn(1, 5, 64), torch.rand(1, 1, 5)
    selection.select_keyframes(frames, scores, 2, 0.9, None, False, None, 1e-8)
    assert launches == ["select_keyframes_fwd_fp32"] * launched
