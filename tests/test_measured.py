"""Clocks and counters around a model, measurements in fresh processes, and their CSV."""

from __future__ import annotations

import csv
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from vilamp import ViLAMP, frame_store
from vilamp.checkpoint import find_folder
from vilamp.cli.app import run
from vilamp.config import ViLAMPConfig
from vilamp.drawn import draw_video
from vilamp.errors import InputError, VideoError
from vilamp.profile import fresh, looped, measured_plot, phases
from vilamp.profile.beside import simulated
from vilamp.profile.looped import LoopedFrames
from vilamp.profile.measure import QUESTION, Measurement, Request, clock_for, measure
from vilamp.profile.measured_rows import MeasuredRow, Sheet, columns
from vilamp.profile.peaks import CudaPeaks, ResidentPeaks
from vilamp.profile.phases import ALL_PHASES, CALLER_PHASES, PhaseClock
from vilamp.profile.random_weights import random_model
from vilamp.profile.watching import watched
from vilamp.spool import Spool
from vilamp.video import open_video

MB = 1 << 20


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Twenty frames."""
    path = tmp_path_factory.mktemp("video") / "drawn.mp4"
    draw_video(path, seconds=20, seed=0, fps=1)
    return path


@pytest.fixture(scope="module")
def model() -> ViLAMP:
    return ViLAMP.from_pretrained("default", device="cpu")


def whole(seconds: dict[str, float]) -> float:
    return sum(seconds[phase] for phase in CALLER_PHASES)


# --- the clock


class Counter:
    """Gives 1, 2, 3, ... bytes."""

    def __init__(self) -> None:
        self.calls = 0

    def take(self) -> dict[str, int]:
        self.calls += 1
        return {"some": self.calls}


@pytest.fixture
def passes(monkeypatch):
    """A clock on the wall that only goes on when this is called, with seconds."""
    now = [100.0]
    monkeypatch.setattr(phases, "perf_counter", lambda: now[0])

    def pass_(seconds: float) -> None:
        now[0] += seconds

    return pass_


def test_a_phase_is_what_no_phase_inside_it_is(passes):
    clock = PhaseClock(Counter())
    with clock.running():
        with clock.phase("project"):
            passes(2)
            with clock.phase("siglip"):
                passes(5)
            passes(1)
        passes(4)
    spent = {phase: seconds for phase, seconds in clock.seconds.items() if seconds}
    assert spent == {"project": 3, "siglip": 5, "other": 4} and clock.wall == 12
    # The first reading belongs to what came before the clock.
    assert clock.peaks["some"] == {"other": 6, "project": 5, "siglip": 4}


def test_other_threads_count_beside_and_neither_wait_nor_read_counters():
    counter, waits = Counter(), []
    clock = PhaseClock(counter, lambda: waits.append(threading.current_thread()))

    def decode():
        with clock.phase("video"):
            time.sleep(0.03)

    with clock.running():
        readings = counter.calls
        thread = threading.Thread(target=decode)
        thread.start()
        thread.join()
        assert counter.calls == readings
    assert clock.seconds["video"] >= 0.03
    assert set(waits) == {threading.main_thread()}
    assert whole(clock.seconds) == pytest.approx(clock.wall, rel=1e-9)
    assert "video" not in clock.peaks["some"]


def test_an_error_leaves_its_phase(passes):
    clock = PhaseClock()
    with clock.running():
        with pytest.raises(ZeroDivisionError):
            clock.timed("clip", lambda: 1 / 0)()
        passes(3)
    assert (clock.seconds["other"], clock.seconds["clip"]) == (3, 0)


def test_the_model_is_as_before(model, video):
    names = [set(vars(part)) for part in (model, model.vision_tower)]
    before = (Spool.write, Spool.__iter__, frame_store.siglip_levels)
    clock = PhaseClock()
    with clock.running(), watched(model, clock):
        assert Spool.write is not before[0]
        model.session(video).ask(QUESTION, max_new_tokens=2)
    assert [set(vars(part)) for part in (model, model.vision_tower)] == names
    assert (Spool.write, Spool.__iter__, frame_store.siglip_levels) == before
    took = dict(clock.seconds)
    model.session(video).ask(QUESTION, max_new_tokens=2)
    assert clock.seconds == took
    # Decoding is in `video` of `WatchedSource` only.
    assert all(took[phase] > 0 for phase in ALL_PHASES if phase != "video")


def test_answers_are_the_same_and_the_prompt_is_read_in_chunks(model, video, monkeypatch):
    wanted = model.session(video).ask(QUESTION)
    chunks = []
    forward = model.language_model.model.forward

    def counted(*args, inputs_embeds=None, **kwargs):
        if inputs_embeds is not None:
            chunks.append(inputs_embeds.shape[1])
        return forward(*args, inputs_embeds=inputs_embeds, **kwargs)

    monkeypatch.setattr(model.language_model.model, "forward", counted)
    clock = PhaseClock()
    with clock.running(), watched(model, clock, prefill_chunk=40):
        found = model.session(video).ask(QUESTION)
    assert (found.text, found.selection.keyframes) == (wanted.text, wanted.selection.keyframes)
    assert chunks[:2] == [40, 40] and sum(chunks) == wanted.prompt_tokens


def test_nothing_that_is_watched_lives_longer(model, video):
    """As the merger would, with its maps, if its `push` were replaced in place."""
    made = []
    plain = model.merger

    def remembered(*args):
        merger = plain(*args)
        made.append(weakref.ref(merger))
        return merger

    gc.disable()
    try:
        model.merger = remembered
        clock = PhaseClock()
        with clock.running(), watched(model, clock):
            model.session(video).ask(QUESTION, max_new_tokens=1)
        assert [reference() for reference in made] == [None]
    finally:
        del model.merger
        gc.enable()


# --- counters


class StandInForCuda:
    """The counters of `torch.cuda`, without a GPU."""

    def __init__(self) -> None:
        self.now = self.peak = self.held = 0
        self.waits = 0

    def allocate(self, size: int) -> None:
        self.now += size
        self.peak, self.held = max(self.peak, self.now), max(self.held, self.now + 50)

    def max_memory_allocated(self, device) -> int:
        return self.peak

    def max_memory_reserved(self, device) -> int:
        return self.held

    def reset_peak_memory_stats(self, device) -> None:
        assert str(device) == "cuda:1"
        self.peak = self.now

    def synchronize(self, device) -> None:
        self.waits += 1


def test_cuda_peaks_by_phase():
    cuda = StandInForCuda()
    cuda.allocate(100)
    cuda.allocate(900)
    cuda.allocate(-900)
    resident = ResidentPeaks()
    clock = clock_for(torch.device("cuda:1"), resident, cuda=cuda)
    with clock.running():
        with clock.phase("clip"):
            cuda.allocate(200)
            cuda.allocate(-200)
        waits = cuda.waits
        with clock.phase("prefill"):
            assert cuda.waits == waits + 1
            cuda.allocate(30)
        assert cuda.waits == waits + 2
    resident.close()
    # What was there before the clock is no peak of a phase, and reserved memory never shrinks.
    assert clock.peaks["allocated"] == {"other": 130, "clip": 300, "prefill": 130}
    assert clock.peaks["reserved"] == {"other": 1050, "clip": 1050, "prefill": 1050}
    assert set(clock.peaks["resident"]) == {"other", "clip", "prefill"}
    assert CudaPeaks(torch.device("cuda:1"), cuda).take() == {"allocated": 130, "reserved": 1050}


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
def test_resident_peaks_begin_anew():
    peaks = ResidentPeaks()
    peaks.take()
    before = peaks.now()
    held = np.ones(96 * MB, np.uint8)
    del held
    assert peaks.take()["resident"] >= before + 90 * MB
    assert peaks.take()["resident"] <= before + 30 * MB
    peaks.close()


def test_resident_peak_where_linux_is_not(monkeypatch):
    monkeypatch.setattr(ResidentPeaks, "_STATUS", Path("/nowhere/status"))
    peaks = ResidentPeaks()
    assert peaks.now() >= 50 * MB and peaks.take()["resident"] >= 50 * MB
    peaks.close()


# --- what is measured


def test_looped_frames(video):
    source = LoopedFrames(open_video(video), 45, fps=2.0)
    frames = list(source)
    assert len(source) == len(frames) == 45 and source.info.duration == 22.5
    assert [frame.index for frame in frames] == list(range(45))
    assert frames[44].time == 22.0
    plain = list(open_video(video))
    for index in (0, 19, 20, 44):
        assert np.array_equal(frames[index].image, plain[index % 20].image)


def test_looped_frames_of_a_source_that_gives_none(video):
    source = open_video(video)

    class Broken(type(source)):
        def __iter__(self):
            return iter(())

    source.__class__ = Broken
    with pytest.raises(VideoError, match="no frame"):
        list(LoopedFrames(source, 3, fps=1.0))


def test_drawn_video(tmp_path, monkeypatch):
    monkeypatch.setattr(looped, "MOST_DRAWN", 70)
    for wanted, got in ((3, 3), (1000, 70)):
        looped.drawn_video(tmp_path / "drawn.mp4", wanted)
        frames = list(open_video(tmp_path / "drawn.mp4"))
        assert len(frames) == got and frames[0].image.shape == (384, 384, 3)
    assert np.abs(frames[66].image.astype(int) - frames[2].image).mean() < 5


def test_random_weights():
    config = ViLAMPConfig.from_folder(find_folder("default"))
    made = random_model(config, torch.bfloat16, "cpu")
    kinds = {p.dtype for p in made.parameters() if p.ndim}
    assert kinds == {torch.bfloat16} and made.composer_projector.tau.dtype == torch.float32
    layer = made.language_model.model.layers[0]
    assert bool((layer.input_layernorm.weight == 1).all())
    weight = layer.mlp.down_proj.weight.float()
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert abs(weight.mean().item()) < 0.002
    tied = made.language_model.lm_head.weight is made.language_model.model.embed_tokens.weight
    assert tied == config.text_config.tie_word_embeddings
    # No token ends an answer, however long.
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    assert made.session(frames).ask(QUESTION, max_new_tokens=9).new_tokens == 9


def test_a_block_of_random_numbers_is_repeated(monkeypatch):
    monkeypatch.setattr("vilamp.profile.random_weights.BLOCK", 1000)
    made = random_model(
        ViLAMPConfig.from_folder(find_folder("default")), torch.float32, device="cpu"
    )
    flat = made.projector[2].weight.flatten()
    assert len(flat) > 2000 and torch.equal(flat[:1000], flat[1000:2000])
    end = len(flat) // 1000 * 1000
    assert torch.equal(flat[end:], flat[: len(flat) - end])


def test_measured_in_this_process_and_simulated(video):
    """Torch's allocations of the whole and of each phase, weights not among what is compared."""
    request = Request(device="cpu", allocations=True, new_tokens=8)
    steps = []
    # Twice: what is only allocated the first time is no part of the model.
    measure(request, video, 20)
    found = measure(request, video, 120, lambda *step: steps.append(step))
    assert {"load", "embed", "merge", "answer"} <= {phase for phase, _, _ in steps}
    assert found.frames == 120 and found.hardware and found.tokens > 120
    assert whole(found.seconds) == pytest.approx(found.wall, rel=1e-9)
    assert all(found.seconds[phase] > 0 for phase in ALL_PHASES)
    beside = simulated(request, found)
    assert beside.weights == found.weights

    def work(peak: int) -> int:
        return peak - found.weights

    assert work(beside.peak) == pytest.approx(work(found.peak("allocated")), rel=0.1)
    by_phase = found.peaks["allocated"]
    assert work(beside.peaks["embed"]) == pytest.approx(work(by_phase["clip"]), rel=0.1)
    merging = max(by_phase[phase] for phase in ("siglip", "project", "merge"))
    assert work(beside.peaks["merge"]) == pytest.approx(work(merging), rel=0.1)
    assert work(beside.peaks["prefill"]) == pytest.approx(work(by_phase["prefill"]), rel=0.1)
    assert found.peak("resident") > found.peak("allocated")


# --- a process of its own


def ends_by(monkeypatch, code: str) -> None:
    """The process runs this instead."""
    monkeypatch.setattr(fresh, "_CHILD", code)


def test_a_killed_process_is_one_line(monkeypatch, video):
    ends_by(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(InputError, match=r"^7 frames: .* SIGKILL; .* memory runs out$"):
        fresh.measure_fresh(Request(), video, 7)


def test_a_defect_shows_what_the_process_said(monkeypatch, video):
    ends_by(monkeypatch, "1 / 0")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        fresh.measure_fresh(Request(), video, 7)


def test_errors_keep_their_kind(monkeypatch, video):
    ends_by(monkeypatch, """print('["error", ["VideoError", "no picture"]]')""")
    with pytest.raises(VideoError, match=r"^no picture$"):
        fresh.measure_fresh(Request(), video, 7)


# --- rows


def a_row(frames: int = 5, **asked) -> MeasuredRow:
    measured = Measurement(
        frames=frames,
        hardware='A "card", 2 threads',
        device="cuda:0",
        dtype="bfloat16",
        tokens=99,
        keyframes=4,
        new_tokens=3,
        weights=1 << 30,
        before=1 << 28,
        load=1.5,
        wall=2.25,
        seconds={phase: 0.125 * number for number, phase in enumerate(ALL_PHASES)},
        peaks={"resident": {"clip": 1 << 30}, "allocated": {"clip": 77, "other": 1 << 31}},
    )
    return MeasuredRow(Request(**asked), measured, simulated=1 << 31)


def test_a_row_comes_back(tmp_path):
    path = tmp_path / "out.csv"
    rows = [a_row(5), a_row(5, dtype="float32", keyframes=3, video='a "b", c.mp4'), a_row(8)]
    for row in rows:
        Sheet(path).add(row)
    again = Sheet(path)
    for row in rows:
        assert again.find(row.request, row.measured.frames) == row
    assert again.find(rows[0].request, 6) is None
    assert again.find(replace(rows[0].request, batch=8), 5) is None
    assert rows[0].measured.peak("allocated") == 1 << 31
    assert rows[0].measured.peak("reserved") is None


@pytest.mark.parametrize("torn", ["1", "default,,dr", 'default,"7b'])
def test_a_torn_line_goes(tmp_path, torn):
    path = tmp_path / "out.csv"
    Sheet(path).add(a_row(5))
    good = path.read_text()
    path.write_text(good + torn)
    sheet = Sheet(path)
    assert path.read_text() == good
    sheet.add(a_row(8))
    assert Sheet(path).find(a_row().request, 8) == a_row(8)
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "notes", "\xff"])
def test_another_file_stays_as_it_is(tmp_path, content):
    path = tmp_path / "out.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="--csv"):
        Sheet(path)
    assert path.read_bytes() == content.encode("latin-1")


def test_a_line_that_was_edited_is_refused(tmp_path):
    path = tmp_path / "out.csv"
    Sheet(path).add(a_row(5))
    path.write_text(path.read_text().replace("2.25", "fast"))
    with pytest.raises(InputError, match="not a line of ours"):
        Sheet(path).find(a_row().request, 5)


def test_pictures():
    pytest.importorskip("matplotlib")
    drawn = measured_plot.pictures([a_row(5), a_row(8)])
    assert set(drawn) == set(measured_plot.PICTURES)
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())
    assert set(measured_plot.LABELS) == set(ALL_PHASES)


# --- the command


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def children_known() -> bool:
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


def test_command_end_to_end_and_again(tmp_path, video, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    sheet = tmp_path / "out.csv"
    options = ["profile", "--measure", "--device", "cpu", "--video", str(video), "--csv"]
    options += [str(sheet), "--frames"]
    assert run([*options, "30", "--plot", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "SigLIP" in out and "simulated" in out and err.count("written:") == 3
    with sheet.open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert list(line) == columns()
    assert (line["kind"], line["frames"], line["device"]) == ("measured", "30", "cpu")
    assert line["allocated_peak_bytes"] == line["reserved_peak_bytes"] == ""
    assert int(line["resident_before_bytes"]) < int(line["resident_peak_bytes"])
    spent = sum(float(line[f"{phase}_s"]) for phase in CALLER_PHASES)
    assert spent == pytest.approx(float(line["wall_s"]))

    # Known lengths are not run again, and a new one is run by itself.
    ran = []

    def remembered(request, path, frames, progress, *, debug):
        ran.append(frames)
        return replace(a_row(frames).measured, device="cpu")

    monkeypatch.setattr(fresh, "measure_fresh", remembered)
    assert run([*options, "30,6", "--json"]) == 0
    out, err = capsys.readouterr()
    assert ran == [6]
    printed = json.loads(out)
    assert [row["frames"] for row in printed["rows"]] == [6, 30]
    assert printed["rows"][1]["wall_s"] == float(line["wall_s"])
    assert printed["settings"]["video"] == str(video)
    assert printed["written"] == [str(sheet)]
    assert run([*options, "30,6", "--batch", "4"]) == 0
    assert ran == [6, 6, 30]


@pytest.mark.slow
@pytest.mark.skipif(not children_known(), reason="needs Linux's /proc")
def test_killed_and_started_again(tmp_path, video, capsys, monkeypatch):
    sheet = tmp_path / "out.csv"
    options = ["profile", "--measure", "--device", "cpu", "--csv", str(sheet), "--frames"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vilamp", *options, "2,900000"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: sheet.exists() and sheet.read_text().count("\n") == 2, process)
        wait_until(lambda: children(process.pid), process)
        (child,) = children(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    # Nobody hears the child any more: it ends.
    wait_until(lambda: not Path(f"/proc/{child}/cmdline").exists())

    ran = []

    def remembered(request, path, frames, progress, *, debug):
        ran.append(frames)
        return replace(a_row(frames).measured, device="cpu")

    monkeypatch.setattr(fresh, "measure_fresh", remembered)
    assert run([*options, "2,5"]) == 0
    assert ran == [5]
    assert "1 of 2 lengths were in" in capsys.readouterr().err


def wait_until(ready, process=None) -> None:
    end = time.monotonic() + 300
    while not ready():
        assert time.monotonic() < end, "nothing happened for five minutes"
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.05)


@pytest.mark.parametrize(
    "options,says",
    [
        (["--measure", "--compare"], "--compare is simulated only"),
        (["--measure", "--release-towers"], "--release-towers is simulated only"),
        (["--video", "a.mp4"], "--video belongs to --measure"),
        (["--allocations"], "--allocations belongs to --measure"),
        (["--random-weights", "7b"], "--random-weights belongs to --measure"),
        (["--measure", "--video", "none.mp4"], "none.mp4"),
        (["--measure", "--video", " "], "--video is empty"),
        (["--measure", "--dtype", "int8"], "--dtype: wanted fp32"),
        (["--measure", "--random-weights", "8b"], "'8b'"),
        (["--measure", "--random-weights", "7b", "--model", "default"], "got both"),
        (["--measure", "--frames", "0"], "--frames: wanted"),
        (["--measure", "--max-new-tokens", "0"], "--max-new-tokens"),
        (["--measure", "--csv", "none/out.csv"], "no such folder"),
    ],
)
def test_refusals_are_one_line_before_any_work(options, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fresh, "measure_fresh", lambda *_, **__: pytest.fail("worked first"))
    assert run(["profile", *options]) == 2
    out, err = capsys.readouterr()
    assert says in err and err.count("\n") == 1 and out == ""


def test_an_error_of_the_process_is_one_line(monkeypatch, capsys):
    ends_by(monkeypatch, """print('["error", ["CheckpointError", "no such model"]]')""")
    assert run(["profile", "--measure", "--model", "/nowhere", "--frames", "3"]) == 2
    assert capsys.readouterr().err == "vilamp: no such model\n"
