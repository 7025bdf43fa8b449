"""Floating-point operations of one dispatched operation, 2 for each multiply-add.

Counted are matrix products, convolutions, attention and the ops of this package. What works element
by element (norms, activations, softmax, additions) is not: for these models it is below one percent
of the products. Causal attention counts the pairs that may see each other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import flop_registry

import vilamp_kernels as vk  # noqa: F401  (registers the ops)

aten, ops = torch.ops.aten, torch.ops.vilamp_kernels


def count(func: torch._ops.OpOverload, args: tuple, kwargs: dict, result: object) -> int:
    """Of one call; 0 for an operation that multiplies no matrices."""
    formula = _OWN.get(func._overloadpacket)
    if formula is not None:
        return formula(*args, **kwargs)
    known = flop_registry.get(func._overloadpacket)
    return known(*args, **kwargs, out_val=result) if known is not None else 0


def attention(query, key, value, *rest, is_causal: bool = False, attn_mask=None, **_) -> int:
    """Both products of attention, `[B, H, S, E]` with `[B, H or fewer, T, E]`.

    A masked or causal query sees the keys up to its own, the last of them all.
    """
    b, heads, s, width = query.shape
    t = key.shape[2]
    # dropout_p and is_causal may come by position.
    causal = is_causal or (len(rest) > 1 and rest[1] is True) or attn_mask is not None
    pairs = s * t - s * (s - 1) // 2 if causal and s <= t else s * t
    return 2 * b * heads * pairs * (width + value.shape[3])


def _similarity(frames, queries, eps) -> int:
    b, n, d = frames.shape
    return 2 * b * queries.shape[1] * n * d


def _select(frames, scores, k, *_) -> int:
    # Each keyframe that is taken is compared with all frames.
    b, n, d = frames.shape
    return 2 * b * scores.shape[1] * min(k, n) * n * d


def _product(a, b) -> int:
    return 2 * a.shape[0] * a.shape[1] * b.shape[1]


def _pool(patches, queries, references, assignment, *rest) -> int:
    """Two cosines per patch and question, and the weighted sum."""
    b, n, m, c = patches.shape
    return 2 * b * n * m * 3 * queries.shape[1] * c


def _projected_pool(patches, queries, references, assignment, w_iq, *rest) -> int:
    """Patches through two maps, references and questions through one each; then as `_pool`."""
    b, n, m, c = patches.shape
    p, questions = w_iq.shape[0], queries.shape[1]
    maps = n * m * 2 * c * p + references.shape[1] * m * c * p + questions * queries.shape[2] * p
    return 2 * b * (maps + n * m * questions * (2 * p + c))


_OWN: dict[object, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: attention,
    aten._scaled_dot_product_flash_attention: attention,
    aten._scaled_dot_product_efficient_attention: attention,
    ops.similarity: _similarity,
    ops.select_keyframes: _select,
    ops._product: _product,
    ops.differential_pool: _pool,
    ops.projected_differential_pool: _projected_pool,
}
