"""Both behaviours of a second model, unlike the recorded one in every size, against the oracle."""

from __future__ import annotations

import pytest
import torch
from model_files import CLIP_IDS, INPUT_IDS, Sizes, drawn_frames, write_checkpoint
from model_oracle import Oracle, preceding, released
from model_truth import model_truths, same_choices
from vilamp.model import ViLAMP
from vilamp.preprocess import clip_pixels, siglip_pixels

from vilamp_kernels.testing import SEED, assert_within_budget


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("second"))


@pytest.fixture(scope="module")
def oracle(folder):
    with torch.no_grad():
        yield Oracle(folder, Sizes())


@pytest.fixture(scope="module")
def paper(folder):
    with pytest.warns(UserWarning, match="compat='paper' overrides 'released'"):
        return ViLAMP.from_pretrained(folder, compat="paper", device="cpu")


@pytest.fixture(scope="module", params=[1, 2, 4, 11])
def case(request, paper, oracle):
    """Frames, and what the oracle makes of them."""
    frames = drawn_frames(request.param)
    config = paper.config
    with torch.no_grad():
        pixels = siglip_pixels(frames, config.vision_config.image_size)
        clip = clip_pixels(
            frames, config.clip_config.vision_config.image_size, config.clip_mean, config.clip_std
        )
        question = oracle.question_embed(CLIP_IDS)
        return frames, oracle.patches(pixels), oracle.frame_embeds(clip), question


def expected(oracle, case, keyframes, reference):
    _, patches, _, question = case
    merged = oracle.merged(patches, question, reference)
    sequence = oracle.sequence(INPUT_IDS, patches, keyframes, merged)
    return merged, sequence, oracle.answer(sequence, 5)


def check(model, case, keyframes, wanted):
    merged, sequence, (ids, logits) = wanted
    inputs = {"frames": case[0], "clip_input_ids": CLIP_IDS, "input_ids": INPUT_IDS}
    result = model.embed(**inputs)
    assert result.keyframes.tolist() == keyframes
    truths = model_truths(model, inputs, len(ids))
    assert_within_budget(result.merged_tokens, truths.merged_tokens._replace(ref=merged))
    assert_within_budget(result.inputs_embeds, truths.inputs_embeds._replace(ref=sequence[None]))
    answer = model.generate(**inputs, max_new_tokens=len(ids), return_logits=True)
    truth = truths.logits._replace(ref=logits)
    same_choices(answer.ids[0], torch.tensor(ids), truth)
    if answer.ids[0].tolist() == ids:
        assert_within_budget(answer.logits, truth)


def test_paper(paper, oracle, case):
    frames, _, embeds, question = case
    keyframes, margin = oracle.keyframes(embeds, question)
    assert margin > 1e-5, "this case does not tell a right answer from a wrong one"
    assert 1 <= len(keyframes) <= Sizes().keyframes
    reference = preceding(keyframes, len(frames))
    check(paper, case, keyframes, expected(oracle, case, keyframes, reference))


def test_released(folder, oracle, case):
    """The same model under the published rules: filled up, and compared with the first frames."""
    frames, _, embeds, question = case
    model = ViLAMP.from_pretrained(folder, device="cpu")
    selection = model.select(embeds.float(), question[None].float())
    keyframes = selection.indices[0].tolist()
    assert len(keyframes) == min(len(frames), Sizes().keyframes)
    reference = released(keyframes, len(frames))
    check(model, case, keyframes, expected(oracle, case, keyframes, reference))


@pytest.mark.skipif(SEED != 0, reason="a property of the usual data")
def test_rules_make_a_difference(paper, folder):
    """The frames do exercise the rules: some are too alike, and the two behaviours disagree."""
    frames = drawn_frames(11).roll(3, 0)
    inputs = {"frames": frames, "clip_input_ids": CLIP_IDS, "input_ids": INPUT_IDS}
    assert 1 < len(paper.embed(**inputs, keyframes=11).keyframes) < 11
    published = ViLAMP.from_pretrained(folder, device="cpu")
    assert len(published.embed(**inputs, keyframes=11).keyframes) == 11
    ours, theirs = (model.embed(**inputs, keyframes=1) for model in (paper, published))
    assert torch.equal(ours.keyframes, theirs.keyframes)
    changed = (ours.merged_tokens - theirs.merged_tokens).abs().amax(1) > 1e-2
    assert changed.all(), "each frame has another reference"


def test_frames_before_the_first_keyframe(paper, oracle):
    """They have no reference: relevance alone weighs their patches."""
    frames = drawn_frames(11).roll(3, 0)
    inputs = {"frames": frames, "clip_input_ids": CLIP_IDS, "input_ids": INPUT_IDS}
    result = paper.embed(**inputs, keyframes=1)
    truth = model_truths(paper, inputs, keyframes=1).merged_tokens
    first = int(result.keyframes[0])
    assert first >= 2
    pixels = siglip_pixels(frames, paper.config.vision_config.image_size)
    with torch.no_grad():
        patches = oracle.patches(pixels[:first])
        wanted = oracle.merged(patches, oracle.question_embed(CLIP_IDS), [None] * first)
    truth = truth._replace(ref=wanted, spread=truth.spread[:first])
    assert_within_budget(result.merged_tokens[:first], truth)
