"""What a caller in Python passes where a number or a text is wanted: an answer, or one line."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from vilamp import ViLAMP
from vilamp.errors import InputError
from vilamp.method import Method
from vilamp.video import open_video

NAN, INF = float("nan"), float("inf")
NO_NUMBERS = [
    *(True, "x", "", "1", b"1", NAN, INF, -INF, 1e300, 10**400, -(10**400), 10**5000, [], [1], {}),
    *(1j, object(), np.array([1, 2]), torch.tensor([1, 2]), torch.tensor(NAN), Decimal("NaN")),
]
# More keyframes or frames than a video has are all of them, however many.
NO_COUNT = [*(n for n in NO_NUMBERS if not (type(n) is int and n > 1)), -1, 0, 1.5, Fraction(3, 2)]
NO_WHOLE = [*NO_NUMBERS, -1, 1.5, np.float32(2), Fraction(3, 2)]
FRAMES = np.zeros((3, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    return ViLAMP.from_pretrained("default", device="cpu")


def refused(call, name, values):
    for value in values:
        with pytest.raises(InputError) as caught:
            call(value)
        message = str(caught.value)
        assert name in message and "\n" not in message and len(message) < 300


@pytest.mark.parametrize("name", ["tau", "alpha", "lam", "keyframes", "selector", "merging"])
def test_method(name):
    values = NO_COUNT if name == "keyframes" else NO_NUMBERS
    refused(lambda value: Method(**{name: value}), name, values)


def test_a_method_holds_numbers_of_python():
    method = Method(keyframes=np.int64(3), tau=np.float32(0.5), alpha=Fraction(1, 2), lam=2)
    assert method == Method(keyframes=3, tau=0.5, alpha=0.5, lam=2.0)
    assert [type(n) for n in (method.keyframes, method.tau, method.alpha)] == [int, float, float]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("fps", [*NO_NUMBERS, None, 0, -1, 1e-300, 1e7]),
        ("sampling", [*NO_NUMBERS, None]),
        ("max_frames", NO_COUNT),
        ("stream", NO_WHOLE),
    ],
)
def test_open_video(name, values):
    refused(lambda value: open_video(FRAMES, **{name: value}), name, values)


@pytest.mark.parametrize("fps", [1e-9, np.float32(0.5), Fraction(1, 3), 1e6])
def test_frames_a_second(fps):
    video = open_video(FRAMES, fps=fps)
    assert [frame.time for frame in video] == pytest.approx([k / float(fps) for k in range(3)])


@pytest.mark.parametrize("name", ["keyframes", "batch", "budget", "spool", "method", "cache"])
def test_session(model, name):
    values = NO_COUNT if name == "keyframes" else NO_WHOLE
    refused(lambda value: model.session(FRAMES, **{name: value}), name, values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_new_tokens", [*NO_WHOLE, None, 2**40]),
        ("temperature", [*NO_NUMBERS, None, 0, -1]),
        ("seed", [*NO_WHOLE, None, 2**63]),
        ("queries", [[], ["a", "b"], [1], [""]]),
    ],
)
def test_options_of_a_question(model, name, values):
    refused(
        lambda value: model.session(FRAMES).ask("What?", do_sample=True, **{name: value}),
        "quer" if name == "queries" else name,
        values,
    )


def test_a_question_is_a_text(model):
    with model.session(FRAMES) as session:
        refused(session.ask, "question", [*NO_NUMBERS[2:3], 5, None, b"What?", ["What?"]])
        refused(lambda value: list(session.answers(value)), "questions", ["What?"])
        refused(session.select, "query", [5, None, ""])


def test_numbers_of_numpy_are_numbers(model):
    with model.session(FRAMES, keyframes=np.int64(2), batch=np.int32(2)) as session:
        options = {"max_new_tokens": np.int64(2), "temperature": Fraction(1, 2), "do_sample": True}
        assert session.ask("What?", seed=np.int64(5), **options).new_tokens <= 2


@pytest.mark.parametrize(
    "dtype",
    ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn_x2", torch.float8_e4m3fn, "int8", "nn", 5, ""],
)
def test_a_dtype_without_arithmetic(dtype):
    refused(lambda value: ViLAMP.from_pretrained("default", dtype=value), "dtype", [dtype])


def test_no_device():
    values = [True, NAN, 1.5, [], {}, 10**400, torch.tensor([1, 2]), "nothing", object()]
    refused(lambda value: ViLAMP.from_pretrained("default", device=value), "device", values)


def test_no_folder():
    for value in (5, None, NAN, ["a"], b"a"):
        with pytest.raises(ValueError, match="name of the model"):
            ViLAMP.from_pretrained(value)
