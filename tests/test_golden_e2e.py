"""The whole model against runs of the published implementation."""

from __future__ import annotations

import pytest
import torch
from golden_e2e import RUNS, golden_model_folder, read_run
from vilamp.model import Selection, ViLAMP

pytestmark = pytest.mark.golden

EMBEDS, LOGITS = 2e-5, 1e-4


@pytest.fixture(scope="module")
def model(golden_file):
    return ViLAMP.from_pretrained(golden_model_folder(golden_file), device="cpu")


@pytest.fixture(scope="module", params=RUNS)
def run(request, golden_file):
    return read_run(golden_file, request.param)


@pytest.fixture(scope="module", params=["pixels", "frames"])
def inputs(request, run):
    if request.param == "frames":
        return {"frames": run.frames, **run.prompt}
    return {"pixel_values": run.pixels, "clip_pixel_values": run.clip_pixels, **run.prompt}


def largest(a, b):
    assert a.shape == b.shape
    return (a - b).abs().max().item()


def test_embed(model, run, inputs):
    before = {name: value.clone() for name, value in inputs.items() if torch.is_tensor(value)}
    result = model.embed(**inputs)
    recorded = run.tensors
    assert torch.equal(result.keyframes, run.keyframes)
    assert result.keyframes.dtype == torch.int64
    by_score = recorded["mask_before_fill"].bool()[run.keyframes]
    assert torch.equal(result.selection.from_score[0], by_score)
    assert largest(result.selection.scores[0], recorded["f2t_scores"]) <= 2e-6
    assert largest(result.merged_tokens, recorded["merged_tokens"]) <= EMBEDS
    assert largest(result.inputs_embeds, recorded["inputs_embeds"]) <= EMBEDS
    for name, value in before.items():
        assert torch.equal(inputs[name], value), f"{name} was modified"


def test_generate(model, run, inputs):
    answer = model.generate(**inputs, max_new_tokens=8, return_logits=True)
    assert torch.equal(answer.ids, run.tensors["generated_ids"])
    assert largest(answer.logits, run.tensors["generation_logits"]) <= LOGITS
    assert largest(answer.logits[0], run.tensors["logits_last"]) <= LOGITS
    assert torch.equal(model.generate(**inputs, max_new_tokens=8), run.tensors["generated_ids"])


def test_clip_embeddings(model, run):
    recorded = run.tensors
    assert largest(model.embed_frames(run.frames), recorded["clip_image_embeds"]) <= EMBEDS
    question = model.embed_question(
        recorded["clip_text_input_ids"], recorded["clip_text_attention_mask"]
    )
    assert largest(question, recorded["clip_text_embeds"]) <= EMBEDS


def test_keyframe_tokens(model, run):
    patches = model.patches(run.frames[run.keyframes.numpy()])
    recorded = run.tensors["inputs_embeds"][0]
    place = int((run.tensors["input_ids"][0] == -200).nonzero())
    # A keyframe's 196 rows come after those of the frames before it.
    starts = [place + frame + 195 * row for row, frame in enumerate(run.keyframes.tolist())]
    for tokens, start in zip(model.keyframe_tokens(patches), starts, strict=True):
        assert largest(tokens, recorded[start : start + 196]) <= EMBEDS


def test_true_keyframe_as_reference(golden_file, run):
    """The recorded tokens with the real preceding keyframe are those of the paper's rule, from the
    first keyframe on; before it the recording compares a frame with itself."""
    with pytest.warns(UserWarning, match="overrides 'released'"):
        paper = ViLAMP.from_pretrained(golden_model_folder(golden_file), "paper", device="cpu")
    question = run.tensors["clip_text_embeds"]
    everything = Selection([run.keyframes], run.tensors["f2t_scores"][None], [])
    merger = paper.merger(question, everything)
    tokens = merger.push(paper.patches(run.pixels), 0)[0]
    first = int(run.keyframes[0])
    recorded = run.tensors["merged_tokens_alt_true_keyframe"]
    assert largest(tokens[first:], recorded[first:]) <= EMBEDS
