"""The interpreter of PTX on kernels with known results, and on kernels that are known to be broken.

They run as Triton and nvcc compiled them, in every order of the warps.
"""

import mmap

import pytest
import torch
from ptx import PtxError, cuda_ptx, known_triton
from ptx.cuda_runner import CudaRunner
from ptx.machine import ORDERS
from ptx.memory import NO_RESERVE
from ptx.registers import assemblers, usage
from ptx.triton_runner import TritonRunner

from vilamp_kernels.cuda.launch import Launch
from vilamp_kernels.triton.launch import launch, use_runner

NAN = float("nan")


@pytest.fixture(params=ORDERS)
def order(request):
    return request.param


def random(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype)


def unwritten(*shape, dtype=torch.float32):
    return torch.full(shape, NAN if dtype.is_floating_point else -7, dtype=dtype)


def sparse(count: int, dtype) -> torch.Tensor:
    """A tensor of zeros that takes memory only where it is touched."""
    size = count * dtype.itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    return torch.frombuffer(mmap.mmap(-1, size, flags=flags), dtype=dtype)


class TestTriton:
    @staticmethod
    def run(order, kernel, grid, *args, **options):
        runner = TritonRunner(order, seed=1)
        with use_runner(runner):
            launch(kernel, grid, *args, **options)
        ((name, stats),) = runner.launches
        assert name == kernel.__name__
        return stats

    def test_add(self, order):
        x, y, out = random(1000), random(1000), unwritten(1000)
        stats = self.run(order, known_triton.add, (8,), x, y, out, 1000, BLOCK=128, num_warps=4)
        assert torch.equal(out, x + y)
        assert stats.per_argument == {0: (4000, 0), 1: (4000, 0), 2: (0, 4000)}
        assert (stats.read, stats.unique_read, stats.coalescing) == (8000, 8000, 1.0)

    def test_views_of_one_storage(self, order):
        whole = unwritten(3 * 1000 + 5)
        x, y, out = whole[3:1003], whole[1003:2003], whole[2005:3005]
        x.copy_(random(1000)), y.copy_(random(1000) + 1)
        want = x + y
        stats = self.run(order, known_triton.add, (8,), x, y, out, 1000, BLOCK=128, num_warps=4)
        assert torch.equal(out, want)
        assert whole[2003:2005].isnan().all() and whole[:3].isnan().all()
        assert stats.per_argument == {0: (4000, 0), 1: (4000, 0), 2: (0, 4000)}

    def test_softmax(self, order):
        x, out = random(5, 300, dtype=torch.bfloat16), unwritten(5, 300)
        self.run(order, known_triton.softmax, (5,), x, out, 300, BLOCK=512, num_warps=4)
        torch.testing.assert_close(out, x.double().softmax(1).float(), rtol=1e-5, atol=1e-7)

    def test_row_sums(self, order):
        x, out = random(10, 300, dtype=torch.float16), unwritten(10)
        for scale in (None, torch.tensor(0.5)):
            options = {"BLOCK_R": 4, "BLOCK": 128, "num_warps": 4}
            self.run(order, known_triton.row_sums, (3,), x, scale, out, 10, 300, **options)
            want = x.double().sum(1) * (1 if scale is None else 0.5)
            torch.testing.assert_close(out, want.float(), rtol=1e-5, atol=1e-5)

    def test_argmax(self, order):
        x = random(6, 200)
        x[2, 5] = x[2, 150] = 9.0
        best, where = unwritten(6), unwritten(6, dtype=torch.int64)
        options = {"BLOCK": 256, "num_warps": 4}
        self.run(order, known_triton.row_argmax, (6,), x, best, where, 200, **options)
        assert torch.equal(best, x.max(1).values)
        assert torch.equal(where, x.argmax(1)) and where[2] == 5

    def test_histogram(self, order):
        x = (random(1000) * 4).abs().to(torch.int32)
        counts, total = torch.zeros(32, dtype=torch.int32), torch.zeros(1)
        options = {"BLOCK": 128, "num_warps": 2}
        self.run(order, known_triton.histogram, (8,), x, counts, total, 1000, **options)
        assert torch.equal(counts, torch.bincount(x, minlength=32).int())
        assert total.item() == x.sum().item()

    @pytest.mark.parametrize(
        "dtype, precision",
        [
            (torch.bfloat16, None),
            (torch.float16, None),
            (torch.float32, "ieee"),
            (torch.float32, "tf32x3"),
        ],
        ids=["bf16", "fp16", "fp32-ieee", "fp32-tf32x3"],
    )
    def test_matmul(self, order, dtype, precision):
        import triton.language as tl

        a, b, out = random(40, 72, dtype=dtype), random(72, 40, dtype=dtype), unwritten(40, 40)
        args = (a, b, out, 40, 40, 72)
        options = {"BLOCK_R": 64, "BLOCK_C": 32, "BLOCK_D": 32, "num_warps": 4, "num_stages": 3}
        options |= {"PRECISION": precision, "ACC": tl.float32}
        stats = self.run(order, known_triton.matmul, (1, 2), *args, **options)
        torch.testing.assert_close(out, (a.double() @ b.double()).float(), rtol=1e-5, atol=2e-5)
        products = {None: 1, "ieee": 0, "tf32x3": 3}[precision]
        assert stats.matrix_flops == products * 2 * 64 * 64 * 96

    def test_matmul_of_bytes(self, order):
        import triton.language as tl

        a, b = ((random(*shape) * 50).clip(-128, 127).char() for shape in ((40, 72), (72, 40)))
        out = unwritten(40, 40, dtype=torch.int32)
        options = {"BLOCK_R": 64, "BLOCK_C": 32, "BLOCK_D": 32, "num_warps": 4}
        options |= {"PRECISION": None, "ACC": tl.int32}
        args = (a, b, out, 40, 40, 72)
        stats = self.run(order, known_triton.matmul, (1, 2), *args, **options)
        assert torch.equal(out, a.int() @ b.int())
        assert stats.matrix_flops == 2 * 64 * 64 * 96

    def test_far_offset(self):
        """A row that begins 5 GB into its tensor."""
        x, out = sparse(80_000 * 65_536, torch.uint8).view(80_000, 65_536), unwritten(64).byte()
        x[70_000, :64] = torch.arange(64)
        args = (x, out, 70_000, 65_536)
        stats = self.run("forward", known_triton.copy_row, (1,), *args, BLOCK=64, num_warps=1)
        # Only 64 of the columns are wanted, so all lanes read within the row.
        assert torch.equal(out, x[70_000, :64])
        assert stats.unique_read == 64

    def test_far_offset_in_32_bits(self):
        x, out = sparse(80_000 * 65_536, torch.uint8).view(80_000, 65_536), unwritten(64).byte()
        x[70_000, :64] = torch.arange(1, 65)
        args = (x, out, 70_000, 65_536)
        try:
            self.run("forward", known_triton.copy_row_int32, (1,), *args, BLOCK=64, num_warps=1)
        except PtxError as error:
            assert "outside every buffer" in str(error)
        else:
            assert not torch.equal(out, x[70_000, :64])

    @pytest.mark.parametrize("name", ["add_wrong_mask", "add_off_by_one"])
    def test_access_past_the_end(self, name):
        x, y, out = random(1000), random(1000), unwritten(1000)
        with pytest.raises(PtxError, match="outside every buffer"):
            kernel = getattr(known_triton, name)
            self.run("forward", kernel, (8,), x, y, out, 1000, BLOCK=128, num_warps=4)

    def test_error_of_the_compiler(self):
        x = random(8).to(torch.int32)
        with pytest.raises(ValueError, match="softmax"):
            self.run("forward", known_triton.softmax, (1,), x, x, 8, BLOCK=7)


class TestCuda:
    @staticmethod
    def run(order, kernel, grid, block, *args, races=True, **more):
        runner = CudaRunner(order, 1, races)
        runner(Launch(kernel, (*grid, 1, 1)[:3], (*block, 1, 1)[:3], args, **more))
        return runner.launches[0][1]

    def transpose(self, order, kernel, **more):
        x, out = random(50, 70), unwritten(70, 50)
        stats = self.run(order, kernel, (3, 2), (32, 8), x, out, 50, 70, **more)
        return x, out, stats

    def test_transpose(self, order):
        x, out, stats = self.transpose(order, "transpose_right")
        assert torch.equal(out, x.T)
        assert stats.bank_conflicts == 1.0 and stats.barriers == 6 * 8

    def test_transpose_without_barrier(self):
        kernel = "transpose_no_barrier"
        runs = [self.transpose(order, kernel, races=False) for order in ORDERS]
        assert any(not torch.equal(out, x.T) for x, out, _ in runs)

    def test_race(self, order):
        with pytest.raises(PtxError, match="race: "):
            self.transpose(order, "transpose_no_barrier")
        with pytest.raises(PtxError, match="race: "):
            self.double_buffer(order, "double_buffer_no_barrier")

    def double_buffer(self, order, kernel, shared=2 * 64 * 16, **more):
        x, out = random(5, 256), unwritten(256)
        stats = self.run(order, kernel, (1,), (64,), x, out, 5, shared=shared, **more)
        assert stats.per_argument[0] == (5 * 256 * 4, 0)
        return torch.allclose(out, x.sum(0), atol=1e-5)

    def test_double_buffer(self, order):
        assert self.double_buffer(order, "double_buffer_right")

    @pytest.mark.parametrize("missing", ["wait", "barrier"])
    def test_double_buffer_without(self, missing):
        kernel = f"double_buffer_no_{missing}"
        assert not all(self.double_buffer(o, kernel, races=False) for o in ORDERS)

    def test_too_little_shared_memory(self):
        with pytest.raises(PtxError, match="shared access outside"):
            self.double_buffer("forward", "double_buffer_right", shared=2 * 64 * 16 - 16)

    def test_more_shared_memory_than_there_is(self):
        with pytest.raises(PtxError, match="shared memory"):
            self.double_buffer("forward", "double_buffer_right", shared=200 << 10)

    def grid_reverse(self, order, kernel):
        x, middle, out = random(5000), unwritten(5000), unwritten(5000)
        arrived = torch.zeros(1, dtype=torch.int32)
        args = (x, middle, out, arrived, 5000)
        # More blocks than run side by side.
        self.run(order, kernel, (79,), (64,), *args, cooperative=True)
        return torch.equal(out, 2 * x.flip(0))

    def test_grid_barrier(self, order):
        assert self.grid_reverse(order, "grid_reverse_right")

    def test_without_grid_barrier(self):
        assert not all(self.grid_reverse(o, "grid_reverse_no_barrier") for o in ORDERS)

    def test_warp_sums(self, order):
        x, out = random(7, 260), unwritten(7)
        self.run(order, "warp_sums", (2,), (128,), x, out, 7, 260, 0.5)
        torch.testing.assert_close(out, 0.5 * x.sum(1), rtol=1e-5, atol=1e-5)

    def test_misaligned_vectors(self):
        x, out = random(7 * 260 + 1)[1:].view(7, 260), unwritten(7)
        with pytest.raises(PtxError, match="misaligned 16-byte global access"):
            self.run("forward", "warp_sums", (2,), (128,), x, out, 7, 260, 0.5)

    def test_compact(self, order):
        x, out = random(500), unwritten(500, dtype=torch.int64)
        found = unwritten(1, dtype=torch.int64)
        self.run(order, "compact", (1,), (128,), x, out, found, 500)
        want = torch.nonzero(x > 0)[:, 0]
        assert found == len(want) and torch.equal(out[: len(want)], want)

    @pytest.mark.skipif(not assemblers(), reason="needs ptxas")
    def test_registers(self):
        runner = CudaRunner()
        runner(Launch("deadlock", (1, 1, 1), (32, 1, 1), ()))
        found = usage(runner.ptx["deadlock"], 90)["warp_sums"]
        assert 16 < found.registers < 64 and found.spilled == 0

    def test_deadlock(self):
        with pytest.raises(PtxError, match="deadlock"):
            self.run("forward", "deadlock", (1,), (64,))

    def test_unknown_kernel(self):
        with pytest.raises(ValueError, match="no kernel 'nothing'"):
            self.run("forward", "nothing", (1,), (64,))

    @pytest.mark.parametrize("source", cuda_ptx.sources(), ids=lambda path: path.name)
    def test_committed_ptx_is_of_the_source(self, source):
        """If this fails: `cd tests && python -m ptx.compile`, and commit what it wrote."""
        assert cuda_ptx.committed_hash(source) == cuda_ptx.source_hash(source)
