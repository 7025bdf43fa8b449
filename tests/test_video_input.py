"""What a processor of another model is given: its times, each frame alone, nothing shared."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vilamp import InputError
from vilamp.evaluation import transformers_model
from vilamp.evaluation.models import Question
from vilamp.evaluation.transformers_model import TransformersVideoModel
from vilamp.evaluation.video_input import video_arguments
from vilamp.video import open_video

TIMES = [0.5, 34.5, 88.25, 176.0, 179.125]


class Processor:
    """Keeps what it is given, and extends the metadata in place as Qwen's do."""

    def __init__(self, **video_processor):
        self.video_processor = SimpleNamespace(**video_processor)
        self.calls = []

    def apply_chat_template(self, turns, **_):
        return "".join(f"<{part['type']}>" for part in turns[0]["content"])

    def __call__(self, **given):
        self.calls.append(given | {"numbers": list(given["video_metadata"].frames_indices)})
        given["video_metadata"].frames_indices.append(-1)
        return {
            "input_ids": torch.zeros(1, 3, dtype=torch.int64),
            "pixel_values_videos": torch.zeros(4, 6),
            "second_per_grid_ts": torch.tensor([0.0833]),
            "video_metadata": [given["video_metadata"]],
        }

    def batch_decode(self, ids, **_):
        return [" said "]


class Model:
    dtype, device = torch.bfloat16, torch.device("cpu")

    def __init__(self):
        self.given = []

    def generate(self, max_new_tokens, do_sample, **inputs):
        self.given.append(inputs)
        return inputs["input_ids"]


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """A function of a processor and the number of frames, to a model that reads with it."""

    def load(processor, frames=8):
        monkeypatch.setattr(transformers_model, "_load", lambda *_: (Model(), processor))
        return TransformersVideoModel(tmp_path, frames, device="cpu")

    return load


def uneven(times):
    """A video with a frame at each of the times."""
    pictures = np.arange(len(times), dtype=np.uint8)[:, None, None, None]
    source = open_video(np.broadcast_to(pictures, (len(times), 6, 8, 3)).copy())

    class Uneven(type(source)):
        def __iter__(self):
            for frame in super().__iter__():
                yield replace(frame, time=times[frame.index])

    source.__class__ = Uneven
    source.info = replace(source.info, duration=200.0)
    return source


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_each_frame_fills_its_patch_and_has_its_time(loaded, copies):
    processor = Processor(temporal_patch_size=copies)
    model = loaded(processor)
    questions = [Question("what"), Question("where")]
    replies = list(model.answers(uneven(TIMES), questions))
    # Frames are counted once, however often they are given.
    assert [reply.frames for reply in replies] == [[0, 1, 2, 3, 4]] * 2
    for call in processor.calls:
        metadata = call["video_metadata"]
        given = [number / metadata.fps for number in call["numbers"]]
        assert given == [time for time in TIMES for _ in range(copies)]
        assert call["videos"][0][:, 0, 0, 0].tolist() == [
            n for n in range(5) for _ in range(copies)
        ]
        assert call["do_sample_frames"] is False
        assert metadata.duration == 200.0 and (metadata.width, metadata.height) == (8, 6)
    one, other = (call["video_metadata"] for call in processor.calls)
    assert one is not other and one.frames_indices is not other.frames_indices


def test_times_are_whole_milliseconds():
    pictures = np.zeros((3, 6, 8, 3), np.uint8)
    times = [2.9999999996, 1001 / 30, 3 * 3600 + 0.04]
    found = video_arguments(Processor(), pictures, times)["video_metadata"]
    assert found.frames_indices == [3000, 33367, 10800040]
    assert all(type(number) is int for number in found.frames_indices)
    assert found.timestamps == pytest.approx(times, abs=0.0005)
    assert found.total_num_frames > 10800040 and found.duration == times[-1]


def test_a_frame_alone_at_the_start():
    pictures = np.zeros((1, 6, 8, 3), np.uint8)
    processor = Processor(temporal_patch_size=2)
    found = video_arguments(processor, pictures, [0.0])["video_metadata"]
    assert found.frames_indices == [0, 0] and found.total_num_frames >= 1


def test_patches_of_a_processor_that_names_them_otherwise():
    processor = Processor()
    processor.video_temporal_patch_dim = 2
    pictures = np.zeros((3, 6, 8, 3), np.uint8)
    assert len(video_arguments(processor, pictures, [1.0, 2.0, 3.0])["videos"][0]) == 6


def test_pictures_are_not_shared_with_the_processor():
    """Ernie draws into them."""
    pictures = np.zeros((3, 6, 8, 3), np.uint8)
    given = video_arguments(Processor(), pictures, [1.0, 2.0, 3.0])["videos"][0]
    assert not np.shares_memory(given, pictures)


def test_a_step_is_the_mean_and_keeps_its_digits(loaded):
    """In bf16 the mean step would be 44.75, and every position after it wrong."""
    model = loaded(Processor())
    list(model.answers(uneven(TIMES), [Question("what")]))
    (given,) = model.model.given
    step = given["second_per_grid_ts"]
    assert step.dtype == torch.float32
    assert step.item() == pytest.approx((TIMES[-1] - TIMES[0]) / 4, abs=1e-5)
    assert given["pixel_values_videos"].dtype == torch.bfloat16
    assert given["input_ids"].dtype == torch.int64
    # No model takes it.
    assert "video_metadata" not in given


def test_answers_to_frames_without_times_are_not_gone_on_with(loaded, monkeypatch):
    monkeypatch.setattr(transformers_model, "weights_fingerprint", lambda model: "0")
    assert loaded(Processor()).settings()["input"] == "timed frames"


def test_a_processor_that_takes_no_times_is_one_line(loaded):
    class Older(Processor):
        def __call__(self, text, videos, return_tensors):
            raise AssertionError

    model = loaded(Older())
    with pytest.raises(InputError, match=r"Older of transformers .*; a newer transformers may$"):
        list(model.answers(uneven(TIMES), [Question("what")]))
