"""The model inside lmms-eval, found by its own registry through the package's entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from vilamp import InputError, ViLAMP
from vilamp.drawn import draw_video

pytest.importorskip("lmms_eval.models.registry_v2")

from lmms_eval.api.instance import Instance
from vilamp.evaluation.lmms_eval_model import ViLAMPForLmmsEval

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    paths = [folder / "a.mp4", folder / "b.mp4"]
    for seed, path in enumerate(paths):
        draw_video(path, seconds=10, seed=seed)
    return paths


@pytest.fixture(scope="module")
def model(videos):
    found = ViLAMPForLmmsEval.create_from_arg_string("pretrained=default,device=cpu,fps=1")
    found.task_dict["drawn"] = {
        "test": [
            {"path": str(videos[0]), "question": "In what place do you see the red star?"},
            {"path": str(videos[1]), "question": "What colour is it?\n(A) red\n(B) blue"},
            {"path": str(videos[0]), "question": "In what place do you see the blue ring?"},
        ]
    }
    return found


def request(model, number, kind="generate_until", visual=None, **options):
    document = model.task_dict["drawn"]["test"][number]
    look = visual or (lambda document: [document["path"]])
    return Instance(
        request_type=kind,
        arguments=(document["question"], options, look, number, "drawn", "test"),
        idx=0,
        metadata={"task": "drawn", "doc_id": number, "repeats": 1},
    )


def test_the_registry_finds_the_model_by_the_entry_point_of_the_project(tmp_path):
    """As installed: a folder of metadata with the entry points that pyproject.toml has."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = tmp_path / "vilamp_kernels-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vilamp-kernels\nVersion: 0.1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    code = (
        "import sys, json, lmms_eval.models as m\n"
        "names = m.list_available_models()\n"
        "early = 'vilamp.model' in sys.modules\n"
        "found = m.get_model('vilamp')\n"
        "print(json.dumps(['vilamp' in names, early, found.__name__, found.__module__]))\n"
    )
    search = [str(tmp_path), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    listed, early, name, module = json.loads(done.stdout.splitlines()[-1])
    assert listed and not early
    assert (name, module) == ("ViLAMPForLmmsEval", "vilamp.evaluation.lmms_eval_model")


def test_answers_are_those_of_sessions_in_the_order_of_the_requests(model, videos):
    asked = [request(model, n, max_new_tokens=4) for n in (0, 1, 2)]
    expected = []
    for number, query in (
        (0, None),
        (1, "What colour is it?"),
        (2, None),
    ):
        document = model.task_dict["drawn"]["test"][number]
        session = ViLAMP.from_pretrained("default", device="cpu").session(document["path"])
        (answer,) = session.answers([document["question"]], queries=[query], max_new_tokens=4)
        expected.append(answer.text)
    assert model.generate_until(asked) == expected


def test_questions_about_one_video_share_its_sweeps(model, monkeypatch):
    opened = []
    session = ViLAMP.session
    monkeypatch.setattr(
        ViLAMP,
        "session",
        lambda self, source, **o: (opened.append(source), session(self, source, **o))[1],
    )
    model.generate_until([request(model, n, max_new_tokens=2) for n in (0, 1, 2)])
    assert len(opened) == 2
    # Other options are another answer, but never one under the other's options.
    model.generate_until([request(model, 0, max_new_tokens=2), request(model, 2, max_new_tokens=3)])
    assert len(opened) == 4


def test_an_answer_ends_where_the_task_says(model):
    (whole,) = model.generate_until([request(model, 0, max_new_tokens=8)])
    assert len(whole) > 2
    (cut,) = model.generate_until([request(model, 0, max_new_tokens=8, until=["", whole[2]])])
    assert cut == whole[:2].strip()


def test_every_answer_goes_to_the_cache_of_lmms_eval(model, monkeypatch):
    kept = []

    class Hook:
        def add_partial(self, *what):
            kept.append(what)

    monkeypatch.setattr(model, "cache_hook", Hook())
    options = {"max_new_tokens": 2}
    (text,) = model.generate_until([request(model, 0, **options)])
    question = model.task_dict["drawn"]["test"][0]["question"]
    assert kept == [("generate_until", (question, options), text)]


def test_what_is_not_offered_is_refused_clearly(model):
    with pytest.raises(NotImplementedError, match="generate_until"):
        model.loglikelihood([request(model, 0, "loglikelihood")])
    with pytest.raises(NotImplementedError, match="rounds"):
        model.generate_until_multi_round([])
    for options, word in (
        ({"num_beams": 4}, "num_beams"),
        ({"do_sample": True, "temperature": 1.0, "top_p": 0.5}, "top_p"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
    ):
        with pytest.raises(InputError, match=word):
            model.generate_until([request(model, 0, **options)])
    for visual in (lambda document: [], lambda document: ["a.mp4", "b.mp4"], lambda document: [1]):
        with pytest.raises(InputError, match="one video"):
            model.generate_until([request(model, 0, visual=visual)])
    with pytest.raises(InputError, match="colour"):
        ViLAMPForLmmsEval(colour=1)
    with pytest.raises(InputError, match="batch_size"):
        ViLAMPForLmmsEval(batch_size=8)
