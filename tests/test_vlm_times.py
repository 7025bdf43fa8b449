"""The times that processors of `transformers` write, read back from their prompts."""

import inspect
import re
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from video_processors import STEPPED, TIMED, UNTIMED, levels
from vilamp.evaluation import transformers_model
from vilamp.evaluation.transformers_model import TransformersVideoModel

pytestmark = [
    pytest.mark.vlm,
    pytest.mark.skipif(find_spec("torchvision") is None, reason="needs torchvision"),
    # Of NumPy, about lines of transformers.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

TIMES = [0.5, 34.5, 88.25, 176.0, 3725.123]
DURATION = 4000.0
WITH_MARKS = sorted(name for name, family in TIMED.items() if family.mark)


@pytest.fixture(scope="module")
def built():
    """A function of a family to its processor; a test of one that is not there is skipped."""
    kept = {}

    def build(family):
        if not hasattr(transformers, family.processor):
            pytest.skip(f"{family.processor} is not in transformers {transformers.__version__}")
        if family.processor not in kept:
            kept[family.processor] = family.build()
        return kept[family.processor]

    return build


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A function of a processor and times, to a bf16 model's arguments for grey frames."""

    def ask(processor, times):
        model = SimpleNamespace(dtype=torch.bfloat16, device=torch.device("cpu"))
        monkeypatch.setattr(transformers_model, "_load", lambda *_: (model, processor))
        pictures = np.stack(
            [np.full((56, 56, 3), 20 + 30 * n, np.uint8) for n in range(len(times))]
        )
        loaded = TransformersVideoModel(tmp_path, device="cpu")
        return loaded.inputs(pictures, "What?", times, DURATION)

    return ask


def assert_alone(found, count):
    """Each frame is there, in order, and holds one picture."""
    greys = levels(found, count)
    assert all(len(grey) == 1 for grey in greys)
    assert greys == sorted(greys) and len({grey[0] for grey in greys}) == count


@pytest.mark.parametrize("count", [5, 4, 1])
@pytest.mark.parametrize("name", WITH_MARKS)
def test_each_frame_alone_with_its_time(name, count, built, asked):
    family, times = TIMED[name], TIMES[:count]
    processor = built(family)
    # Twice: what the processor did to the first call's metadata is not in the second's.
    for _ in range(2):
        found = asked(processor, times)
        stated = family.times(processor, found["input_ids"])
        assert len(stated) == count
        # Half a digit, and what a binary fraction may be off; Kimi cuts its milliseconds.
        off = 0 if not family.rounds else max(0.5 * family.step, 0.001)
        assert stated == pytest.approx(family.wanted(times), abs=off + 1e-6)
    assert_alone(found, count)


def test_the_whole_length_of_the_video(built, asked):
    """SmolVLM's prompt begins with it, and with the number of frames."""
    processor = built(TIMED["smolvlm"])
    text = processor.tokenizer.decode(asked(processor, TIMES)["input_ids"][0])
    assert "five frames" in text and "1:06:40" in text
    processor = built(UNTIMED["hyperclovax_vision_v2"])
    processor.chat_template = (
        "{{ '" + processor.video_duration_token + "' }}" + processor.video_token
    )
    text = processor.tokenizer.decode(asked(processor, TIMES)["input_ids"][0])
    assert text.startswith("4000.0")


def test_times_drawn_into_frames(built, asked):
    processor = built(TIMED["ernie4_5_vl_moe"])
    found = asked(processor, TIMES)
    marks = ["00:00:00.50", "00:00:34.50", "00:01:28.25", "00:02:56.00", "01:02:05.12"]
    assert processor.drawn == [f"time: {mark}" for mark in marks for _ in range(2)]
    assert_alone(found, len(TIMES))


@pytest.mark.parametrize("times", [TIMES, [4.6875, 14.0625, 23.4375, 32.8125], [7.5]])
@pytest.mark.parametrize("name", sorted(STEPPED))
def test_one_step_for_all_frames(name, times, built, asked):
    """Exact for even frames, the mean for others, in fp32 whatever the model's dtype."""
    found = asked(built(STEPPED[name]), times)
    steps = found.get("second_per_grid_ts", found.get("video_second_per_grid"))
    assert steps.dtype == torch.float32 and steps.shape == (1,)
    if len(times) > 1:
        mean = (times[-1] - times[0]) / (len(times) - 1)
        assert steps.item() == pytest.approx(mean, rel=1e-6)
    assert found["video_grid_thw"][0, 0] == len(times)
    assert_alone(found, len(times))


@pytest.mark.parametrize("count", [5, 1])
@pytest.mark.parametrize("name", sorted(UNTIMED))
def test_processors_without_times_lose_no_frame(name, count, built, asked):
    found = asked(built(UNTIMED[name]), TIMES[:count])
    assert_alone(found, count)


def test_no_processor_with_times_is_left_out():
    """Of those that a model loaded for questions about a video can have."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    read = re.compile(r"video_metadata\[|\bmetadata\.\w|video_metadata\.\w|second_per_grid")
    names = {PROCESSOR_MAPPING_NAMES.get(n) for n in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}
    timed = {
        name
        for name in names - {None}
        if read.search(inspect.getsource(getattr(transformers, name)))
    }
    assert "Qwen3VLProcessor" in timed and "Qwen2_5_VLProcessor" in timed
    tried = {family.processor for family in (TIMED | STEPPED | UNTIMED).values()}
    assert timed <= tried
