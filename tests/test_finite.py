"""Numbers that are not finite inside the model are an error that says where, never an answer."""

import math

import numpy as np
import pytest
import torch
from damaged_models import BAD, OK, VOLCANO, raised, spoilt
from vilamp import InputError, ViLAMP
from vilamp.cache import Cache
from vilamp.errors import NotFiniteError
from vilamp.finite import LARGEST, FiniteCheck, all_finite
from vilamp.method import Method

# Where it begins, and a parameter that is raised to the end of fp16 for it.
OVERFLOWS = {
    "CLIP scores (embeddings of the frames)": "frame_selector.visual_projection.weight",
    "CLIP scores (embedding of the question)": "frame_selector.text_model.final_layer_norm.weight",
    "patches (SigLIP and the projector)": "projector.0.weight",
    "merged tokens": "projector.2.weight",
    "logits": "language_model.model.norm.weight",
}


@pytest.fixture(scope="module")
def models():
    return {
        dtype: ViLAMP.from_pretrained(dtype=dtype, device="cpu")
        for dtype in (torch.float16, torch.bfloat16, torch.float32)
    }


@pytest.fixture(scope="module")
def frames():
    noise = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)
    return noise.repeat(8, 1).repeat(8, 2)


@pytest.mark.parametrize("stage", OVERFLOWS)
def test_overflow_of_fp16(models, frames, stage):
    with raised(models[torch.float16], OVERFLOWS[stage]), pytest.raises(NotFiniteError) as error:
        models[torch.float16].session(frames, keyframes=1).ask(OK)
    message = str(error.value)
    assert message.startswith(f"no answer: the {stage} are not finite in float16")
    assert message.endswith("try --dtype bf16") and "\n" not in message
    # What is advised helps.
    with raised(models[torch.bfloat16], OVERFLOWS[stage]):
        session = models[torch.bfloat16].session(frames, keyframes=1)
        assert session.ask(OK, max_new_tokens=1).new_tokens


def test_overflow_of_the_keyframes(models, frames):
    """Where nothing is merged, the grids of the keyframes are what overflows."""
    model = models[torch.float16]
    with raised(model, "projector.2.weight"), pytest.raises(NotFiniteError, match="keyframes are"):
        model.session(frames, method=Method(merging="none")).ask(OK)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("embeddings of the frames", "frame_selector.visual_projection.weight"),
        ("patches", "projector.0.bias"),
        ("tokens of the prompt", "image_newline"),
        ("logits", "language_model.model.layers.0.mlp.down_proj.weight"),
    ],
)
def test_numbers_of_the_model_itself(models, frames, stage, name, value):
    """No other dtype helps: none is advised."""
    model = models[torch.float32]
    with spoilt(model, name, value), pytest.raises(NotFiniteError, match=stage) as error:
        model.session(frames).ask(OK, max_new_tokens=2)
    assert "--dtype" not in str(error.value) and "use another copy" in str(error.value)


def test_logits_that_are_drawn_from(models):
    """The draw itself would fail with a traceback."""
    model = models[torch.float32]
    prompt = torch.zeros(1, 3, model.config.text_config.hidden_size)
    with spoilt(model, "language_model.lm_head.weight"), pytest.raises(NotFiniteError):
        model.decode(prompt, 2, do_sample=True, temperature=0.7)


def test_a_token_too_large_to_be_squared(models):
    """RMSNorm makes zeros of it, so the logits are finite."""
    model = models[torch.float32]
    prompt = torch.zeros(1, 3, model.config.text_config.hidden_size)
    prompt[0, 1] = 1e20
    with pytest.raises(NotFiniteError, match="tokens of the prompt are not finite in float32"):
        model.decode(prompt, 1)


def test_frames_in_memory(models, frames):
    model = models[torch.float16]
    prompt = model.tokenize(OK)
    with raised(model, OVERFLOWS["logits"]), pytest.raises(NotFiniteError, match="the logits are"):
        model.generate(
            frames=frames, clip_input_ids=prompt.clip_input_ids, input_ids=prompt.input_ids
        )


def test_one_question_of_several(models, frames):
    """Those before it are answered, and it is named."""
    model = models[torch.float32]
    table = "language_model.model.embed_tokens.weight"
    row = model.get_parameter(table)[VOLCANO].clone()
    found = model.session(frames).answers([OK, BAD, OK], max_new_tokens=1)
    with torch.no_grad():
        model.get_parameter(table)[VOLCANO] = torch.nan
    try:
        assert next(found).question == OK
        with pytest.raises(NotFiniteError, match="tokens of the prompt") as error:
            next(found)
        assert error.value.question == 1
    finally:
        with torch.no_grad():
            model.get_parameter(table)[VOLCANO] = row


def test_what_all_questions_share_names_none(models, frames):
    model = models[torch.float16]
    with raised(model, "projector.0.weight"), pytest.raises(NotFiniteError) as error:
        list(model.session(frames).answers([OK, BAD]))
    assert error.value.question is None


@pytest.mark.parametrize("call", ["select", "visual", "ask"])
def test_every_way_to_ask(models, frames, call):
    model = models[torch.float16]
    with (
        raised(model, "frame_selector.visual_projection.weight"),
        pytest.raises(NotFiniteError, match="embeddings of the frames"),
    ):
        getattr(model.session(frames), call)(OK)


def test_nothing_of_it_is_kept(models, frames, tmp_path):
    model, cache = models[torch.float16], Cache(tmp_path)
    with raised(model, "frame_selector.visual_projection.weight"):
        for _ in range(2):
            with pytest.raises(NotFiniteError, match="embeddings of the frames"):
                model.session(frames, cache=cache).select(OK)
    assert not [entry for entry in cache.entries() if entry.kind == "embeddings"]


def test_scores_are_those_of_finite_embeddings(models, frames):
    """A session whose model is mended goes on."""
    model = models[torch.float16]
    session = model.session(frames)
    with raised(model, "frame_selector.visual_projection.weight"), pytest.raises(NotFiniteError):
        session.select(OK)
    assert session.select(OK) == model.session(frames).select(OK)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_all_finite(dtype):
    values = torch.linspace(-3, 3, 12, dtype=dtype).view(3, 4)
    assert all_finite(values) and all_finite(values[:0]) and all_finite(values.T, 4.0)
    assert not all_finite(values, 3.0)
    for value in (math.nan, math.inf, -math.inf):
        spoilt = values.clone()
        spoilt[1, 2] = value
        assert not all_finite(spoilt) and not all_finite(spoilt, LARGEST)


def test_a_check_names_the_question():
    check = FiniteCheck(torch.float32)
    check.see("first", torch.ones(3, 2))
    with pytest.raises(NotFiniteError, match="the second are") as error:
        check.see("second", torch.tensor([[1.0], [math.nan], [1.0]]))
    assert error.value.question == 1
    with pytest.raises(NotFiniteError, match="the third are") as error:
        check.see("third", torch.full((2, 2), LARGEST))
    assert error.value.question is None
    check.require()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_check_on_a_gpu_looks_once():
    check = FiniteCheck(torch.float32)
    for values in ([1.0, 1.0], [1.0, math.inf], [math.nan, 1.0]):
        check.see("tokens", torch.tensor(values, device="cuda")[:, None])
    check.see("later", torch.full((2, 1), math.nan, device="cuda"))
    with pytest.raises(NotFiniteError, match="the tokens are") as error:
        check.require()
    assert error.value.question is None


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"alpha": 1e-45}, "alpha: wanted a number from"),
        ({"alpha": 1e-38}, "alpha: wanted a number from"),
        ({"alpha": 1e300}, "alpha: wanted a number from"),
        ({"alpha": -1.0}, "alpha: wanted a number from"),
        ({"alpha": math.nan}, "alpha: wanted a number from"),
        ({"lam": 1e300}, "lam: wanted a finite number"),
        ({"lam": -math.inf}, "lam: wanted a finite number"),
        ({"lam": math.nan}, "lam: wanted a finite number"),
        ({"alpha": 1e-10, "lam": 1e30}, "alpha 1e-10 with lam 1e.30: the weights of patches"),
    ],
)
def test_numbers_with_which_weights_of_patches_overflow(numbers, message):
    with pytest.raises(InputError, match=message):
        Method(**numbers)


def test_numbers_at_the_end_of_their_range(models, frames):
    model = models[torch.float32]
    for numbers in ({"alpha": 1.2e-38}, {"alpha": 3.4e38, "lam": -3.4e38}, {"lam": 1e36}):
        session = model.session(frames[:2], method=Method(**numbers, keyframes=1))
        assert session.visual(OK)[1].isfinite().all()
    with pytest.raises(InputError, match=r"the model's alpha .* with lam 1e.38: the weights"):
        model.session(frames, method=Method(lam=1e38))
    with spoilt(model, "composer_projector.tau", 1e-40), pytest.raises(InputError, match="alpha"):
        model.session(frames)
