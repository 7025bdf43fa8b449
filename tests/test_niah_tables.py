"""Tables and heat maps of known answers."""

import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from vilamp import InputError
from vilamp.evaluation.results import Results
from vilamp.niah.odds import uniform_hit
from vilamp.niah.tables import (
    Measured,
    as_csv,
    as_markdown,
    by_kind,
    by_length,
    chance,
    hits,
    read_results,
    worst_cell,
)

pytest.importorskip("matplotlib")


def row(number, frames=2000, depth=0.0, kind="detail", right=True, **more):
    return {
        "id": f"{frames}-{depth}-{kind}-{number}",
        "frames": frames,
        "depth": depth,
        "kind": kind,
        "type": kind,
        "needle": f"n{number}",
        "haystack": "h0",
        "right": right,
        **more,
    }


def grid(share_of):
    """20 answers in each cell, `share_of(frames, depth)` of them right."""
    rows = []
    for frames in (2000, 10000):
        for depth in (0.0, 0.5):
            right = round(20 * share_of(frames, depth))
            rows += [
                row(
                    n,
                    frames,
                    depth,
                    ("detail", "overall")[n % 2],
                    n < right,
                    needle_frames=50,
                    keyframes=16,
                    in_needle=int(n < 5),
                    in_scene=int(n < 2),
                )
                for n in range(20)
            ]
    return rows


@pytest.fixture
def two():
    return [
        Measured("DKS + DFM", grid(lambda frames, depth: 1 - depth / 2 * (frames > 2000))),
        Measured("uniform + DFM", grid(lambda frames, depth: 0.5)),
    ]


def test_shares_and_intervals(two):
    assert by_length(two).splitlines() == [
        "| frames | DKS + DFM | uniform + DFM |",
        "| --- | ---: | ---: |",
        "| 2,000 | 100.0 (91 to 100) | 50.0 (35 to 65) |",
        "| 10,000 | 87.5 (74 to 95) | 50.0 (35 to 65) |",
    ]
    assert by_kind(two, 10000).splitlines()[2:] == [
        "| detail (20) | 90.0 (70 to 97) | 50.0 (30 to 70) |",
        "| overall (20) | 85.0 (64 to 95) | 50.0 (30 to 70) |",
        "| all (40) | 87.5 (74 to 95) | 50.0 (35 to 65) |",
    ]
    frames, depth, share = worst_cell(two[0])
    assert (frames, depth, share.right, share.count) == (10000, 0.5, 15, 20)


def test_hits_beside_chance(two):
    assert hits(two).splitlines()[2] == "| 2,000 | 25.0, 10.0 | 25.0, 10.0 | 40.0 |"
    assert chance(two, 10000) == pytest.approx(50 * 16 / 10000)


@pytest.mark.parametrize("keyframes, needle", [(1, 5), (4, 7), (8, 40), (16, 3)])
def test_odds_are_what_counting_gives(keyframes, needle):
    frames = 240
    taken = {int((i + 0.5) * frames / keyframes) for i in range(keyframes)}
    # Round and round, so that a place near the end is as likely as any.
    met = sum(any((start + k) % frames in taken for k in range(needle)) for start in range(frames))
    assert uniform_hit(frames, needle, keyframes) == pytest.approx(met / frames)


def test_odds_of_nothing():
    assert uniform_hit(0, 5, 16) == 0 == uniform_hit(100, 0, 16)


def test_csv_has_every_cell(two):
    lines = as_csv(two).splitlines()
    assert lines[0] == "model,frames,depth,kind,right,count,percent,low,high"
    assert len(lines) == 1 + 2 * 2 * 2 * 3
    assert "DKS + DFM,10000,0.5,all,15,20,75.0,53.1,88.8" in lines


def test_a_page_of_all(two):
    page = as_markdown(two)
    assert "lowest cell 75.0 (53 to 89) (10,000 frames, depth 50%)" in page
    assert "at 2,000 frames" in page and "at 10,000 frames" in page
    assert as_markdown([Measured("one", [row(0)])]).count("at 2,000 frames") == 2, (
        "a table and a summary"
    )


def test_heat_maps_side_by_side(two):
    from vilamp.niah.plot import heat_maps

    picture = np.asarray(Image.open(io.BytesIO(heat_maps(two, title="t"))).convert("RGB"))
    alone = np.asarray(Image.open(io.BytesIO(heat_maps(two[:1]))).convert("RGB"))
    assert picture.shape[1] > 1.3 * alone.shape[1]

    def has(image, level):
        # The colours of a cell are those of matplotlib's viridis at its share.
        from matplotlib import colormaps

        wanted = np.round(255 * np.array(colormaps["viridis"](level)[:3]))
        return (np.abs(image.astype(float) - wanted).max(-1) <= 2).sum()

    # Beside the colour bar, which has a little of each.
    assert has(alone, 1.0) > 2.5 * has(alone, 0.75) > 1000
    assert has(picture, 0.5) > 20 * has(alone, 0.5)
    other = [Measured("one", [row(0), row(1, 10000, 0.5)])]
    assert heat_maps(other) and heat_maps(two, "detail") != heat_maps(two, "overall")


def cells_of(line):
    """As GitHub splits a row: an escaped bar belongs to its cell."""
    return [cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]]


def test_names_do_not_break_a_table():
    kinds = ["a|b", "c\\|d", "e\nf", "g\r\n| h |", "<b>_i_*j*`k`", "snake_case", "\udcff\u2028"]
    one, other = (
        Measured(name, [row(n, kind=kind) for n, kind in enumerate(kinds)])
        for name in ("x|y\n- z", "plain")
    )
    page = as_markdown([one, other])
    page.encode()
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert {len(cells_of(line)) for line in tables} == {3, 4}
    assert cells_of(by_length([one, other]).splitlines()[0]) == ["frames", r"x\|y - z", "plain"]
    lines = by_kind([one], 2000).splitlines()
    assert len(lines) == 2 + len(kinds) + 1
    assert [cells_of(line)[0] for line in lines[2:-1]] == [
        *(r"a\|b (1)", r"c\\\|d (1)", "e f (1)", r"g \| h \| (1)"),
        *(r"\<b\>\_i\_\*j\*\`k\` (1)", "snake_case (1)", "? (1)"),
    ]
    assert page.splitlines()[-2].startswith(r"- x\|y - z: ")
    assert len(list(csv.reader(io.StringIO(as_csv([one]))))) == 1 + len(kinds) + 1
    as_csv([one]).encode()


def test_a_heat_map_of_odd_names():
    # Dollars are formulas to matplotlib, and these are none.
    from vilamp.niah.plot import heat_maps

    heat_maps([Measured("$x_{$", [row(0)])], title="costs $\\frac$ \n \udcff")


def test_parts_of_a_run_are_read_together(tmp_path):
    settings = {"name": "m", "cases": "c", "model": {}}
    for number, ids in ((1, (0, 1)), (2, (1, 2))):
        with Results(tmp_path / f"m.{number}-of-2.jsonl", settings) as results:
            for n in ids:
                results.append(row(n))
    with Results(tmp_path / "a.1-of-1.jsonl", {**settings, "name": "a"}) as results:
        results.append(row(0, right=False))
    found, worse = read_results(tmp_path)
    assert (found.name, worse.name) == ("m", "a"), "the best first"
    assert [r["needle"] for r in found.rows] == ["n0", "n1", "n2"]
    with Results(tmp_path / "m.1-of-1.jsonl", {**settings, "model": {"k": 1}}) as results:
        results.append(row(3))
    with pytest.raises(InputError, match="not those of other parts"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"frames": "many"},
        {"frames": None},
        {"depth": "deep"},
        {"depth": float("nan")},
        {"depth": 1.5},
        {"kind": ["x"]},
        {"right": "no"},
        {"in_needle": "x"},
        {"needle_frames": None},
    ],
    ids=str,
)
def test_an_answer_of_odd_values_is_named(tmp_path, change):
    path = tmp_path / "m.1-of-1.jsonl"
    lines = [{"settings": {"name": "m", "cases": "c"}}, row(0), {**row(1), **change}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=f"{row(1)['id']}': {next(iter(change))} cannot be"):
        read_results(tmp_path)


def test_one_model_of_several(tmp_path):
    for name in ("m", "n"):
        with Results(tmp_path / f"{name}.1-of-1.jsonl", {"name": name, "cases": name}) as results:
            results.append(row(0))
    assert [found.name for found in read_results(tmp_path, "n")] == ["n"]
    assert read_results(tmp_path, "k") == []


def test_what_cannot_be_told(tmp_path):
    with pytest.raises(InputError, match="no answers"):
        read_results(tmp_path)
    with Results(tmp_path / "m.1-of-1.jsonl", {"name": "m", "cases": "c"}) as results:
        results.append({"id": "x", "right": True})
    with pytest.raises(InputError, match="without frames"):
        read_results(tmp_path)
    (tmp_path / "m.1-of-1.jsonl").unlink()
    for name in "ab":
        path = tmp_path / f"{name}.1-of-1.jsonl"
        with Results(path, {"name": name, "cases": name}) as results:
            results.append(row(0))
    with pytest.raises(InputError, match="different cases"):
        read_results(tmp_path)
