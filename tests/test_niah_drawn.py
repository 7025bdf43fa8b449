"""Drawn needles: real files, questions that nothing in the haystack answers or confuses."""

from collections import Counter
from itertools import pairwise

import pytest
from niah_files import GRID
from vilamp import InputError
from vilamp.drawn import TYPES
from vilamp.drawn.needle import KINDS, plan_haystack, plan_needle
from vilamp.drawn.palette import COLOUR_NAMES, PLACES, SHAPES
from vilamp.drawn.scene import split_of_anchor
from vilamp.niah import drawn
from vilamp.niah.drawn import FPS, draw_sources
from vilamp.niah.planning import Grid, plan
from vilamp.video import open_video


@pytest.mark.parametrize("seed", range(6))
def test_scenes_make_up_the_needle(seed):
    seconds = 30 + 15 * seed
    row, cases, asked = plan_needle(seconds, seed)
    starts = [start for start, _ in row] + [seconds]
    assert starts[0] == 0
    for (start, scene), end in zip(row, starts[1:], strict=True):
        assert scene.seconds == pytest.approx(end - start)
        assert 5 <= scene.seconds <= 35
        assert 1 <= scene.flash_end - scene.flash_start < 2
        assert scene.flash_start >= 1 and scene.flash_end <= scene.seconds - 1
        assert split_of_anchor(*scene.anchor) == "test"
    assert [case.kind for case in cases] == list(KINDS)
    for case, (scene, type_) in zip(cases, asked, strict=True):
        assert (case.type, (case.start, scene)) == (type_, (case.start, dict(row)[case.start]))
        assert case.end == pytest.approx(case.start + scene.seconds)


def named(question, scenes):
    """Scenes that have every colour, shape and place that a question names as its anchor's."""
    words = question.lower().replace("?", " ").replace(",", " ").replace(":", " ").split()
    # Of a question about a side, the anchor is named last before the place.
    found = []
    for scene in scenes:
        place, colour, shape = PLACES[scene.place], COLOUR_NAMES[scene.colour], SHAPES[scene.shape]
        own = {place, colour, shape}
        said = {w for w in words if w in (*PLACES, *COLOUR_NAMES, *SHAPES)}
        if said <= own:
            found.append(scene)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_question_names_one_scene_in_all_of_needle_and_haystack(seed):
    kinds = ["overall", "detail", "between", "overall", "detail", "between"]
    plans = [plan_needle(100, 10 * seed + n, kinds=kinds) for n in range(8)]
    haystack = plan_haystack(3000, seed, away_from=[pair for plan in plans for pair in plan[2]])
    clips = [clip for _, clip in haystack]
    for row, cases, asked in plans:
        scenes = [scene for _, scene in row]
        assert len({case.question for case in cases}) == len(cases)
        for case, (scene, _) in zip(cases, asked, strict=True):
            assert named(case.question, scenes) == [scene], case.question
            assert named(case.question, clips) == [], case.question


def test_a_haystack_covers_its_length_and_shares_places_with_the_needles():
    _, _, asked = plan_needle(60, 1)
    row = plan_haystack(2000, 4, away_from=asked)
    assert row[0][0] == 0 and row[-1][0] < 2000 <= row[-1][0] + row[-1][1].seconds
    for (start, clip), (following, _) in pairwise(row):
        assert following == pytest.approx(start + clip.seconds)
    places = {clip.place for clip, _ in asked}
    share = sum(clip.place in places for _, clip in row) / len(row)
    # 4 in 10 on purpose, and those that come there by chance.
    assert share > 0.4 + 0.6 * len(places) / len(PLACES) - 0.12
    assert plan_haystack(2000, 4, away_from=asked) == row != plan_haystack(2000, 5)


@pytest.mark.parametrize("seconds, kinds", [(9, KINDS), (30, ["detail", "colour"])])
def test_impossible_needles(seconds, kinds):
    with pytest.raises(ValueError, match=r"10 s|kinds are"):
        plan_needle(seconds, 0, kinds=kinds)


def test_files_are_drawn_once_and_are_what_they_say(tmp_path):
    seen = []
    options = {"haystacks": 2, "needle_seconds": (15, 25), "seed": 3}
    needles, stacks = draw_sources(
        tmp_path, GRID, progress=lambda *state: seen.append(state), **options
    )
    assert len(needles) == GRID.pool == 3 and len(stacks) == 2
    for needle in needles:
        assert 15 <= needle.seconds <= 25 and needle.seconds == int(needle.seconds)
        assert len(open_video(tmp_path / needle.path, fps=1)) == needle.seconds
        assert all(0 <= q.start < q.end <= needle.seconds for q in needle.questions)
        assert all(TYPES[q.type] == q.kind for q in needle.questions)
    kinds = Counter(q.kind for needle in needles for q in needle.questions)
    assert kinds == dict.fromkeys(KINDS, 4)
    for stack in stacks:
        (source,) = stack.sources
        assert len(open_video(tmp_path / source.path, fps=1)) == source.frames == 90
    total = sum(n.seconds for n in needles) * FPS + 2 * 90 * FPS
    assert seen[0] == ("draw", 0, total) and seen[-1] == ("draw", total, total)
    files = sorted(tmp_path.glob("*/*"))
    stamps = [path.stat().st_mtime_ns for path in files]
    files[0].unlink()
    assert draw_sources(tmp_path, GRID, **options) == (needles, stacks)
    assert [path.stat().st_mtime_ns for path in files[1:]] == stamps[1:] and files[0].exists()
    assert len(sorted(tmp_path.glob("*/.*"))) == 0
    draw_sources(tmp_path, GRID, **{**options, "seed": 4})
    assert len(sorted(tmp_path.glob("*/*"))) == 2 * len(files), "another seed, other files"


def test_a_haystack_is_kept_apart_from_the_needles_that_go_into_it(tmp_path, monkeypatch):
    away = []

    def recorded(seconds, seed, split, away_from):
        away.append({(clip.anchor, type_) for clip, type_ in away_from})
        return plan_haystack(seconds, seed, split, away_from)

    monkeypatch.setattr(drawn, "plan_haystack", recorded)
    monkeypatch.setattr(drawn, "write_video", lambda path, frames, fps: path.touch())
    planned = []
    monkeypatch.setattr(
        drawn, "plan_needle", lambda *a: planned.append(plan_needle(*a)) or planned[-1]
    )
    grid = Grid((90,), (0.0, 0.5, 1.0), 2)
    needles, stacks = draw_sources(tmp_path, grid, haystacks=2, needle_seconds=(15, 25))
    for case in plan(grid, needles, stacks):
        number = int(case.needle[1:])
        asked = {(clip.anchor, type_) for clip, type_ in planned[number][2]}
        assert asked and asked <= away[int(case.haystack[1:])]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"needle_seconds": (5, 20)}, "at least 10 s"),
        ({"needle_seconds": (30, 20)}, "at least 10 s"),
        ({"needle_seconds": (30, 120)}, "do not fit into 90"),
        ({"haystacks": 0}, "at least one haystack"),
        ({"questions": 0}, "one question"),
        ({"questions": 10**12}, "at most 100 questions"),
        ({"needle_seconds": (15, 15), "questions": 60}, "different questions"),
        ({"haystacks": 10**12}, "at most 4,000,000 s"),
        ({"grid": Grid(lengths=(90,), needles=10**12)}, "10,000 needles"),
        ({"grid": Grid(lengths=(90,), fps=1e-9)}, "at most 4,000,000 s"),
        ({"grid": Grid((10**6,), needles=1), "needle_seconds": (10**5, 10**5)}, "told apart"),
    ],
)
def test_impossible_sources(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        draw_sources(tmp_path, **{"grid": GRID, "needle_seconds": (15, 25), **options})
    assert list(tmp_path.iterdir()) == []


def test_a_grid_knows_how_many_needles_it_takes():
    assert Grid().pool == 25
