"""The settings under which the numeric tests run, and which files those are."""

from __future__ import annotations

from dataclasses import dataclass, field

OPS = (
    "test_similarity.py",
    "test_selection.py",
    "test_pooling.py",
    "test_projected.py",
    "test_gradients.py",
    "test_merger.py",
    "test_properties.py",
    "test_large_offsets.py",
    "test_threads.py",
    "test_torch.py",
    "test_interop.py",
    "test_rounding.py",
)
GOLDEN = ("test_golden_ops.py", "test_golden_e2e.py")
MODEL = (
    "test_model.py",
    "test_paper_mode.py",
    "test_session.py",
    "test_session_memory.py",
    "test_cache.py",
    "test_mergings.py",
    "test_selectors.py",
    "test_niah_features.py",
)


@dataclass(frozen=True)
class Setting:
    """A name, and the environment that asks libraries for other kernels."""

    name: str
    threads: int
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def in_other_order(self) -> bool:
        return "VILAMP_TEST_ORDER" in self.environment


def _libraries(aten: str, mkl: str, onednn: str, threads: int) -> Setting:
    environment = {
        "ATEN_CPU_CAPABILITY": aten,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "ONEDNN_MAX_CPU_ISA": onednn,
    }
    return Setting(f"aten {aten}, mkl {mkl}, onednn {onednn}", threads, environment)


# ATen, MKL and oneDNN are told apart by operation: a product is MKL's, a sum ATen's, so their
# settings need no full product. Each value of each occurs, low and high ones also crossed, each
# level with one thread or two.
LIBRARIES = (
    Setting("as the machine is", 1),
    Setting("as the machine is", 2),
    _libraries("default", "SSE4_2", "SSE41", 1),
    _libraries("avx2", "AVX2", "AVX2", 2),
    _libraries("avx512", "AVX512", "AVX512_CORE", 1),
    _libraries("default", "AVX512", "AVX512_CORE_AMX", 2),
    _libraries("avx512", "SSE4_2", "AVX512_CORE_BF16", 2),
    _libraries("default", "AVX2", "AVX2_VNNI_2", 1),
)


def orders(names: list[str]) -> list[Setting]:
    """The kernels of no library: what `orders.py` puts in their place."""
    return [
        Setting(f"{name} sums", 1 + number % 2, {"VILAMP_TEST_ORDER": name})
        for number, name in enumerate(names)
    ]


def modules(names: list[str]) -> list[Setting]:
    """The model on each form of the C++ kernels (tests of the ops run all forms themselves)."""
    return [
        Setting(f"kernels {name}", 1 + number % 2, {"VILAMP_KERNELS_CPU": name})
        for number, name in enumerate(names)
    ]
