"""Benchmarks as they are released, a few rows each, written by hand: names, columns and forms are
those of the releases, the content is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

VIDEO_MME = [
    {
        "video_id": "001",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Humanity & History",
        "url": "https://www.youtube.com/watch?v=fFjv93ACGo8",
        "videoID": "fFjv93ACGo8",
        "question_id": "001-1",
        "task_type": "Counting Problem",
        "question": "How many {red} balls are there?",
        "options": ["A. Two.", "B. Three.", "C. Four.", "D. Five."],
        "answer": "C",
    },
    {
        "video_id": "001",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Humanity & History",
        "url": "https://www.youtube.com/watch?v=fFjv93ACGo8",
        "videoID": "fFjv93ACGo8",
        "question_id": "001-2",
        "task_type": "Information Synopsis",
        "question": "What is the genre of this video?",
        "options": ["A. News report.", "B. Study.", "C. Review.", "D. Advertisement."],
        "answer": "A",
    },
    {
        "video_id": "601",
        "duration": "long",
        "domain": "Film & Television",
        "sub_category": "Movie & TV Show",
        "url": "https://www.youtube.com/watch?v=-Ab_9xQ2lmk",
        "videoID": "-Ab_9xQ2lmk",
        "question_id": "601-1",
        "task_type": "Object Reasoning",
        "question": "Who opens the door?",
        "options": ["A. Nobody.", "B. The cook.", "C. A child.", "D. The guard."],
        "answer": "B",
    },
]
SRT = """1
00:00:01,000 --> 00:00:03,500
<font color="white" size=".72c">Welcome to the harbour.</font>

2
00:00:04,000 --> 00:00:06,000
Two lines
of one subtitle.
"""

MLVU_NAMES = (
    "1_plotQA",
    "2_needle",
    "3_ego",
    "4_count",
    "5_order",
    "6_anomaly_reco",
    "7_topic_reasoning",
)
PLOT = [
    {
        "video": "movie101_66.mp4",
        "duration": 246,
        "question": "What color is the main male character in the video?",
        "candidates": ["Yellow", "Red", "Green", "Blue"],
        "answer": "Blue",
        "question_type": "plotQA",
    },
    {
        "video": "movie101_66.mp4",
        "duration": 246,
        "question": "Where does he sleep?",
        "candidates": ["In a boat", "In a tree", "On a roof", "In a car"],
        "answer": "In a tree",
        "question_type": "plotQA",
    },
]

LONGVIDEOBENCH = [
    {
        "video_id": "86CxyhFV9MI",
        "question": "When the man in grey stands on stage, which word is shown behind him?",
        "question_wo_referring_query": "Which word is shown behind him?",
        "candidates": ["promise", "future", "home", "again", "north"],
        "correct_choice": 1,
        "position": [854],
        "topic_category": "NP-News-Programs",
        "question_category": "TOS",
        "level": "L2-Relation",
        "id": "86CxyhFV9MI_0",
        "video_path": "86CxyhFV9MI.mp4",
        "subtitle_path": "86CxyhFV9MI_en.json",
        "duration_group": 15,
        "starting_timestamp_for_subtitles": 100,
        "duration": 8.0,
        "view_count": 265309,
    },
    {
        "video_id": "@fitmenu-7117",
        "question": "What does the woman do first?",
        "question_wo_referring_query": "What does the woman do first?",
        "candidates": ["sits", "waves", "sings", "reads"],
        "correct_choice": 3,
        "position": [12, 60],
        "topic_category": "CV-Cooking",
        "question_category": "E2O",
        "level": "L1-Perception",
        "id": "@fitmenu-7117_1",
        "video_path": "@fitmenu-7117.mp4",
        "subtitle_path": "@fitmenu-7117_en.json",
        "duration_group": 60,
        "starting_timestamp_for_subtitles": 0,
        "duration": 12.0,
        "view_count": 19,
    },
]
WITH_CLOCKS = [
    {"start": "00:01:30.000", "end": "00:01:39.000", "line": "long before"},
    {"start": "00:01:43.500", "end": "00:01:45.000", "line": "on this stage"},
    {"start": "00:01:39.000", "end": "00:01:41.000", "line": "we begin"},
    {"start": "00:01:50.000", "end": "00:01:52.000", "line": "long after"},
]
WITH_TIMESTAMPS = [
    {"timestamp": [0.2, 3.1], "text": "first cut the onions"},
    {"timestamp": [5.0, None], "text": "then we read"},
]

EGOSCHEMA = [
    {
        "q_uid": "0074f737-11cb-497d-8d07-77c3a8127391",
        "google_drive_id": "1aBcD",
        "question": "Taking into account all the actions, what is the main objective of c?",
        "option 0": "C is cooking.",
        "option 1": "C is doing laundry.",
        "option 2": "C is cleaning the kitchen.",
        "option 3": "C is cleaning dishes.",
        "option 4": "C is cleaning the bathroom.",
    },
    {
        "q_uid": "00b9a0de-c59e-49cb-a127-6081e2fb8c8e",
        "google_drive_id": "1eFgH",
        "question": "What was the purpose of the cup of water?",
        "option 0": "To drink.",
        "option 1": "To clean the brush.",
        "option 2": "To pour it away.",
        "option 3": "To cool something.",
        "option 4": "To wash hands.",
    },
]
EGOSCHEMA_ANSWERS = {"0074f737-11cb-497d-8d07-77c3a8127391": 3}

LVBENCH = [
    {
        "key": "Cm73ma6Ibcs",
        "type": "cartoon",
        "video_info": {
            "duration_minutes": 61,
            "fps": 25.0,
            "resolution": {"width": 1280, "height": 720},
        },
        "qa": [
            {
                "uid": "55",
                "question": "What year appears in the opening caption of the video?\n(A) 1636\n"
                "(B) 1366\n(C) 1363\n(D) 1633",
                "answer": "D",
                "question_type": ["key information retrieval", "entity recognition"],
                "time_reference": "00:15-00:19",
            },
            {
                "uid": "56",
                "question": "Why does he leave?\n(A) He is tired\n(B) It rains\n"
                "(C) Nobody knows (yet)\n(D) He is called",
                "answer": "A",
                "question_type": ["reasoning"],
                "time_reference": "21:00-24:10",
            },
        ],
    },
    {
        "key": "t-RtDI2RWQs",
        "type": "sport",
        "video_info": {"duration_minutes": 98, "fps": 30.0},
        "qa": [
            {
                "uid": "1547",
                "question": "Which team scores?\n(A) Blue\n(B) Red\n(C) Both\n(D) None",
                "answer": "C",
                "question_type": ["event understanding"],
                "time_reference": "10:12",
            }
        ],
    },
]

ACTIVITYNET_Q = [
    {
        "video_name": "1QIUV7WYKXg",
        "question": "is the athlete wearing trousers",
        "question_id": "v_1QIUV7WYKXg_3",
    },
    {
        "video_name": "1QIUV7WYKXg",
        "question": "what color are the shoes",
        "question_id": "v_1QIUV7WYKXg_4",
    },
    {
        "video_name": "rQxbxU0Yo-o",
        "question": "how many people are there",
        "question_id": "v_rQxbxU0Yo-o_1",
    },
]
ACTIVITYNET_A = [
    {"answer": "two", "type": 7, "question_id": "v_rQxbxU0Yo-o_1"},
    {"answer": "yes", "type": 3, "question_id": "v_1QIUV7WYKXg_3"},
    {"answer": "black white", "type": 4, "question_id": "v_1QIUV7WYKXg_4"},
]


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def put_video(video: Path | None, *places: Path) -> None:
    """Copies of a video, or files without content."""
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        if video is None:
            place.touch()
        else:
            shutil.copyfile(video, place)


def write_video_mme(folder: Path, video: Path | None = None, rows: list | None = None) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    rows = VIDEO_MME if rows is None else rows
    (folder / "videomme").mkdir(parents=True, exist_ok=True)
    parquet.write_table(
        pa.Table.from_pylist(rows), folder / "videomme" / "test-00000-of-00001.parquet"
    )
    put_video(video, folder / "data" / "fFjv93ACGo8.mp4", folder / "data" / "-Ab_9xQ2lmk.mp4")
    (folder / "subtitle").mkdir(exist_ok=True)
    (folder / "subtitle" / "fFjv93ACGo8.srt").write_text(SRT, encoding="utf-8")
    return folder


def write_mlvu(folder: Path, video: Path | None = None) -> Path:
    for name in MLVU_NAMES:
        task = name.split("_", 1)[1]
        rows = PLOT if name == "1_plotQA" else [{**PLOT[0], "video": f"{task}_1.mp4"}]
        write_json(folder / "json" / f"{name}.json", rows)
        put_video(video, *(folder / "video" / name / row["video"] for row in rows))
    return folder


def write_longvideobench(folder: Path, video: Path | None = None) -> Path:
    write_json(folder / "lvb_val.json", LONGVIDEOBENCH)
    put_video(video, *(folder / "videos" / row["video_path"] for row in LONGVIDEOBENCH))
    write_json(folder / "subtitles" / "86CxyhFV9MI_en.json", WITH_CLOCKS)
    write_json(folder / "subtitles" / "@fitmenu-7117_en.json", WITH_TIMESTAMPS)
    return folder


def write_egoschema(folder: Path, video: Path | None = None) -> Path:
    write_json(folder / "questions.json", EGOSCHEMA)
    write_json(folder / "subset_answers.json", EGOSCHEMA_ANSWERS)
    put_video(video, *(folder / "videos" / f"{row['q_uid']}.mp4" for row in EGOSCHEMA))
    return folder


def write_lvbench(folder: Path, video: Path | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps(row)}\n" for row in LVBENCH)
    (folder / "video_info.meta.jsonl").write_text(lines, encoding="utf-8")
    put_video(video, *(folder / "all_videos" / f"{row['key']}.mp4" for row in LVBENCH))
    return folder


def write_activitynet_qa(folder: Path, video: Path | None = None) -> Path:
    write_json(folder / "test_q.json", ACTIVITYNET_Q)
    write_json(folder / "test_a.json", ACTIVITYNET_A)
    put_video(video, folder / "all_test" / "v_1QIUV7WYKXg.mp4")
    put_video(video, folder / "all_test" / "v_rQxbxU0Yo-o.mkv")
    return folder


WRITERS = {
    "video-mme": write_video_mme,
    "mlvu": write_mlvu,
    "longvideobench": write_longvideobench,
    "egoschema": write_egoschema,
    "lvbench": write_lvbench,
    "activitynet-qa": write_activitynet_qa,
}
