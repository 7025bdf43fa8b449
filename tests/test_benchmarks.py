"""Benchmarks in their released forms: what is asked, where the videos are, what is refused."""

from __future__ import annotations

import json

import eval_files as files
import pytest
from vilamp import InputError
from vilamp.evaluation.benchmarks import NAMES, benchmark
from vilamp.evaluation.benchmarks.running import Plan

DIRECTLY = "Answer with the option's letter from the given choices directly."


def write(name, folder, *rest):
    if name == "video-mme":
        pytest.importorskip("pyarrow")
    return files.WRITERS[name](folder, *rest)


@pytest.fixture(params=list(NAMES))
def release(request, tmp_path):
    return benchmark(request.param), write(request.param, tmp_path / request.param)


def read(name, tmp_path, **options):
    found = benchmark(name)
    folder = write(name, tmp_path / name)
    return found, found.read(folder, **{"split": found.splits[0], **options})


def test_every_question_has_a_video_and_a_prompt(release):
    found, folder = release
    items = found.read(folder, split=found.splits[0])
    assert len(items) == {"mlvu": 8, "longvideobench": 2, "egoschema": 1}.get(found.name, 3)
    for item in items:
        assert item.path.is_file() and item.path.is_relative_to(folder)
        prompt = found.prompt(item)
        assert prompt.casefold().startswith(item.question.casefold()) or found.name == "video-mme"
        assert all(option in prompt for option in item.options)
        assert item.answer


def test_the_command_line_lists_what_there_is():
    from vilamp.cli.eval import BENCHMARKS

    assert list(BENCHMARKS) == list(NAMES)


def test_video_mme(tmp_path):
    found, items = read("video-mme", tmp_path)
    assert [item.id for item in items] == ["001-1", "001-2", "601-1"]
    assert items[0].options == ("Two.", "Three.", "Four.", "Five.") and items[0].answer == "C"
    assert items[2].groups == {
        "duration": ("long",),
        "domain": ("Film & Television",),
        "task": ("Object Reasoning",),
    }
    assert found.prompt(items[0]) == (
        "Select the best answer to the following multiple-choice question based on the video. "
        "Respond with only the letter (A, B, C, or D) of the correct option.\n"
        "How many {red} balls are there?\nA. Two.\nB. Three.\nC. Four.\nD. Five.\n"
        "The best answer is:"
    )


def test_video_mme_with_subtitles(tmp_path):
    found, items = read("video-mme", tmp_path, subtitles=True)
    assert found.prompt(items[0]).startswith(
        "This video's subtitles are listed below:\nWelcome to the harbour.\n"
        "Two lines of one subtitle.\nSelect the best answer to the following multiple-choice "
        "question based on the video and the subtitles. Respond with"
    )
    # A video without speech has no file.
    assert "\nNo subtitles available\n" in found.prompt(items[2])


def test_mlvu(tmp_path):
    found, items = read("mlvu", tmp_path)
    assert [item.groups["task"][0] for item in items] == [
        *("plotQA", "plotQA", "needle", "ego", "count", "order", "anomaly_reco"),
        "topic_reasoning",
    ]
    assert [item.answer for item in items[:2]] == ["D", "B"]
    assert found.prompt(items[0]) == (
        "What color is the main male character in the video?\n(A) Yellow\n(B) Red\n(C) Green\n"
        "(D) Blue\nOnly give the best option.\nBest option: ("
    )


@pytest.mark.parametrize("place", ["MLVU/video/1_plotQA", "video/plotQA"])
def test_mlvu_as_others_unpack_it(place, tmp_path):
    folder = write("mlvu", tmp_path)
    if place.startswith("MLVU"):
        for name in ("json", "video"):
            (folder / "MLVU").mkdir(exist_ok=True)
            (folder / name).rename(folder / "MLVU" / name)
    else:
        (folder / "video" / "1_plotQA").rename(folder / place)
    items = benchmark("mlvu").read(folder)
    assert items[0].path == folder / place / "movie101_66.mp4"


def test_longvideobench(tmp_path):
    found, items = read("longvideobench", tmp_path)
    assert [item.answer for item in items] == ["B", "D"]
    assert items[0].groups == {"duration": ("15",), "category": ("TOS",)}
    assert found.prompt(items[1]) == (
        f"What does the woman do first?\nA. sits\nB. waves\nC. sings\nD. reads\n{DIRECTLY}\n"
    )


def test_longvideobench_subtitles_of_the_video_only_in_time_order(tmp_path):
    found, items = read("longvideobench", tmp_path, subtitles=True)
    # Of 100 s to 108 s: one that has begun before counts, those outside do not.
    assert items[0].subtitles.lines() == ["we begin", "on this stage"]
    assert items[1].subtitles.lines() == ["first cut the onions", "then we read"]
    assert found.prompt(items[0]).startswith(
        "This video's subtitles are listed below:\nwe begin\non this stage\nWhen the man"
    )


def test_egoschema(tmp_path):
    found, (item,) = read("egoschema", tmp_path)
    assert item.answer == "D" and item.video == item.id
    assert found.prompt(item) == (
        f"{item.question}\nA. C is cooking.\nB. C is doing laundry.\n"
        "C. C is cleaning the kitchen.\nD. C is cleaning dishes.\n"
        f"E. C is cleaning the bathroom.\n{DIRECTLY}"
    )


def test_egoschema_in_full_has_questions_without_an_answer(tmp_path):
    found, items = read("egoschema", tmp_path, split="full")
    assert [item.answer for item in items] == ["D", None]
    grade = found.grade(items[1], "B")
    assert grade.chosen == "B" and grade.right is None
    rows = [
        {"id": items[0].id, "chosen": "D"},
        {"id": items[1].id, "chosen": None},
    ]
    assert found.extras(rows) == {"submission.json": {items[0].id: 3, items[1].id: -1}}


def test_lvbench(tmp_path):
    found, items = read("lvbench", tmp_path)
    assert items[0].question == "What year appears in the opening caption of the video?"
    assert items[0].options == ("1636", "1366", "1363", "1633") and items[0].answer == "D"
    assert items[1].options[2] == "Nobody knows (yet)"
    assert items[0].groups == {
        "question type": ("key information retrieval", "entity recognition"),
        "video": ("cartoon",),
    }
    # As released, and the instruction.
    assert found.prompt(items[0]) == (
        f"{files.LVBENCH[0]['qa'][0]['question']}\nAnswer the question with the option letter"
    )


def test_activitynet_qa(tmp_path):
    found, items = read("activitynet-qa", tmp_path)
    assert [(item.answer, *item.groups["type"]) for item in items] == [
        ("yes", "yes/no"),
        ("black white", "color"),
        ("two", "number"),
    ]
    assert items[2].path.name == "v_rQxbxU0Yo-o.mkv"
    assert found.prompt(items[0]) == (
        "Is the athlete wearing trousers? Answer the question using a single word or phrase."
    )
    assert [
        found.grade(item, reply).right
        for item, reply in (
            (items[0], "Yes, he is."),
            (items[0], "No."),
            (items[0], "not sure"),
            (items[1], "Black, white."),
            (items[1], "white"),
            (items[2], "2"),
            (items[2], "three"),
        )
    ] == [True, False, False, True, False, True, False]
    row = {"id": "q", "question": "is it", "truth": "yes", "reply": "no", "chosen": "no"}
    assert found.extras([row]) == {
        "judge.json": [{"id": "q", "question": "is it", "answer": "yes", "pred": "no"}]
    }


def test_videos_may_be_elsewhere(release, tmp_path):
    found, folder = release
    here = found.read(folder, split=found.splits[0])
    videos = tmp_path / "moved"
    # MLVU's tasks have folders of their own.
    videos = videos / "plotQA" if found.name == "mlvu" else videos
    videos.mkdir(parents=True)
    here[0].path.rename(videos / here[0].path.name)
    for path in {item.path for item in here[1:]} - {here[0].path}:
        path.unlink()
    there = found.read(folder, tmp_path / "moved", found.splits[0])
    assert there[0].path == videos / here[0].path.name
    with pytest.raises(InputError, match="none of"):
        Plan.of(found, folder)


# How each release names its first video, for a name that leads elsewhere.
def _video_mme(folder, name):
    rows = [{**files.VIDEO_MME[0], "videoID": name}]
    files.write_video_mme(folder, rows=rows)


def _mlvu(folder, name):
    files.write_json(folder / "json" / "1_plotQA.json", [{**files.PLOT[0], "video": name}])


def _longvideobench(folder, name):
    files.write_json(folder / "lvb_val.json", [{**files.LONGVIDEOBENCH[0], "video_path": name}])


def _egoschema(folder, name):
    files.write_json(folder / "questions.json", [{**files.EGOSCHEMA[0], "q_uid": name}])
    files.write_json(folder / "subset_answers.json", {name: 1})


def _lvbench(folder, name):
    (folder / "video_info.meta.jsonl").write_text(json.dumps({**files.LVBENCH[0], "key": name}))


def _activitynet(folder, name):
    files.write_json(folder / "test_q.json", [{**files.ACTIVITYNET_Q[0], "video_name": name}])


RENAME = {
    "video-mme": _video_mme,
    "mlvu": _mlvu,
    "longvideobench": _longvideobench,
    "egoschema": _egoschema,
    "lvbench": _lvbench,
    "activitynet-qa": _activitynet,
}


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "a\\..\\b", "a\0b", "c:secret"])
def test_a_name_cannot_lead_out_of_the_data(name, release, tmp_path):
    found, folder = release
    (tmp_path / "secret.mp4").touch()
    RENAME[found.name](folder, name)
    with pytest.raises(InputError, match="wanted the name of a file"):
        found.read(folder, split=found.splits[0])


def test_an_absolute_name_is_refused(release, tmp_path):
    found, folder = release
    (tmp_path / "secret.mp4").touch()
    RENAME[found.name](folder, str(tmp_path / "secret"))
    with pytest.raises(InputError, match="wanted the name of a file"):
        found.read(folder, split=found.splits[0])


def test_a_link_out_of_the_data_is_refused(release, tmp_path):
    found, folder = release
    secret = tmp_path / "secret.mp4"
    secret.touch()
    (path,) = {item.path for item in found.read(folder, split=found.splits[0])[:1]}
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(InputError, match="by a link"):
        found.read(folder, split=found.splits[0])
    # One that stays inside is fine.
    path.unlink()
    path.with_name("other.mp4").touch()
    path.symlink_to("other.mp4")
    assert found.read(folder, split=found.splits[0])[0].path == path


def test_another_folder_is_refused(tmp_path):
    for name in NAMES:
        found = benchmark(name)
        with pytest.raises(InputError, match="no such folder"):
            found.read(tmp_path / "missing", split=found.splits[0])
        with pytest.raises(InputError, match=r"wanted .*(json|parquet)"):
            found.read(tmp_path, split=found.splits[0])


@pytest.mark.parametrize(
    "name, file, value, word",
    [
        ("longvideobench", "lvb_val.json", "{", "not JSON"),
        ("longvideobench", "lvb_val.json", "{}", "wanted a list"),
        ("longvideobench", "lvb_val.json", "[3]", "wanted an object"),
        ("longvideobench", "lvb_val.json", '[{"id": "a"}]', "wanted"),
        ("longvideobench", "lvb_val.json", "[" * 100_000, "not JSON"),
        ("egoschema", "subset_answers.json", "[]", "wanted an object"),
        ("activitynet-qa", "test_a.json", "{}", "wanted a list"),
        ("lvbench", "video_info.meta.jsonl", '{"key": "a"}\n{', "line 2"),
        ("mlvu", "json/3_ego.json", '[{"video": "a.mp4", "candidates": []}]', "candidates"),
    ],
)
def test_damaged_tables_are_one_clear_error(name, file, value, word, tmp_path):
    folder = write(name, tmp_path)
    (folder / file).write_text(value)
    found = benchmark(name)
    with pytest.raises(InputError, match=word) as error:
        found.read(folder, split=found.splits[0])
    assert file.rsplit("/", 1)[-1] in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "field, value, word",
    [
        ("correct_choice", 5, "correct_choice"),
        ("correct_choice", -1, "correct_choice"),
        ("correct_choice", True, "correct_choice"),
        ("candidates", [], "candidates"),
        ("candidates", "abc", "candidates"),
        ("candidates", [1, None], "candidates"),
        ("candidates", ["x"] * 27, "at most 26|correct_choice"),
        ("question", " ", "question"),
        ("question", None, "question"),
        ("id", "", "id"),
        ("duration", float("nan"), "duration"),
        ("duration", "12", "duration"),
    ],
)
def test_a_field_of_another_kind_is_one_clear_error(field, value, word, tmp_path):
    folder = write("longvideobench", tmp_path)
    rows = [{**files.LONGVIDEOBENCH[0], field: value}]
    files.write_json(folder / "lvb_val.json", rows)
    with pytest.raises(InputError, match=word):
        benchmark("longvideobench").read(folder, subtitles=True)


def test_video_mme_needs_its_columns(tmp_path):
    folder = write("video-mme", tmp_path)
    rows = [{k: v for k, v in row.items() if k != "options"} for row in files.VIDEO_MME]
    files.write_video_mme(folder, rows=rows)
    with pytest.raises(InputError, match="no column 'options'"):
        benchmark("video-mme").read(folder)
    (folder / "videomme" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 not parquet PAR1")
    with pytest.raises(InputError, match="not a parquet file"):
        benchmark("video-mme").read(folder)


def test_a_small_parquet_that_unpacks_to_a_lot_is_refused_unread(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet
    from vilamp.evaluation.benchmarks.tables import read_parquet

    path = tmp_path / "test.parquet"
    part = pa.table({"question": ["y" * (1 << 20)] * 20})
    with parquet.ParquetWriter(
        path, part.schema, compression="zstd", use_dictionary=False
    ) as writer:
        for _ in range(8):
            writer.write_table(part)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="unpacked"):
        read_parquet(path, ["question"])


def test_a_question_without_an_answer_is_refused(tmp_path):
    folder = write("activitynet-qa", tmp_path)
    files.write_json(folder / "test_a.json", files.ACTIVITYNET_A[:1])
    with pytest.raises(InputError, match="'v_1QIUV7WYKXg_3' has no answer"):
        benchmark("activitynet-qa").read(folder)


def test_the_same_id_twice_is_refused(tmp_path):
    folder = write("longvideobench", tmp_path)
    files.write_json(folder / "lvb_val.json", [files.LONGVIDEOBENCH[0]] * 2)
    with pytest.raises(InputError, match="two questions have the id"):
        Plan.of(benchmark("longvideobench"), folder)


def test_splits_and_subtitles_that_are_not_there(tmp_path):
    folder = write("lvbench", tmp_path)
    with pytest.raises(InputError, match="--split"):
        Plan.of(benchmark("lvbench"), folder, split="val")
    with pytest.raises(InputError, match="--subtitles"):
        Plan.of(benchmark("lvbench"), folder, subtitles=True)
    with pytest.raises(InputError, match="--videos"):
        Plan.of(benchmark("lvbench"), folder, tmp_path / "missing")
    with pytest.raises(InputError, match="video-mme"):
        benchmark("imagenet")
