"""What each op must at least cost on a GPU: bytes, arithmetic, and so the floor in microseconds.

`python -m bench.gpu_floors` prints the table and writes it into docs/gpu-kernels.md. Nothing here
is measured: sizes come from the shapes of the 7B model, rates from the chips' data sheets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .table import replace

PAGE = Path(__file__).parent.parent / "docs" / "gpu-kernels.md"

BF16, FP32, INT64 = 2, 4, 8


@dataclass(frozen=True)
class Chip:
    """Published rates: bytes a second from HBM, and operations a second, a multiply-add being 2."""

    name: str
    model: str  # pattern of the name by which its driver knows it
    hbm: float
    tensor_bf16: float
    fp32: float
    cache: float  # bytes of L2
    issue: float  # instructions of a warp a second: multiprocessors x 4 schedulers x boost clock


CHIPS = (
    Chip("A100 80GB", r"A100.*80GB", 1.9e12, 312e12, 19.5e12, 40e6, 108 * 4 * 1.41e9),
    Chip("H100 SXM", r"H100 80GB HBM3", 3.3e12, 989e12, 67e12, 50e6, 132 * 4 * 1.98e9),
    Chip("RTX 4090", r"RTX 4090$", 1.008e12, 165e12, 82.6e12, 72e6, 128 * 4 * 2.52e9),
)
"""The 4090's 165 TFLOP/s are with fp32 accumulation, half of its rate with fp16 accumulation."""


@dataclass(frozen=True)
class Work:
    """The least that an op has to do at a shape: bytes to and from HBM, operations by unit."""

    op: str
    shape: str
    bytes: float
    fp32: float = 0
    tensor: float = 0
    launches: str = "1"

    def microseconds(self, chip: Chip) -> float:
        """The slowest of the three, each at its full rate and at once with the others."""
        return 1e6 * max(
            self.bytes / chip.hbm, self.fp32 / chip.fp32, self.tensor / chip.tensor_bf16
        )

    def bound(self, chip: Chip) -> str:
        """Which of the three it is."""
        times = {
            "HBM": self.bytes / chip.hbm,
            "fp32": self.fp32 / chip.fp32,
            "tensor": self.tensor / chip.tensor_bf16,
        }
        return max(times, key=lambda unit: times[unit])


def similarity(n: int, d: int, q: int, size: int) -> Work:
    """One read of the frames; per element a square and one product a question."""
    shape = f"N {n:,}, D {d}, Q {q}, {_name(size)}"
    moved = n * d * size + q * d * size + q * n * FP32
    return Work("similarity", shape, moved, fp32=2 * n * d * (1 + q))


def similarity_backward(n: int, d: int, q: int, size: int) -> Work:
    """One read of the frames, whose norms and sum of questions are formed first, and one write of
    their gradient. Per element: a square, a product with that sum, a multiply-add of each question
    into it and of the frame into each question's gradient, two more for the gradient itself."""
    shape = f"N {n:,}, D {d}, Q {q}, {_name(size)}"
    moved = 2 * n * d * size + 2 * q * d * size + q * n * FP32
    return Work("similarity_backward", shape, moved, fp32=2 * n * d * (2 + q + q + 2), launches="2")


def select_keyframes(n: int, d: int, k: int, size: int, cache: bool) -> Work:
    """The greedy loop. What is left over after a round is read again, in the worst case all of it:
    from L2 where the embeddings fit into it, else from HBM."""
    shape = f"N {n:,}, D {d}, K {k}, {_name(size)}, " + (
        "embeddings in L2" if cache else "worst case"
    )
    passes = 1 if cache else k + 1
    moved = passes * n * d * size + n * FP32 + k * INT64
    return Work(
        "select_keyframes", shape, moved, fp32=2 * n * d * (k + 1), launches="1, or K + 1 (Triton)"
    )


def differential_pool(n: int, m: int, c: int, q: int, size: int, keys: int) -> Work:
    """One read of the patches. Per element: a square, a product with each question, a product with
    the key and the key's square, and a multiply-add into each token."""
    shape = f"N {n}, M {m}, C {c:,}, Q {q}, {_name(size)}"
    moved = (n + keys) * m * c * size + q * n * c * FP32
    return Work("differential_pool", shape, moved, fp32=2 * n * m * c * (1 + q + 2 + q))


def differential_pool_backward(n: int, m: int, c: int, q: int, size: int, keys: int) -> Work:
    """Patches read once while the frame is held, or twice; their gradient written once."""
    shape = f"N {n}, M {m}, C {c:,}, Q {q}, {_name(size)}"
    moved = (2 * n + 2 * keys) * m * c * size + q * n * c * FP32
    forward = 1 + q + 2
    return Work(
        "differential_pool_backward",
        shape,
        moved,
        fp32=2 * n * m * c * (forward + q + 2 * q + 4),
        launches="4",
    )


def projected_differential_pool(n: int, m: int, c: int, q: int, size: int, keys: int) -> Work:
    """Patches through two maps `[C, C]`, references through one; then one weighted sum."""
    shape = f"N {n}, M {m}, C {c:,}, Q {q}, {_name(size)}"
    moved = (n + keys) * m * c * size + 3 * c * c * size + q * n * c * FP32
    return Work(
        "projected_differential_pool",
        shape,
        moved,
        fp32=2 * n * m * c * q,
        tensor=2 * m * c * c * (2 * n + keys),
        launches="4",
    )


def projected_differential_pool_backward(
    n: int, m: int, c: int, q: int, size: int, keys: int
) -> Work:
    """The products of the forward, and as many again for the gradients of the maps and of the
    patches. Patches and references are read once and their gradients written once, in their dtype;
    those of the maps are fp32. At the rate of bf16 products, though those of gradients have an fp32
    side. Per element of a mapped patch, question and map: its products, then its gradient."""
    shape = f"N {n}, M {m}, C {c:,}, Q {q}, {_name(size)}"
    moved = 2 * (n + keys) * m * c * size + 3 * c * c * (size + FP32) + q * n * c * FP32
    return Work(
        "projected_differential_pool_backward",
        shape,
        moved,
        fp32=2 * n * m * c * q * (2 + 2 + 1 + 4 + 4),
        tensor=3 * 2 * m * c * c * (2 * n + keys),
        launches="1, and 18 for every 6 frames",
    )


def preprocess(n: int, height: int, width: int, sizes: tuple[int, ...]) -> Work:
    """Bytes of the frames once, pixels of each tower written once in bf16."""
    shape = f"{n} frames {width}x{height}, towers {' and '.join(map(str, sizes))}"
    moved = n * height * width * 3 + sum(n * 3 * s * s * BF16 for s in sizes)
    return Work("preprocess_frames", shape, moved)


def works() -> tuple[Work, ...]:
    """The 7B model's shapes: 10,000 frames for selection, one batch of 64 frames for pooling."""
    m, hidden = 729, 3584
    return (
        similarity(10_000, 512, 1, FP32),
        similarity(10_000, 512, 16, FP32),
        similarity_backward(10_000, 512, 1, FP32),
        select_keyframes(10_000, 512, 32, FP32, cache=True),
        select_keyframes(1_000_000, 512, 32, FP32, cache=False),
        differential_pool(64, m, 1152, 1, BF16, 1),
        differential_pool(64, m, hidden, 1, BF16, 1),
        differential_pool(64, m, hidden, 4, BF16, 1),
        differential_pool_backward(64, m, hidden, 1, BF16, 1),
        projected_differential_pool(64, m, hidden, 1, BF16, 1),
        projected_differential_pool_backward(64, m, hidden, 1, BF16, 1),
        preprocess(64, 720, 1280, (384, 224)),
    )


def lines(chips: tuple[Chip, ...] = CHIPS) -> Iterator[str]:
    """The Markdown table."""
    names = " | ".join(f"{chip.name}, µs" for chip in chips)
    yield f"| op | shape | MB | fp32 GFLOP | tensor GFLOP | {names} | launches |"
    yield "| --- | --- | ---: | ---: | ---: |" + " ---: |" * len(chips) + " --- |"
    for work in works():
        floors = " | ".join(f"{work.microseconds(c):,.1f} ({work.bound(c)})" for c in chips)
        yield (
            f"| `{work.op}` | {work.shape} | {work.bytes / 1e6:,.1f} | {work.fp32 / 1e9:,.2f} | "
            f"{work.tensor / 1e9:,.0f} | {floors} | {work.launches} |"
        )


def _name(size: int) -> str:
    return "bf16" if size == BF16 else "fp32"


def main() -> None:
    table = "\n".join(lines())
    print(table)
    PAGE.write_text(replace(PAGE.read_text(), table))
    print(f"written: {PAGE.relative_to(PAGE.parent.parent)}")


if __name__ == "__main__":
    main()
