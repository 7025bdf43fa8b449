"""What a model computes, in fp64 and with the spread of fp32's roundings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from vilamp.generate import decode
from vilamp.model import ViLAMP

from vilamp_kernels.rounding import Truth, truth_of
from vilamp_kernels.testing import assert_within_budget


class ModelTruths(NamedTuple):
    """Truths of the parts of an `Embedding`, and of the logits of an answer to it."""

    scores: Truth
    merged_tokens: Truth
    inputs_embeds: Truth
    logits: Truth

    def assert_holds(self, embedding) -> None:
        """An `Embedding` in fp32 is within the budget."""
        assert_within_budget(embedding.selection.scores, self.scores)
        assert_within_budget(embedding.merged_tokens, self.merged_tokens)
        assert_within_budget(embedding.inputs_embeds, self.inputs_embeds)


@cache
def in_fp64(model: ViLAMP) -> ViLAMP:
    return copy.deepcopy(model).double()


def truths_of_parts(model: ViLAMP, parts: Callable[[ViLAMP], object]) -> list[Truth]:
    """Of the tensors that `parts` gives, a function of the model."""
    exact = in_fp64(model)
    with torch.no_grad():
        return truth_of(lambda: parts(exact))


def model_truths(model: ViLAMP, inputs: dict, new_tokens: int = 6, **options) -> ModelTruths:
    """Of `model.embed(**inputs, **options)` and the logits of `new_tokens` greedy tokens."""
    exact = in_fp64(model)
    # The same tokens in each run, though one of them may decide otherwise in a near tie.
    ids = None

    def run():
        nonlocal ids
        found = exact.embed(**inputs, **options)
        if ids is None:
            ids = decode(exact.language_model, found.inputs_embeds, new_tokens).ids[0]
        logits = _logits(exact, found.inputs_embeds, ids)
        return found.selection.scores, found.merged_tokens, found.inputs_embeds, logits

    with torch.no_grad():
        return ModelTruths(*truth_of(run))


def logits_truth(model: ViLAMP, inputs_embeds: Tensor, new_tokens: int) -> Truth:
    """Of the logits of `new_tokens` greedy tokens after a prompt."""
    exact, prompt = in_fp64(model), inputs_embeds.double()
    ids = decode(exact.language_model, prompt, new_tokens).ids[0]
    with torch.no_grad():
        (truth,) = truth_of(lambda: _logits(exact, prompt, ids))
    return truth


def _logits(exact: ViLAMP, prompt: Tensor, ids: Tensor) -> Tensor:
    answer = exact.language_model.model.embed_tokens(ids[:-1])[None]
    whole = torch.cat([prompt, answer], 1)
    return exact.language_model(inputs_embeds=whole).logits[0, -len(ids) :]


def same_choices(ids: Tensor, wanted: Tensor, truth: Truth) -> int:
    """Greedy ids are the same up to the first that a rounding may decide; gives their number."""
    best = truth.ref.topk(2, -1).values
    clear = best[:, 0] - best[:, 1] > 8 * truth.spread.amax(-1)
    sure = int(clear.long().cumprod(0).sum())
    assert sure > 0, "these data tell no right answer from a wrong one"
    assert torch.equal(ids[:sure], wanted[:sure])
    return sure
