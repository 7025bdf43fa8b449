"""Building blocks, decoding and bad input of the model."""

from __future__ import annotations

import json

import pytest
import torch
from model_files import (
    CLIP_IDS,
    INPUT_IDS,
    Sizes,
    drawn_frames,
    random_weights,
    write_checkpoint,
    write_configs,
)
from model_truth import (
    in_fp64,
    logits_truth,
    model_truths,
    same_choices,
    truths_of_parts,
)
from safetensors.torch import save_file
from vilamp.checkpoint import published_state
from vilamp.errors import InputError
from vilamp.generate import decode, prefill
from vilamp.kv_cache import fixed_cache
from vilamp.model import ViLAMP
from vilamp.preprocess import clip_pixels, siglip_pixels

from vilamp_kernels.rounding import Truth, truth_of
from vilamp_kernels.testing import assert_within_budget, moved

PROMPT = {"clip_input_ids": CLIP_IDS, "input_ids": INPUT_IDS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model"), vilamp_compat="paper")


@pytest.fixture(scope="module")
def model(folder):
    return ViLAMP.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module")
def released(folder):
    with pytest.warns(UserWarning, match="overrides 'paper'"):
        return ViLAMP.from_pretrained(folder, compat="released", device="cpu")


@pytest.fixture(scope="module")
def frames():
    return drawn_frames(11).roll(3, 0)


def pixels_of(model, frames):
    config = model.config
    clip = config.clip_config.vision_config.image_size
    return (
        siglip_pixels(frames, config.vision_config.image_size),
        clip_pixels(frames, clip, config.clip_mean, config.clip_std),
    )


class TestEmbed:
    @pytest.mark.parametrize("batch", [1, 4, 11, 64])
    def test_any_split_into_batches(self, model, released, frames, batch):
        for either in (model, released):
            whole = either.embed(frames=frames, **PROMPT, batch=11)
            split = either.embed(frames=frames, **PROMPT, batch=batch)
            assert torch.equal(split.keyframes, whole.keyframes)
            truths = model_truths(either, {"frames": frames, **PROMPT})
            truths.assert_holds(whole)
            truths.assert_holds(split)

    def test_pixels_and_frames(self, model, frames):
        from_frames = model.embed(frames=frames, **PROMPT)
        pixels = pixels_of(model, frames)
        copies = [p.clone() for p in pixels]
        from_pixels = model.embed(*pixels, CLIP_IDS, torch.ones_like(CLIP_IDS), INPUT_IDS)
        assert torch.equal(from_pixels.inputs_embeds, from_frames.inputs_embeds)
        assert all(torch.equal(a, b) for a, b in zip(pixels, copies, strict=True))
        listed = model.embed(frames=list(frames.numpy()), **PROMPT)
        assert torch.equal(listed.inputs_embeds, from_frames.inputs_embeds)

    def test_budget(self, model, released, frames):
        assert len(released.embed(frames=frames, **PROMPT, keyframes=5).keyframes) == 5
        assert len(released.embed(frames=frames, **PROMPT, keyframes=50).keyframes) == 11
        assert len(model.embed(frames=frames, **PROMPT, keyframes=1).keyframes) == 1

    def test_min_score_is_for_released_only(self, tmp_path, frames):
        """Nothing passes: the published code fills up, the paper's rule takes the best frame."""
        folder = write_checkpoint(tmp_path, Sizes(min_score=1.0), vilamp_compat="paper")
        paper = ViLAMP.from_pretrained(folder, device="cpu").embed(frames=frames, **PROMPT)
        assert paper.selection.from_score[0].all() and len(paper.keyframes) >= 1
        assert int(paper.selection.scores[0].argmax()) in paper.keyframes.tolist()
        with pytest.warns(UserWarning, match="overrides"):
            either = ViLAMP.from_pretrained(folder, compat="released", device="cpu")
        filled = either.embed(frames=frames, **PROMPT)
        assert not filled.selection.from_score[0].any() and len(filled.keyframes) == 3

    def test_nan(self, model, released, frames):
        """Published: one NaN score makes NaN of the whole video, through a softmax over time."""
        pixels, clip = pixels_of(released, frames)
        clip[4] = torch.nan
        result = released.embed(pixels, clip, **PROMPT)
        assert 4 in result.keyframes.tolist()
        assert result.merged_tokens.isnan().all()
        visual = result.inputs_embeds[0, 3 : -(1 + 3)]
        assert visual.isnan().all()
        assert not result.inputs_embeds[0, :3].isnan().any()
        assert not model.embed(pixels, clip, **PROMPT).merged_tokens.isnan().any()

    def test_cut_from_the_end(self, tmp_path, frames):
        folder = write_checkpoint(tmp_path, tokenizer_model_max_length=30)
        cut = ViLAMP.from_pretrained(folder, device="cpu")
        with pytest.warns(UserWarning, match="63 tokens are cut to the 30"):
            short = cut.embed(frames=frames, **PROMPT).inputs_embeds
        cut.config.tokenizer_model_max_length = None
        whole = cut.embed(frames=frames, **PROMPT).inputs_embeds
        assert whole.shape[1] == 6 + 3 * 16 + 8 + 1
        assert torch.equal(short, whole[:, :30])
        # What transformers writes where there is no limit.
        write_checkpoint(tmp_path, tokenizer_model_max_length=int(1e30))
        unlimited = ViLAMP.from_pretrained(tmp_path, device="cpu")
        assert torch.equal(unlimited.embed(frames=frames, **PROMPT).inputs_embeds, whole)


class TestBuildingBlocks:
    """What the session puts together for a stream is what `embed` puts together."""

    def test_together(self, model, frames):
        with torch.no_grad():
            question = model.embed_question(CLIP_IDS)
            embeds = torch.cat([model.embed_frames(part) for part in frames.split(4)])
            selection = model.select(embeds, question)
            merger = model.merger(question, selection)
            chosen = selection.indices[0].tolist()
            tokens = []
            for start in range(0, 11, 4):
                patches = model.patches(frames[start : start + 4])
                merged = merger.push(patches, start)[0]
                for row in range(len(patches)):
                    keyframe = start + row in chosen
                    full = model.keyframe_tokens(patches[row : row + 1])[0]
                    tokens.append(full if keyframe else merged[row][None])
            assembled = model.assemble(INPUT_IDS, torch.cat(tokens))
        truths = model_truths(model, {"frames": frames, **PROMPT})
        assert_within_budget(assembled, truths.inputs_embeds)

    def test_merge_is_what_the_merger_does(self, model, frames):
        """`merge` with an explicit bank, with gradients, and with the weights of the patches."""
        with torch.no_grad():
            question, patches = model.embed_question(CLIP_IDS), model.patches(frames)
        selection = model.select(model.embed_frames(frames), question)
        references = model.references(selection)
        tokens, weights = model.merge(patches, question, patches, references, return_weights=True)
        streamed = model.merger(question, selection).push(patches, 0)
        truth = model_truths(model, {"frames": frames, **PROMPT}).merged_tokens
        assert_within_budget(tokens[0], truth)
        assert_within_budget(streamed[0], truth)
        assert weights.shape == (1, 11, 49)
        # Each of the weights and of their sums is rounded.
        assert (weights.sum(-1) - 1).abs().max() <= 49 * torch.finfo(torch.float32).eps
        projected = model.projector[2](patches)
        assert_within_budget((weights[0].unsqueeze(-1) * projected).sum(1), truth)

    def test_several_questions(self, model, released, frames):
        """Each question selects and merges as if it were alone."""
        ids = torch.cat([CLIP_IDS, torch.tensor([[0, 44, 12, 7, 61]])])
        for either in (model, released):
            with torch.no_grad():
                questions = either.embed_question(ids)
                embeds, patches = either.embed_frames(frames), either.patches(frames)
                both = either.select(embeds, questions)
                tokens = either.merger(questions, both).push(patches, 0)
                for row in range(2):
                    alone = either.select(embeds, questions[row : row + 1])
                    assert torch.equal(both.indices[row], alone.indices[0])
                    assert torch.equal(both.from_score[row], alone.from_score[0])
                    merger = either.merger(questions[row : row + 1], alone)
                    inputs = PROMPT | {"frames": frames, "clip_input_ids": ids[row : row + 1]}
                    truth = model_truths(either, inputs).merged_tokens
                    assert_within_budget(tokens[row], truth)
                    assert_within_budget(merger.push(patches, 0)[0], truth)
            assert not torch.equal(both.scores[0], both.scores[1])

    def test_gradients_reach_every_part(self, folder):
        """A trainer can use the same blocks: only what a checkpoint carries unused stays behind."""
        model = ViLAMP.from_pretrained(folder, device="cpu").train().requires_grad_(True)
        frames = drawn_frames(4)
        question, embeds = model.embed_question(CLIP_IDS), model.embed_frames(frames)
        patches = model.patches(frames)
        assignment = torch.tensor([[-1, -2, 1, 1]])
        merged = model.merge(patches, question, patches, assignment)[0]
        visual = torch.cat([model.keyframe_tokens(patches[1:2])[0], merged])
        sequence = model.assemble(INPUT_IDS, visual)
        loss = model.language_model(inputs_embeds=sequence).logits.square().mean()
        (loss + (embeds @ question.T).square().mean()).backward()
        unused = {name for name, p in model.named_parameters() if p.grad is None}
        assert unused == {
            "vision_tower.post_layernorm.weight",
            "vision_tower.post_layernorm.bias",
            "frame_selector.logit_scale",
        }

    def test_scores_are_fp32_in_bf16(self, folder, frames):
        model = ViLAMP.from_pretrained(folder, dtype="bfloat16", device="cpu")
        result = model.embed(frames=frames, **PROMPT)
        assert result.inputs_embeds.dtype == torch.bfloat16
        assert result.selection.scores.dtype == torch.float32
        exact = in_fp64(model)

        def scores():
            embeds, question = exact.embed_frames(frames), exact.embed_question(CLIP_IDS)
            return exact.select(embeds, question).scores

        with torch.no_grad():
            (truth,) = truth_of(scores, torch.bfloat16)
        assert_within_budget(result.selection.scores, truth)
        assert model.decode(result.inputs_embeds, 3).shape == (1, 3)


@pytest.fixture(scope="module")
def prompt(model, frames):
    return model.embed(frames=frames, **PROMPT).inputs_embeds


class TestDecode:
    def test_logits_and_stream(self, model, prompt):
        seen = []
        result = model.decode(prompt, 6, return_logits=True, on_token=seen.append)
        assert result.ids.shape == (1, 6) and result.logits.shape == (6, Sizes().vocabulary)
        assert result.ids.dtype == torch.int64 and result.logits.dtype == torch.float32
        assert result.ids[0].tolist() == seen == result.logits.argmax(1).tolist()
        assert len(set(seen)) > 1
        assert torch.equal(model.decode(prompt, 6), result.ids)

    @pytest.mark.parametrize("chunk", [1, 7, 10_000])
    def test_a_prompt_read_in_chunks_gives_the_same(self, model, prompt, chunk):
        whole = decode(model.language_model, prompt, 6, prefill_chunk=10_000)
        parts = decode(model.language_model, prompt, 6, prefill_chunk=chunk)
        assert prompt.shape[1] > 2 * 7
        truth = logits_truth(model, prompt, 6)
        sure = same_choices(parts.ids[0], whole.ids[0], truth)
        # The token after those was chosen by the same numbers.
        rows = slice(sure + 1)
        assert_within_budget(parts.logits[rows], Truth(truth.ref[rows], truth.spread[rows]))

    def test_the_cache_is_allocated_once(self, model, prompt):
        config = model.language_model.config
        cache = fixed_cache(config, prompt.shape[1] + 1)
        hidden = prefill(model.language_model, prompt, cache, chunk=5)
        places = [layer._keys.data_ptr() for layer in cache.layers]
        assert all(
            layer.keys.data_ptr() == p for layer, p in zip(cache.layers, places, strict=True)
        )
        assert cache.get_seq_length() == prompt.shape[1] and hidden.shape[1] <= 5
        prefill(model.language_model, prompt[:, :1], cache, chunk=5)
        with pytest.raises(ValueError, match=rf"for {prompt.shape[1] + 1} tokens cannot take"):
            prefill(model.language_model, prompt[:, :1], cache, chunk=5)

    def test_stop_id_ends_the_answer(self, tmp_path, model, prompt):
        ids = model.decode(prompt, 6)[0].tolist()
        # The third new id, unless it came before.
        stop = ids[2]
        folder = write_checkpoint(tmp_path, vilamp_compat="paper", eos_token_id=[stop, 0])
        stopped = ViLAMP.from_pretrained(folder, device="cpu").decode(prompt, 6)
        assert stopped[0].tolist() == ids[: ids.index(stop) + 1]

    def test_no_new_tokens(self, model, prompt):
        result = model.decode(prompt, 0, return_logits=True)
        assert result.ids.shape == (1, 0) and result.logits.shape == (0, Sizes().vocabulary)

    def test_sampling(self, model, prompt):
        draws = [
            model.decode(prompt, 8, do_sample=True, temperature=3.0, seed=s) for s in (1, 1, 2)
        ]
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])
        cold = model.decode(prompt, 8, do_sample=True, temperature=1e-4, seed=1)
        assert torch.equal(cold, model.decode(prompt, 8))

    def test_generate_is_embed_and_decode(self, model, frames, prompt):
        for options in ({}, {"do_sample": True, "temperature": 3.0, "seed": 5}):
            whole = model.generate(frames=frames, **PROMPT, max_new_tokens=4, **options)
            assert torch.equal(whole, model.decode(prompt, 4, **options))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"max_new_tokens": -1}, "max_new_tokens: wanted at least 0 and at most 65536"),
            ({"max_new_tokens": 10**14}, "at most 65536, got 100000000000000"),
            ({"max_new_tokens": 1, "do_sample": True, "temperature": 0.0}, "temperature"),
            ({"max_new_tokens": 1, "prefill_chunk": 0}, "prefill_chunk: wanted at least 1, got 0"),
        ],
        ids=["length", "huge", "temperature", "chunk"],
    )
    def test_refused(self, model, prompt, options, message):
        with pytest.raises(InputError, match=message):
            model.decode(prompt, **options)


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"frames": drawn_frames(4)[:0]},
                "frames and a batch of at least 1, got 0 and 8",
            ),
            ({"frames": drawn_frames(2).float()}, "pixels: wanted .n, 3, 48, 48."),
            ({"frames": drawn_frames(2).short()}, r"wanted uint8 \[n, H, W, 3\]"),
            ({"frames": None}, "wanted pixel_values and clip_pixel_values, or frames"),
            ({"pixel_values": torch.zeros(1, 3, 56, 56)}, "wanted frames or pixels, got both"),
            ({"input_ids": None}, "clip_input_ids and input_ids are required"),
            ({"input_ids": torch.tensor([[1, 2]])}, "with one -200, got .* with 0"),
            ({"input_ids": torch.tensor([[-200, 2, -200]])}, "with one -200, got .* with 2"),
            ({"input_ids": torch.tensor([1, -200])}, r"wanted \[1, L\]"),
            ({"input_ids": torch.tensor([[1, -200, 210]])}, "ids from 1 to 210"),
            ({"input_ids": torch.tensor([[1, -200, -3]])}, "ids from -3 to 1"),
            ({"clip_input_ids": torch.tensor([[1, 70]])}, "vocabulary has 70"),
            ({"clip_input_ids": torch.ones(1, 17).long()}, "at most 16 tokens, got 17"),
            ({"clip_input_ids": torch.ones(2, 5).long()}, r"one question \[1, T\]"),
            ({"clip_input_ids": torch.ones(1, 5)}, "wanted int64"),
            ({"clip_attention_mask": torch.ones(1, 4).long()}, r"mask: wanted \[1, 5\]"),
            ({"batch": 0}, "batch of at least 1, got 2 and 0"),
            ({"keyframes": 0}, "keyframes: wanted at least 1, got 0"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_embed(self, model, changes, message):
        with pytest.raises(InputError, match=message):
            model.embed(**{"frames": drawn_frames(2), **PROMPT, **changes})

    def test_no_frames_have_no_keyframes(self, model):
        nothing = torch.zeros(0, Sizes().projection)
        with pytest.raises(InputError, match="a video of 0 frames has no keyframes"):
            model.select(nothing, model.embed_question(CLIP_IDS))

    def test_different_numbers_of_frames(self, model):
        pixels, clip = pixels_of(model, drawn_frames(4))
        with pytest.raises(InputError, match="4 frames in pixel_values, 3 in clip_pixel_values"):
            model.embed(pixels, clip[:3], **PROMPT)

    def test_pixels_of_another_size(self, model):
        pixels, clip = pixels_of(model, drawn_frames(2))
        with pytest.raises(InputError, match=r"SigLIP pixels: wanted \[n, 3, 56, 56\]"):
            model.embed(clip, clip, **PROMPT)
        with pytest.raises(InputError, match=r"CLIP pixels: wanted \[n, 3, 48, 48\]"):
            model.embed(pixels, pixels, **PROMPT)


def test_end_of_text_rules(tmp_path):
    """CLIP reads a text at its end mark; configs of the old kind (2) mean the largest id."""
    sizes = Sizes(clip_eos=2)
    old = ViLAMP.from_pretrained(write_checkpoint(tmp_path / "old", sizes), device="cpu")
    new = ViLAMP.from_pretrained(write_checkpoint(tmp_path / "new"), device="cpu")
    largest_last, padded = torch.tensor([[0, 5, 61]]), torch.tensor([[0, 5, 61, 7, 7]])
    for either in (old, new):
        (truth,) = truths_of_parts(either, lambda exact: exact.embed_question(largest_last))
        with torch.no_grad():
            assert_within_budget(either.embed_question(largest_last), truth)
            assert_within_budget(either.embed_question(padded), truth)
    first_mark = torch.tensor([[0, 61, 69]])
    difference = (old.embed_question(first_mark) - new.embed_question(first_mark)).abs().max()
    assert difference > 0.1


def test_padding_is_masked(model):
    """A mask that leaves a token out changes what follows it."""
    ids = torch.tensor([[0, 5, 9, 33, 61]])
    mask = torch.tensor([[1, 1, 0, 1, 1]])
    assert (model.embed_question(ids) - model.embed_question(ids, mask)).abs().max() > 1e-3


def test_a_model_from_its_config(folder, tmp_path):
    """Without `from_pretrained`: random weights that can be saved in the published layout."""
    config = ViLAMP.from_pretrained(folder, device="cpu").config
    torch.manual_seed(moved(0))
    fresh = ViLAMP(config).eval()
    state = published_state(fresh)
    assert state.keys() == random_weights(Sizes()).keys()
    copy = write_configs(tmp_path, Sizes(), vilamp_compat="paper")
    save_file(state, copy / "model.safetensors")
    again = ViLAMP.from_pretrained(copy, device="cpu")
    own, stored = fresh.state_dict(), again.state_dict()
    assert own.keys() == stored.keys()
    assert all(torch.equal(own[name], stored[name]) for name in own)
    # The same weights at other addresses, by which a matrix library may choose another kernel.
    truths = model_truths(fresh, {"frames": drawn_frames(3), **PROMPT}, 3)
    for either in (fresh, again):
        result = either.embed(frames=drawn_frames(3), **PROMPT)
        truths.assert_holds(result)
        answer = either.decode(result.inputs_embeds, 3, return_logits=True)
        same_choices(answer.ids[0], truths.logits.ref.argmax(-1), truths.logits)
    assert json.loads((copy / "config.json").read_text())["model_type"] == "llava_qwen"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-2), ("bfloat16", 0.5)])
def test_on_a_gpu(folder, model, frames, dtype, tolerance):
    """The same answer up to rounding; convolutions of fp32 may run in TF32 there."""
    on_gpu = ViLAMP.from_pretrained(folder, dtype=dtype, device="cuda")
    ours, wanted = (m.embed(frames=frames, **PROMPT, keyframes=1) for m in (on_gpu, model))
    assert ours.inputs_embeds.is_cuda
    assert ours.keyframes.tolist() == wanted.keyframes.tolist()
    difference = ours.inputs_embeds.cpu().float() - wanted.inputs_embeds
    assert difference.square().mean().sqrt() <= tolerance
    assert on_gpu.decode(ours.inputs_embeds, 3).shape == (1, 3)
