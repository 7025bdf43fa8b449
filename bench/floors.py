"""The floors: ratios that the CPU kernels have to reach, judged from the CSV of one run.

`python -m bench.floors [CSV]` prints each with its figure; exit status 1 when one is not reached or
could not be judged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import rows

MINE = "cpu"


@dataclass(frozen=True)
class Floor:
    """A figure of a case, and what it has to be."""

    op: str
    case: str
    what: str
    wanted: float
    figure: Callable[[Results], float | None]
    most: bool = False  # the figure has to be below `wanted`, not above

    def reached(self, figure: float) -> bool:
        return figure < self.wanted if self.most else figure >= self.wanted


class Results:
    """Figures of a run by op, case and provider; None where there is no row."""

    def __init__(self, found: list[rows.Row]) -> None:
        self._rows = {(r["op"], r["case"], r["provider"]): r for r in found}

    def get(self, op: str, case: str, provider: str, column: str) -> float | None:
        return rows.number(self._rows.get((op, case, provider), {}), column)

    def fastest(self, op: str, case: str, prefix: str) -> float | None:
        """Median of the fastest provider whose name begins with `prefix`, in ms."""
        times = [
            time
            for (o, c, p), row in self._rows.items()
            if (o, c) == (op, case) and p.startswith(prefix)
            if (time := rows.number(row, "median_ms")) is not None
        ]
        return min(times, default=None)

    def extra_mb(self, op: str, case: str) -> float | None:
        """The larger of the two peaks: neither sees everything."""
        peaks = [self.get(op, case, MINE, name) for name in ("torch_mb", "rss_mb")]
        return max((peak for peak in peaks if peak is not None), default=None)


def ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def faster_than(op: str, case: str, other: str) -> Callable[[Results], float | None]:
    """How many times faster than the fastest form of another provider."""
    return lambda r: ratio(r.fastest(op, case, other), r.get(op, case, MINE, "median_ms"))


def share(op: str, case: str) -> Callable[[Results], float | None]:
    return lambda r: r.get(op, case, MINE, "share_of_read")


def passes(op: str, case: str) -> Callable[[Results], float | None]:
    """Times that the inputs could have been read."""
    return lambda r: ratio(1.0, r.get(op, case, MINE, "share_of_read"))


def memory_share(op: str, case: str, column: str | None = None) -> Callable:
    """Extra memory as a share of the inputs: of one column, or of the larger peak."""

    def figure(r: Results) -> float | None:
        extra = r.get(op, case, MINE, column) if column else r.extra_mb(op, case)
        return ratio(extra, r.get(op, case, MINE, "input_mb"))

    return figure


def floors() -> Iterator[Floor]:
    op = "similarity"
    for dtype in ("fp32", "bf16"):
        case = f"[1,100000,512] Q=1 {dtype}"
        yield Floor(op, case, "share of read bandwidth", 0.85, share(op, case))
    for q in (1, 8):
        case = f"[1,100000,512] Q={q} fp32"
        for peer in ("faiss", "numkong"):
            yield Floor(op, case, f"times as fast as {peer}", 1.0, faster_than(op, case, peer))

    op, case = "select_keyframes", "[1,10000,512] K=32 static"
    yield Floor(op, case, "times as fast as published", 100.0, faster_than(op, case, "published"))
    yield Floor(
        op, case, "extra memory, MB", 1.0, lambda r: r.extra_mb("select_keyframes", case), most=True
    )
    for kind in ("video", "static"):
        million = f"[1,1000000,512] K=32 {kind}"
        yield Floor(op, million, "passes over the embeddings", 4.0, passes(op, million), most=True)

    op = "differential_pool"
    for dtype in ("fp32", "bf16"):
        case = f"[64,729,1152] {dtype}"
        yield Floor(op, case, "share of read bandwidth", 0.75, share(op, case))
        yield Floor(
            op, case, "times as fast as published", 40.0, faster_than(op, case, "published")
        )
        yield Floor(op, case, "times as fast as tidy eager", 10.0, faster_than(op, case, "tidy"))
        yield Floor(op, case, "extra memory / inputs", 0.01, memory_share(op, case), most=True)
        yield Floor(
            op,
            f"{case} backward kernel",
            "times its forward",
            4.0,
            _backward_over_forward(case),
            most=True,
        )

    op = "projected_differential_pool"
    for shape, dtype, published in (("[16,729,896]", "fp32", 1.7), ("[4,729,3584]", "bf16", 1.4)):
        case = f"{shape} {dtype}"
        yield Floor(op, case, "speed of its products", 0.8, faster_than(op, case, "products"))
        yield Floor(
            op, case, "times as fast as published", published, faster_than(op, case, "published")
        )
        width = shape.rsplit(",", 1)[1].rstrip("]")
        folded = f"{shape}->{width} folded {dtype}"
        yield Floor(
            op, folded, "times as fast as published", 2.0, faster_than(op, folded, "published")
        )
        yield Floor(
            op,
            case,
            "tensors allocated / inputs",
            0.15,
            memory_share(op, case, "torch_mb"),
            most=True,
        )


def _backward_over_forward(case: str) -> Callable[[Results], float | None]:
    op = "differential_pool"
    return lambda r: ratio(
        r.get(op, f"{case} backward kernel", MINE, "median_ms"), r.get(op, case, MINE, "median_ms")
    )


def judge(found: list[rows.Row]) -> list[tuple[Floor, float | None, str]]:
    """Each floor with its figure and `reached`, `not reached` or `not measured`."""
    results, verdicts = Results(found), []
    for floor in floors():
        figure = floor.figure(results)
        if figure is None:
            verdict = "not measured"
        else:
            verdict = "reached" if floor.reached(figure) else "not reached"
        verdicts.append((floor, figure, verdict))
    return verdicts


def show(found: list[rows.Row]) -> bool:
    """Print the floors; whether all were reached."""
    verdicts = judge(found)
    for floor, figure, verdict in verdicts:
        sign = "<" if floor.most else ">="
        given = "" if figure is None else f"{figure:.3g}"
        print(
            f"{verdict:12} {given:>8} {sign:>2} {floor.wanted:<6g} "
            f"{floor.op:28} {floor.case:36} {floor.what}"
        )
    return all(verdict == "reached" for _, _, verdict in verdicts)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else rows.OPS_CSV
    found = rows.read(path)
    if not found:
        raise SystemExit(f"no results in {path}: run `python -m bench.ops` first")
    raise SystemExit(0 if show(found) else 1)


if __name__ == "__main__":
    main()
