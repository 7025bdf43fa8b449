"""Two runs of the same at once, with different numbers of parts: a question is answered once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from vilamp.evaluation import runner
from vilamp.evaluation.claims import Claims
from vilamp.evaluation.parts import OtherParts, claims_of, part_of
from vilamp.evaluation.results import Results, read_rows
from vilamp.evaluation.shards import Shard

SETTINGS = {"model": "m"}

# Answers the first group of part 1 of 2, and has begun the second when it says so.
OTHER = """
import sys
from pathlib import Path
from vilamp.evaluation.parts import claims_of, part_of
from vilamp.evaluation.results import Results
from vilamp.evaluation.shards import Shard

folder, ends = Path(sys.argv[1]), sys.argv[2]
with Results(part_of(folder, "m", Shard(1, 2)), {"model": "m"}) as results:
    with claims_of(folder, "m") as claims, claims.on(["c", "d"]) as ours:
        results.append({"id": "c"})
        print(ours, flush=True)
        sys.stdin.readline()
        if ends == "answers":
            results.append({"id": "d"})
"""


@pytest.fixture
def other(tmp_path):
    """`other(ends)` starts the other process; it ends at the first call of the result."""
    started = []

    def start(ends: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(tmp_path), ends],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "True\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def run(folder: Path, groups: list[list[str]], work) -> list[str]:
    """Answer all that is left; gives what was asked here."""
    asked = []

    def noted(group):
        for item in group:
            asked.append(item)
            yield {}
            work(item)

    with Results(part_of(folder, "m", Shard()), SETTINGS) as results, claims_of(folder, "m") as own:
        others = OtherParts(folder, "m", Shard(), SETTINGS)
        runner.run(groups, str, noted, results, claims=own, elsewhere=others.answered)
    return asked


@pytest.mark.parametrize(
    ("ends", "asked"),
    [("answers", ["a", "b", "e"]), ("stops", ["a", "b", "e", "d"]), ("dies", ["a", "b", "e", "d"])],
)
def test_what_another_run_is_answering_is_left_to_it(tmp_path, other, monkeypatch, ends, asked):
    monkeypatch.setattr(runner, "LOOK_AGAIN", 0.01)
    process = other(ends)

    def work(item):
        # By then "c" and "d" were met, and left for later.
        if item == "e" and ends == "dies":
            process.kill()
        elif item == "e":
            process.stdin.write("\n")
            process.stdin.flush()

    assert run(tmp_path, [["a", "b"], ["c", "d"], ["e"]], work) == asked
    rows = [row["id"] for path in tmp_path.glob("*.jsonl") for row in read_rows(path)[1]]
    assert sorted(rows) == ["a", "b", "c", "d", "e"]


def test_a_claim_is_on_every_question_of_a_group(tmp_path, other):
    other("stops")
    with claims_of(tmp_path, "m") as claims:
        for names, ours in ((["b", "c"], False), (["d"], False), (["b"], True)):
            with claims.on(names) as given:
                assert given is ours


def test_the_last_run_takes_the_lock_file_away(tmp_path, other):
    process, path = other("stops"), tmp_path / ".m.lock"
    Claims(path).close()
    assert path.exists()
    process.communicate("\n", timeout=60)
    assert not path.exists()
    Claims(path).close()
    assert [found.name for found in tmp_path.iterdir()] == ["m.1-of-2.jsonl"]
