"""The ops against what the published implementation computed.

`tests/data/golden` holds a choice of the recorded cases: the fill whole; selections of 1 to 33, 200
and (of a video) 500 frames with all special cases; merges of 3 frames, their inputs cut to those.
"""

import json

import pytest
import torch
from budgets import pool_truth, similarity_truth
from safetensors.torch import load_file

import vilamp_kernels as vk
from vilamp_kernels.testing import assert_within_budget

pytestmark = [pytest.mark.golden, pytest.mark.usefixtures("backend")]

SIZES = (1, 2, 5, 31, 32, 33, 64, 200, 500, 2000)
SPECIAL = ("K0", "K1", "N_eq_K", "high_text_threshold", "nan_row", "no_frames", "zero_row")
SELECTIONS = [f"dks_{kind}_N{n}" for kind in ("iid", "video") for n in SIZES]
SELECTIONS += [f"dks_special_{name}" for name in SPECIAL]
TIES = ("dks_special_exact_duplicates", "dks_special_all_identical")


def cases_of(golden_file, name):
    cases = json.loads(golden_file("dks_index.json").read_text())["cases"]
    return [case for case in cases if case["file"] == f"{name}.safetensors"]


def recorded(truth, out):
    """The truth's spread around what was computed in fp32: two sides have an error then."""
    return truth._replace(ref=out.double())


def mask_of(indices, n):
    mask = torch.zeros(n, dtype=torch.uint8)
    mask[indices[indices >= 0]] = 1
    return mask


@pytest.mark.parametrize("name", SELECTIONS)
def test_selection_before_and_after_the_fill(golden_file, name):
    data = load_file(golden_file(f"{name}.safetensors"))
    frames = data["image_embeds"]
    scores = vk.similarity(frames, data["text_embeds"])
    truth = similarity_truth(frames[None], data["text_embeds"][None])
    assert_within_budget(scores[None], recorded(truth, data["f2t_scores"][None, None]), sides=2)
    cases = cases_of(golden_file, name)
    assert cases
    for case in cases:
        assert case["status"] == "ok"
        for fill, suffix in ((None, "mask_before"), ("even", "mask_after")):
            indices, count = vk.select_keyframes(
                frames,
                scores,
                case["max_frame_num"],
                tau=case["f2f_thrd"],
                min_score=case["f2t_thrd"],
                fill=fill,
            )
            wanted = data[f"{case['tag']}.{suffix}"]
            assert torch.equal(mask_of(indices[0], case["N"]), wanted), (case["tag"], suffix)
            assert count.item() == wanted.sum()


@pytest.mark.parametrize("name", TIES)
def test_ties_agree_up_to_the_choice_inside_a_group(golden_file, name):
    # Which of several equal frames the published code takes is up to its sort.
    data = load_file(golden_file(f"{name}.safetensors"))
    (case,) = cases_of(golden_file, name)
    frames = data["image_embeds"]
    scores = vk.similarity(frames, data["text_embeds"])
    indices, _ = vk.select_keyframes(
        frames, scores, case["max_frame_num"], case["f2f_thrd"], case["f2t_thrd"]
    )
    chosen = indices[0][indices[0] >= 0]
    group = 4 if "duplicates" in name else case["N"]
    wanted = torch.tensor(case["selected_before"])
    assert torch.equal(chosen // group, wanted // group)


def test_two_questions_select_for_themselves(golden_file):
    data = load_file(golden_file("dks_special_two_texts.safetensors"))
    frames = data["image_embeds"]
    scores = vk.similarity(frames, data["text_embeds"])
    both = vk.select_keyframes(frames, scores, 8, fill="even")[0]
    for question in range(2):
        alone = vk.select_keyframes(frames, scores[question : question + 1], 8, fill="even")[0]
        assert torch.equal(both[question], alone[0])


def test_fill(golden_file):
    cases = json.loads(golden_file("fill_cases.json").read_text())["cases"]
    assert len(cases) == 300
    for case in cases:
        mask = torch.tensor([digit == "1" for digit in case["input"]], dtype=torch.bool)
        out = vk.fill_keyframes(mask, case["max_frame_num"])
        assert "".join("01"[value] for value in out.int().tolist()) == case["output"]


def merge_inputs(data, n):
    """Patches, bank and assignment of the first `n` frames of a merge file."""
    if "img_embs_int8" in data:
        features = data["img_embs_int8"].float() / 24
        return features[:n], features, data["key_index"][None, :n]
    keys = data["key_frame_expanded_f16"].float()
    return data["img_embs_f16"].float()[:n], keys, torch.arange(n)[None]


def maps_of(data):
    names = [f"weight.linear_{name}" for name in ("iq", "ik", "q", "k")]
    return [data[f"{name}.{part}"] for name in names for part in ("weight", "bias")]


@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("n", [3, 60, 70])
@pytest.mark.parametrize("name", ["merge_M49_D64", "merge_M729_D32"])
def test_merging(golden_file, name, n, alpha):
    data = load_file(golden_file(f"{name}.safetensors"))
    key = f"N{n}.tau{alpha}.output"
    if key not in data:
        pytest.skip(f"{key} is only in the full golden data; set GOLDEN_DIR to run it")
    patches, bank, assignment = merge_inputs(data, n)
    inputs = patches, data["query"][0], bank, assignment
    tokens, weights = vk.projected_differential_pool(
        *inputs, *maps_of(data), alpha, return_weights=True
    )
    truths = pool_truth(*inputs, alpha, 1.0, vk.Projection(*maps_of(data)))
    assert_within_budget(tokens, recorded(truths[0], data[key][None]), sides=2)
    if f"N{n}.score_query" in data:
        scores = data[f"N{n}.score_query"] - data[f"N{n}.score_key"]
        wanted = (scores / alpha).softmax(-1)[None]
        assert_within_budget(weights, recorded(truths[1], wanted), sides=2)


@pytest.mark.parametrize("n", [3, 60, 70])
def test_merging_as_a_stream(golden_file, n):
    data = load_file(golden_file("merge_M729_D32.safetensors"))
    key = f"N{n}.tau0.01.output"
    if key not in data:
        pytest.skip(f"{key} is only in the full golden data; set GOLDEN_DIR to run it")
    patches, _, references = merge_inputs(data, n)
    merger = vk.StreamingMerger(
        data["query"][0], references, alpha=0.01, projection=vk.Projection(*maps_of(data))
    )
    step = n // 3
    tokens = [merger.push(patches[start : start + step], start) for start in range(0, n, step)]
    inputs = patches, data["query"][0], patches, references
    truth, _ = pool_truth(*inputs, 0.01, 1.0, vk.Projection(*maps_of(data)))
    assert_within_budget(torch.cat(tokens, 1), recorded(truth, data[key][None]), sides=2)
