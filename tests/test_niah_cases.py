"""Cases: the grid is covered, the needle is where it says, and a file of cases is not trusted."""

import json
import math
from collections import Counter
from dataclasses import replace

import pytest
from niah_files import needle
from vilamp import InputError
from vilamp.evaluation.benchmarks.places import inside
from vilamp.niah.cases import Cases, read_cases, write_cases
from vilamp.niah.planning import Grid, Haystack, Source, plan

GRID = Grid(lengths=(200, 400), depths=(0.0, 0.25, 1.0), needles=2)
STACKS = [
    Haystack("h0", (Source("a.mp4", 500),)),
    Haystack("h1", (Source("b.mp4", 150), Source("c.mp4", 300))),
]


def needles(count=6):
    return [needle(f"n{n}", 30 + n, f"needles/{n}.mp4", questions=2) for n in range(count)]


def test_every_cell_has_its_needles_and_every_length_all_of_them():
    cases = plan(GRID, needles(), STACKS)
    assert set(Counter((c.frames, c.depth) for c in cases).values()) == {2} and len(cases) == 12
    for length in GRID.lengths:
        own = [c for c in cases if c.frames == length]
        assert sorted(c.needle for c in own) == [f"n{n}" for n in range(6)]
        assert {c.haystack for c in own} == {"h0", "h1"}
    depths = {c.needle: set() for c in cases}
    for case in cases:
        depths[case.needle].add(case.depth)
    assert all(len(own) == 2 for own in depths.values()), "another depth at another length"
    for part in range(GRID.needles):
        cells = Counter((c.frames, c.depth) for c in cases[part :: GRID.needles])
        assert set(cells.values()) == {1} and len(cells) == 6, "a part of a run has every cell"
    assert len({c.id for c in cases}) == 12


def test_the_needle_is_at_its_depth_and_the_haystack_goes_on_after_it():
    for case in plan(GRID, needles(), STACKS):
        length = 30 + int(case.needle[1:])
        assert case.needle_end - case.needle_start == length
        assert case.needle_start == round((case.frames - length) * case.depth)
        assert sum(s.end - s.start for s in case.segments) == case.frames
        at = 0.0
        hay = []
        for segment in case.segments:
            if segment.path.startswith("needles/"):
                assert at == case.needle_start
            else:
                hay += [(segment.path, k) for k in range(int(segment.start), int(segment.end))]
            at += segment.end - segment.start
        names = [("a.mp4", k) for k in range(500)]
        if case.haystack == "h1":
            names = [("b.mp4", k) for k in range(150)] + [("c.mp4", k) for k in range(300)]
        assert hay == names[: case.frames - length]


def test_a_needle_begins_and_ends_on_whole_frames():
    own = replace(needles()[0], start=10.3, end=45.9)
    (case,) = plan(Grid((100,), (0.5,), 1), [own], STACKS)
    (middle,) = [s for s in case.segments if s.path.startswith("needles/")]
    assert (middle.start, middle.end) == (11, 45)
    assert case.needle_end - case.needle_start == 34


@pytest.mark.parametrize(
    "grid, pool, stacks, message",
    [
        (GRID, needles(1), STACKS, "1 needles: wanted at least the 2"),
        (GRID, needles(), [], "no haystack"),
        (replace(GRID, lengths=(20,)), needles(), STACKS, "more than a case of 20 has"),
        (replace(GRID, lengths=(900,)), needles(), STACKS, "h0: 500 frames, wanted 8"),
        (GRID, [replace(n, end=0.4) for n in needles()], STACKS, "not one whole frame"),
    ],
)
def test_what_cannot_be_planned(grid, pool, stacks, message):
    with pytest.raises(InputError, match=message):
        plan(grid, pool, stacks)


def test_a_file_of_cases_comes_back(tmp_path):
    cases = Cases(tmp_path, tmp_path, 1.0, "drawn needle", tuple(plan(GRID, needles(), STACKS)))
    write_cases(cases)
    found = read_cases(tmp_path)
    assert found.cases == cases.cases
    assert found.root.resolve() == tmp_path.resolve() and found.fps == 1.0
    # A folder that is moved takes its sources along; others stay where they are.
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert read_cases(moved).root.resolve() == moved.resolve()
    elsewhere = moved.parent / "elsewhere"
    write_cases(replace(cases, folder=moved, root=elsewhere))
    assert read_cases(moved).root == elsewhere.resolve()
    assert read_cases(moved, moved).root == moved


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.mp4", "a/../../b.mp4", "", "link/a.mp4"]
)
def test_sources_stay_in_their_folder(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(InputError):
        inside(root, name)
    assert inside(root, "a/b.mp4") == root / "a/b.mp4"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["[]"],
        ['{"vilamp_niah": 2, "fps": 1, "source": "", "root": "."}'],
        ['{"vilamp_niah": 1, "fps": 0, "source": "", "root": "."}'],
        ['{"vilamp_niah": 1, "fps": NaN, "source": "", "root": "."}'],
        ['{"vilamp_niah": 1, "fps": 1, "source": "", "root": "."}', "{}"],
        ['{"vilamp_niah": 1, "fps": 1, "source": "", "root": "."}', "no json"],
        ["no json"],
        ["[" * 100_000],
    ],
)
def test_other_files_are_refused(tmp_path, lines):
    (tmp_path / "cases.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"cases\.jsonl"):
        read_cases(tmp_path)


def test_a_case_that_occurs_twice_and_one_with_odd_values(tmp_path):
    cases = plan(GRID, needles(), STACKS)
    path = write_cases(Cases(tmp_path, tmp_path, 1.0, "", (cases[0], cases[0])))
    with pytest.raises(InputError, match="occurs twice"):
        read_cases(tmp_path)
    head, line = path.read_text().splitlines()[:2]
    for column, value in (("depth", "NaN"), ("frames", '"many"'), ("segments", '[{"path": 1}]')):
        found = json.loads(line)
        found[column] = "VALUE"
        path.write_text(f"{head}\n{json.dumps(found).replace(json.dumps('VALUE'), value)}\n")
        with pytest.raises(InputError, match="not a file of cases"):
            read_cases(tmp_path)


def test_a_case_with_one_odd_value(tmp_path):
    head, line = (
        write_cases(Cases(tmp_path, tmp_path, 1.0, "", tuple(plan(GRID, needles(), STACKS))))
        .read_text()
        .splitlines()[:2]
    )
    for where, value in (
        (("frames",), 0),
        (("frames",), 10**30),
        (("depth",), 2),
        (("needle",), ["x"]),
        (("haystack",), None),
        (("video",), 5),
        (("segments", 0, "start"), math.nan),
        (("segments", 0, "end"), math.inf),
        (("questions", 0, "start"), math.nan),
        (("questions", 0, "end"), math.nan),
        (("questions", 0, "answer"), None),
        (("questions", 0, "options"), "ab"),
        (("questions", 0, "options"), ["a"] * 27),
    ):
        case = json.loads(line)
        place = case
        for name in where[:-1]:
            place = place[name]
        place[where[-1]] = value
        (tmp_path / "cases.jsonl").write_text(f"{head}\n{json.dumps(case)}\n")
        with pytest.raises(InputError, match=r"cases\.jsonl: not a file of cases"):
            read_cases(tmp_path)
            pytest.fail(f"{where}: {value!r} was taken")


def test_half_of_a_surrogate_pair_is_no_text_for_a_model(tmp_path):
    path = write_cases(Cases(tmp_path, tmp_path, 1.0, "", tuple(plan(GRID, needles(), STACKS)[:1])))
    path.write_text(path.read_text().replace("what 0?", "what \\ud800?"))
    assert read_cases(tmp_path).cases[0].questions[0].question == "what ??"
