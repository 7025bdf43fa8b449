"""Truths of the ops: results of the oracles, with the spread of the definitions' roundings."""

from __future__ import annotations

import oracles
from torch import Tensor

import vilamp_kernels as vk
from vilamp_kernels import reference
from vilamp_kernels.reference.numerics import acc_dtype
from vilamp_kernels.rounding import Truth, truth_of
from vilamp_kernels.testing import assert_within_budget


def wide(tensor: Tensor | None) -> Tensor | None:
    """In fp64 where it holds floats."""
    return tensor.double() if tensor is not None and tensor.is_floating_point() else tensor


def similarity_truth(frames: Tensor, queries: Tensor) -> Truth:
    frames, queries, acc = wide(frames), wide(queries), acc_dtype(frames)
    (truth,) = truth_of(lambda: reference.similarity(frames, queries, 1e-8), acc)
    return truth._replace(ref=oracles.similarity(frames, queries))


def pool_truth(patches, queries, references, assignment, alpha, lam, maps=None) -> list[Truth]:
    """Of the tokens and of the weights of one video."""
    acc = acc_dtype(patches)
    tensors = [wide(t) for t in (patches, queries, references, assignment)]
    maps = maps and vk.Projection(*map(wide, maps))

    def definition():
        with vk.use_backend("reference"):
            return pool(*tensors, alpha, lam, maps)

    refs = oracles.pool(*tensors, alpha, lam, maps)
    truths = truth_of(definition, acc)
    return [truth._replace(ref=ref) for truth, ref in zip(truths, refs, strict=True)]


def pool(patches, queries, references, assignment, alpha, lam, maps=None):
    """Tokens and weights by either pooling op, by whether there are maps."""
    tensors = (patches, queries, references, assignment)
    if maps is None:
        return vk.differential_pool(*tensors, alpha, lam, return_weights=True)
    last = {"output_weight": maps.output_weight, "output_bias": maps.output_bias}
    return vk.projected_differential_pool(
        *tensors, *maps[:8], alpha, lam, return_weights=True, **last
    )


def assert_formula(outputs, formula) -> None:
    """Each of `outputs`, computed in fp32, against the formula, which computes in fp64."""

    def definition():
        with vk.use_backend("reference"):
            return formula()

    for out, truth in zip(outputs, truth_of(definition), strict=True):
        assert_within_budget(out, truth)


def assert_pool_within_budget(outputs, *inputs) -> None:
    """Tokens and weights of one video against the truth for these inputs of `pool_truth`."""
    for out, truth in zip(outputs, pool_truth(*inputs), strict=True):
        assert_within_budget(out, truth)
