"""The same cases under pytest-benchmark: `pytest bench --benchmark-only [-k similarity]`.

Its variants do not take turns and memory is not measured: use it to compare two states of the code
(`--benchmark-autosave`, `--benchmark-compare`), and `python -m bench.ops` for figures to publish.
"""

import functools

import pytest

from .check import check
from .registry import Case, cases

pytest.importorskip("pytest_benchmark")

# torch.compile is left out: compiling takes minutes for all cases.
MEASURED = [
    pytest.param(case, name, id=f"{case.op}-{case.name}-{name}")
    for case in cases()
    for name in case.names()
    if name not in (*case.skip, "compiled")
]


@functools.cache
def verdicts(op: str, name: str) -> dict[str, str]:
    (case,) = (c for c in cases(op) if c.name == name)
    return check(case)


@functools.lru_cache(maxsize=1)
def inputs_of(op: str, name: str):
    (case,) = (c for c in cases(op) if c.name == name)
    return case.inputs()


@pytest.mark.parametrize("case, provider", MEASURED)
def test_speed(benchmark, case: Case, provider: str):
    verdict = verdicts(case.op, case.name)[provider]
    if verdict:
        pytest.skip(verdict)
    (variant,) = case.variants(inputs_of(case.op, case.name), only=provider)
    benchmark.group = f"{case.op} {case.name}"
    with variant.around():
        benchmark.pedantic(variant.call, rounds=5, warmup_rounds=1)
