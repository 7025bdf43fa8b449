"""The whole model against runs of the published implementation."""

from __future__ import annotations

import pytest
import torch
from golden_e2e import RUNS, golden_model_folder, read_run
from model_truth import model_truths, truths_of_parts
from vilamp.model import Selection, ViLAMP

from vilamp_kernels.testing import SPREADS, spend

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def model(golden_file):
    return ViLAMP.from_pretrained(golden_model_folder(golden_file), device="cpu")


@pytest.fixture(scope="module")
def budgets(model, golden_file):
    """How far two sides in fp32 may be apart, by what is compared: of the shortest run. More frames
    add no terms to the sums of a frame."""
    short = read_run(golden_file, "e2e_3_short")
    truths = model_truths(model, {"frames": short.frames, **short.prompt})._asdict()
    frames = short.frames
    (truths["clip"],) = truths_of_parts(model, lambda exact: exact.embed_frames(frames))
    ids, mask = short.prompt["clip_input_ids"], short.prompt["clip_attention_mask"]
    (truths["query"],) = truths_of_parts(model, lambda exact: exact.embed_question(ids, mask))
    return {name: 2 * SPREADS * truth.spread.max().item() for name, truth in truths.items()}


@pytest.fixture(scope="module", params=RUNS)
def run(request, golden_file):
    return read_run(golden_file, request.param)


@pytest.fixture(scope="module", params=["pixels", "frames"])
def inputs(request, run):
    if request.param == "frames":
        return {"frames": run.frames, **run.prompt}
    return {"pixel_values": run.pixels, "clip_pixel_values": run.clip_pixels, **run.prompt}


def compare(a, b, name, budgets):
    assert a.shape == b.shape
    spend(name, (a - b).abs().max().item(), budgets[name])


def test_embed(model, run, inputs, budgets):
    before = {name: value.clone() for name, value in inputs.items() if torch.is_tensor(value)}
    result = model.embed(**inputs)
    recorded = run.tensors
    assert torch.equal(result.keyframes, run.keyframes)
    assert result.keyframes.dtype == torch.int64
    by_score = recorded["mask_before_fill"].bool()[run.keyframes]
    assert torch.equal(result.selection.from_score[0], by_score)
    compare(result.selection.scores[0], recorded["f2t_scores"], "scores", budgets)
    compare(result.merged_tokens, recorded["merged_tokens"], "merged_tokens", budgets)
    compare(result.inputs_embeds, recorded["inputs_embeds"], "inputs_embeds", budgets)
    for name, value in before.items():
        assert torch.equal(inputs[name], value), f"{name} was modified"


def test_generate(model, run, inputs, budgets):
    answer = model.generate(**inputs, max_new_tokens=8, return_logits=True)
    assert torch.equal(answer.ids, run.tensors["generated_ids"])
    compare(answer.logits, run.tensors["generation_logits"], "logits", budgets)
    compare(answer.logits[0], run.tensors["logits_last"], "logits", budgets)
    assert torch.equal(model.generate(**inputs, max_new_tokens=8), run.tensors["generated_ids"])


def test_clip_embeddings(model, run, budgets):
    recorded = run.tensors
    compare(model.embed_frames(run.frames), recorded["clip_image_embeds"], "clip", budgets)
    question = model.embed_question(
        recorded["clip_text_input_ids"], recorded["clip_text_attention_mask"]
    )
    compare(question, recorded["clip_text_embeds"], "query", budgets)


def test_keyframe_tokens(model, run, budgets):
    patches = model.patches(run.frames[run.keyframes.numpy()])
    recorded = run.tensors["inputs_embeds"][0]
    place = int((run.tensors["input_ids"][0] == -200).nonzero())
    # A keyframe's 196 rows come after those of the frames before it.
    starts = [place + frame + 195 * row for row, frame in enumerate(run.keyframes.tolist())]
    for tokens, start in zip(model.keyframe_tokens(patches), starts, strict=True):
        compare(tokens, recorded[start : start + 196], "inputs_embeds", budgets)


def test_true_keyframe_as_reference(golden_file, run, budgets):
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
    compare(tokens[first:], recorded[first:], "merged_tokens", budgets)
