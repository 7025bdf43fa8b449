"""What frames are ranked by: `--query`, and a note where CLIP reads only the start of a text."""

from __future__ import annotations

import json

import numpy as np
import pytest
import vilamp.model
from cli_fakes import FakeModel
from vilamp.cli.app import run
from vilamp.drawn import write_video
from vilamp.prompt import query_read
from vilamp.tokenizers import clip_tokenizer


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, [np.full((64, 64, 3), 9 * n, np.uint8) for n in range(10)], fps=5)
    return str(path)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    model = FakeModel()
    monkeypatch.setattr(vilamp.model, "ViLAMP", model)
    return model


@pytest.mark.parametrize(
    ("given", "expected"),
    [([], [None, None]), (["cat"], ["cat", "cat"]), (["cat", " dog "], ["cat", "dog"])],
)
def test_one_query_for_all_questions_or_one_for_each(model, video, capsys, given, expected):
    options = [part for text in given for part in ("--query", text)]
    assert run(["ask", video, "Which?", "Where?", "--json", *options]) == 0
    assert model.queries == expected
    answers = json.loads(capsys.readouterr().out)["answers"]
    shown = [query or answer["question"] for query, answer in zip(expected, answers, strict=True)]
    assert [answer["query"] for answer in answers] == shown


@pytest.mark.parametrize(
    ("questions", "queries", "words"),
    [
        (3, ["cat", "dog"], "one for each of 3, got 2"),
        (1, ["cat", "dog"], "got 2"),
        (1, [""], "--query is empty"),
        (1, ["  "], "--query is empty"),
        (1, ["\udcff"], "--query: wanted UTF-8"),
    ],
)
def test_queries_that_do_not_fit(model, video, capsys, questions, queries, words):
    options = [part for text in queries for part in ("--query", text)]
    assert run(["ask", video, *["Which?"] * questions, *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err and err.count("\n") == 1
    # Told before the model is loaded.
    assert model.loaded_with == {}


def test_how_much_of_a_query_is_read():
    tokenizer = clip_tokenizer(None, 77)
    short, long = "a cat", "a cat and a dog " * 20
    assert query_read(tokenizer, short).whole
    read = query_read(tokenizer, long)
    assert not read.whole and read.tokens == 77
    # Five words a time, one token each, between the marks at the ends.
    assert read.needed == 102 and read.characters == len("a cat and a dog " * 15) - 1
    assert "first 239 of 320 characters" in str(read)


LONG = "In what place do you see the pink cross? " * 30


@pytest.mark.parametrize("command", ["ask", "select"])
def test_a_note_says_what_was_read(command, video, capsys):
    more = ["--max-new-tokens", "1"] if command == "ask" else []
    assert run([command, video, LONG, "--json", "--no-cache", *more]) == 0
    out, err = capsys.readouterr()
    (told,) = [line for line in json.loads(out)["notes"] if "are ranked by the first" in line]
    assert f"note: {told}\n" in err and f"of {len(LONG.strip()):,} characters" in told


def test_no_note_for_a_query_that_is_short(video, capsys):
    short = ["--query", "pink cross", "--max-new-tokens", "1", "--no-cache"]
    assert run(["ask", video, LONG, "--json", *short]) == 0
    assert not any("are ranked by" in line for line in json.loads(capsys.readouterr().out)["notes"])
