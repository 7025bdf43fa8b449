"""The table of docs/performance.md, from the CSV: `python -m bench.table [CSV]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from . import rows

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = (
    "| provider | median ms | p20 | p80 | calls | torch MB | resident MB | GB/s | % of read "
    "| note |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
)


def lines(found: list[rows.Row]) -> Iterator[str]:
    """The Markdown of a run: the machine, then one table for each case."""
    first = found[0]
    last = max((rows.number(row, "read_gb_per_s") or 0 for row in found), default=0)
    yield (
        f"{first['cpu']}, {first['threads']} threads, {first['os']}; "
        f"read bandwidth {last:.1f} GB/s ({first['read_by']}). "
        f"Python {first['python']}, torch {first['torch']}, NumKong "
        f"{first['numkong'] or 'not installed'}, faiss {first['faiss'] or 'not installed'}; commit "
        f"{first['commit']}."
    )
    for (op, case), group in groupby(found, key=lambda row: (row["op"], row["case"])):
        members = list(group)
        yield f"\n**{op}** {case}, {members[0]['cache']} cache\n"
        yield HEAD
        yield from map(_line, members)


def _line(row: rows.Row) -> str:
    def figure(column: str, digits: int = 2) -> str:
        value = rows.number(row, column)
        return "" if value is None else f"{value:.{digits}f}"

    share = rows.number(row, "share_of_read")
    note = row["note"]
    if row["gflop_per_s"]:
        note = f"{float(row['gflop_per_s']):.0f} GFLOP/s"
    cells = (
        row["provider"],
        *(figure(column, 3) for column in ("median_ms", "p20_ms", "p80_ms")),
        row["calls"],
        *(figure(column) for column in ("torch_mb", "rss_mb", "gb_per_s")),
        "" if share is None else f"{100 * share:.0f}",
        note.replace("|", "\\|"),
    )
    return f"| {' | '.join(cells)} |"


def replace(page: str, table: str, begin: str = BEGIN, end: str = END) -> str:
    """The page with what stands between the two markers replaced."""
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"wanted {begin} and {end} in the page; they are not there")
    return f"{before}{begin}\n{table}\n{end}{after}"


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else rows.OPS_CSV
    found = rows.read(path)
    if not found:
        raise SystemExit(f"no results in {path}: run `python -m bench.ops` first")
    PAGE.write_text(replace(PAGE.read_text(), "\n".join(lines(found))))
    print(f"written: {PAGE.relative_to(PAGE.parent.parent)}")


if __name__ == "__main__":
    main()
