"""Needles and haystacks of one's own, and in Video-MME's layout."""

import json

import pytest
from niah_files import numbered_video
from vilamp import InputError
from vilamp.niah.build import build_cases
from vilamp.niah.cases import read_cases
from vilamp.niah.planning import Grid
from vilamp.niah.playlist import Opened
from vilamp.niah.video_mme import read_video_mme
from vilamp.video import open_video

GRID = Grid(lengths=(40, 60), depths=(0.0, 1.0), needles=1)
SECONDS = (10.0, 30.0)


@pytest.fixture
def videos(tmp_path):
    """Two needles, one clip that is too short, and haystacks of 35 and 40 s."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, seconds in (("n1", 12), ("n2", 20), ("tiny", 4), ("h1", 35), ("h2", 40)):
        numbered_video(folder / f"{name}.mp4", seconds, 20)
    return folder


def asked(text="What is it?", **more):
    return {"question": text, "answer": "B", "options": ["one", "two"], "kind": "detail", **more}


def own(folder, **changes):
    """A file of questions beside the videos."""
    needles = [
        {"video": "tiny.mp4", "questions": [asked()]},
        {"video": "n1.mp4", "questions": [asked(), asked("And where?", answer="A")]},
        {
            "video": "n2.mp4",
            "start": 4,
            "end": 16.5,
            "questions": [{"question": "Who?", "answer": "me"}],
        },
    ]
    content = {"haystacks": ["h1.mp4", "h2.mp4"], "needles": needles, **changes}
    path = folder / "questions.json"
    path.write_text(json.dumps(content))
    return path


def test_own_videos(videos, tmp_path):
    folder = tmp_path / "cases"
    build_cases(folder, GRID, questions=own(videos), needle_seconds=SECONDS)
    cases = read_cases(folder)
    assert cases.source == "own videos" and cases.root == videos.resolve()
    assert {c.needle for c in cases.cases} == {"n01", "n02"}, "the tiny one is left out"
    assert {c.haystack for c in cases.cases} == {"h0", "h1"}
    opened = Opened()
    for case in cases.cases:
        playlist = cases.playlist(case, opened)
        assert len(playlist) == len(list(playlist)) == case.frames
    first, second = (next(c for c in cases.cases if c.needle == n) for n in ("n01", "n02"))
    assert [q.answer for q in first.questions] == ["B", "A"]
    assert first.questions[0].options == ("one", "two") and first.questions[0].kind == "detail"
    assert second.needle_end - second.needle_start == 12, "whole frames of 4 to 16.5 s"
    assert second.questions[0].options == () and second.questions[0].kind == "all"
    build_cases(folder, GRID, questions=own(videos), needle_seconds=SECONDS, per_needle=1)
    assert {len(c.questions) for c in read_cases(folder).cases} == {1}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"haystacks": ["../h1.mp4"]}, "wanted the name of a file"),
        ({"haystacks": ["h1.mp4"]}, "35 frames, wanted 60"),
        ({"haystacks": ["no.mp4"]}, "no.mp4"),
        ({"needles": []}, "no needle of 10 to 30 s among 0"),
        (
            {"needles": [{"video": "/etc/passwd", "questions": [asked()]}]},
            "wanted the name of a file",
        ),
        ({"needles": [{"video": "n1.mp4", "questions": []}]}, "without questions"),
        ({"needles": [{"video": "n1.mp4"}]}, "not a file of needles"),
        ({"needles": [{"video": "n1.mp4", "end": 99, "questions": [asked()]}]}, "has 12 s"),
        ({"needles": [{"video": "n1.mp4", "questions": [asked(answer="C")]}]}, "one of AB"),
        ({"needles": [{"video": "n1.mp4", "questions": [asked(" ")]}]}, "wanted a question"),
        ({"needles": [{"video": "n1.mp4", "questions": [asked(answer="AB")]}]}, "one of AB"),
        ({"needles": [{"video": "n1.mp4", "questions": [asked(answer=None)]}]}, "wanted a text"),
        ({"needles": [{"video": "n1.mp4", "questions": [asked(options="ab")]}]}, "of options"),
        ({"needles": [{"video": "n1.mp4", "questions": [asked(options=["a"] * 27)]}]}, "most 26"),
        ({"haystacks": "h1.mp4"}, "list of haystacks"),
        ({"haystacks": ["h" * 300]}, "found none"),
        ({"needles": 3}, "not a file of needles"),
        ({"needles": [{"video": "n1.mp4", "start": "x"}]}, "not a file of needles"),
        ({"needles": [{"video": "n1.mp4", "start": float("nan")}]}, "has 12 s"),
    ],
)
def test_own_files_that_cannot_be_used(videos, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        build_cases(
            tmp_path / "cases", GRID, questions=own(videos, **changes), needle_seconds=SECONDS
        )


def test_a_rest_of_a_second_at_the_end_of_a_file_is_left_out(videos, tmp_path):
    numbered_video(videos / "n1.mp4", 12.5, 20)
    numbered_video(videos / "h1.mp4", 35.5, 20)
    assert len(Opened()[videos / "n1.mp4"]) == 13
    build_cases(tmp_path / "cases", GRID, questions=own(videos), needle_seconds=SECONDS, mp4=True)
    cases = read_cases(tmp_path / "cases")
    case = next(c for c in cases.cases if c.needle == "n01")
    assert case.needle_end - case.needle_start == 12
    assert any(s.path == "h1.mp4" and s.end == 35 for c in cases.cases for s in c.segments)
    for case in cases.cases:
        rendered = open_video(tmp_path / "cases" / case.video, fps=1)
        assert len(rendered) == case.frames == len(cases.playlist(case, Opened()))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[", b"[" * 100_000, None])
def test_files_that_are_no_json(videos, tmp_path, content):
    path = videos / "questions.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read|not UTF-8"):
        build_cases(tmp_path / "cases", GRID, questions=path, needle_seconds=SECONDS)


def video_mme_rows():
    def row(video, duration, number):
        return {
            "video_id": "001",
            "duration": duration,
            "domain": "Knowledge",
            "sub_category": "Humanity & History",
            "url": "https://example.org",
            "videoID": video,
            "question_id": f"001-{number}",
            "task_type": ("Counting Problem", "Action Reasoning", "OCR Problems")[number % 3],
            "question": f"What about {video}, {number}?",
            "options": ["A. one.", "B. two.", "C. three.", "D. four."],
            "answer": "ABCD"[number],
        }

    return [
        row(video, duration, number)
        for video, duration in (
            ("n1", "short"),
            ("n2", "short"),
            ("-missing_1", "short"),
            ("tiny", "short"),
            ("h1", "long"),
            ("h2", "long"),
            ("n1x", "medium"),
        )
        for number in range(3)
    ]


def write_table(folder, rows):
    """The table as it was released."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (folder / "videomme").mkdir(parents=True)
    path = folder / "videomme" / "test-00000-of-00001.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_video_mme(videos, tmp_path):
    folder = tmp_path / "mme"
    write_table(folder, video_mme_rows())
    videos.rename(folder / "data")
    build_cases(tmp_path / "cases", GRID, video_mme=folder, needle_seconds=SECONDS)
    cases = read_cases(tmp_path / "cases")
    assert cases.source == "Video-MME videos"
    assert {c.needle for c in cases.cases} == {"n1", "n2"}
    case = next(c for c in cases.cases if c.needle == "n1")
    assert [q.answer for q in case.questions] == ["A", "B", "C"]
    assert case.questions[1].options == ("one.", "two.", "three.", "four.")
    assert case.questions[1].kind == "Action Reasoning"
    assert {s.path for s in case.segments} <= {"data/n1.mp4", "data/h1.mp4", "data/h2.mp4"}
    for case in cases.cases:
        assert len(cases.playlist(case, Opened())) == case.frames
    build_cases(
        tmp_path / "cases",
        GRID,
        video_mme=folder,
        needle_seconds=SECONDS,
        per_needle=1,
        videos=folder / "data",
    )
    cases = read_cases(tmp_path / "cases")
    assert {len(c.questions) for c in cases.cases} == {1}
    assert {s.path for c in cases.cases for s in c.segments} == {
        "n1.mp4",
        "n2.mp4",
        "h1.mp4",
        "h2.mp4",
    }


@pytest.mark.parametrize(
    "change, message",
    [
        ({"videoID": "../../etc/passwd"}, "wanted the name of a file"),
        ({"answer": "E"}, "letter of A to D"),
        ({"duration": "none"}, "found 0 and 2"),
    ],
)
def test_tables_that_cannot_be_used(videos, change, message):
    rows = [{**row, **change} if row["duration"] == "short" else row for row in video_mme_rows()]
    write_table(videos, rows)
    with pytest.raises(InputError, match=message):
        read_video_mme(
            videos,
            videos,
            GRID,
            haystacks=2,
            per_needle=3,
            needle_seconds=SECONDS,
            opened=Opened(),
        )


def test_a_folder_without_a_table(videos, tmp_path):
    with pytest.raises(InputError, match="not Video-MME as it was released"):
        build_cases(tmp_path / "cases", GRID, video_mme=videos, needle_seconds=SECONDS)
    with pytest.raises(InputError, match="wanted one of the two"):
        build_cases(tmp_path / "c", GRID, video_mme=videos, questions=videos / "q.json")
