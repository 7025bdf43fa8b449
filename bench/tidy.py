"""The fastest eager PyTorch found for each op: what an engineer would write with no kernel.

Several forms per op, since which one wins depends on dtype, caches and threads; all are timed.
They read the input as few times as eager PyTorch can and build no copy of it, except that bf16 is
widened chunk by chunk, as the ops promise fp32 sums.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from vilamp_kernels import Projection

CHUNK_BYTES = 4 << 20
"""A chunk that is still in the last-level cache when it is read for the second time."""
EPS = 1e-8


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32).clamp_min_(EPS)


def _unit(x: Tensor) -> Tensor:
    return x.float() / _norm(x).unsqueeze(-1)


def _rows(row_bytes: int) -> int:
    return max(1, CHUNK_BYTES // row_bytes)


def similarity_whole(frames: Tensor, queries: Tensor) -> Tensor:
    """Norms in one pass over the frames, products in another; divides `[Q, N]`, not `[N, D]`."""
    return (_unit(queries) @ frames.float().mT).div_(_norm(frames))


def similarity_chunked(frames: Tensor, queries: Tensor) -> Tensor:
    """The same in chunks, so that the second pass finds its rows in a cache."""
    out = torch.empty(queries.shape[0], frames.shape[0])
    unit = _unit(queries)
    step = _rows(4 * frames.shape[1])
    for rows, part in zip(frames.split(step), out.split(step, 1), strict=True):
        wide = rows.float()
        torch.mm(unit, wide.mT, out=part).div_(_norm(wide))
    return out


def select_by_picks(frames: Tensor, scores: Tensor, k: int, tau: float) -> Tensor:
    """K times: take the best frame left, drop all like it. Reads all frames once per pick."""
    norms, left = _norm(frames), scores.clone()
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    for _ in range(min(k, len(scores))):
        best, frame = left.max(0)
        if best == -torch.inf:
            break
        chosen[frame] = True
        cosines = torch.mv(frames, frames[frame] / norms[frame]).div_(norms)
        left.masked_fill_(cosines > tau, -torch.inf)
        left[frame] = -torch.inf
    return chosen


def select_by_blocks(frames: Tensor, scores: Tensor, k: int, tau: float) -> Tensor:
    """Candidates in blocks, best first, each compared with the frames taken so far only: no frame
    is read twice, and none after the budget is spent."""
    order = scores.argsort(descending=True, stable=True)
    kept = torch.empty(k, frames.shape[1])
    count = 0
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    start, size = 0, 2 * k
    while start < len(order) and count < k:
        block = order[start : start + size]
        start, size = start + size, min(2 * size, _rows(4 * frames.shape[1]))
        rows = _unit(frames[block])
        left = torch.ones(len(block), dtype=torch.bool)
        if count:
            left = (rows @ kept[:count].mT).amax(1) <= tau
        while count < k and left.any():
            best = int(left.int().argmax())
            chosen[block[best]] = True
            kept[count] = rows[best]
            count += 1
            left &= torch.mv(rows, rows[best]) <= tau
            left[best] = False
    return chosen


def pool_whole(patches: Tensor, query: Tensor, reference: Tensor, alpha: float) -> Tensor:
    """Tokens `[N, C]` for one query `[C]` and one reference `[M, C]`: three reads of the patches
    (norms, products, weighted sum) by batched products, nothing of their size is written."""
    x = patches.float()
    sides = torch.stack((_unit(query).expand_as(reference), _unit(reference)), -1)  # [M, C, 2]
    dots = torch.bmm(x.transpose(0, 1), sides)  # [M, N, 2]
    logits = (dots[..., 0] - dots[..., 1]).mT / _norm(x) / alpha
    return torch.bmm(logits.softmax(-1).unsqueeze(1), x).squeeze(1).to(patches.dtype)


def pool_chunked(patches: Tensor, query: Tensor, reference: Tensor, alpha: float) -> Tensor:
    """Frame by frame, so that the second and third read of a frame come from a cache. The two
    cosines share the patch, so one product with the difference of the unit vectors gives both."""
    out = torch.empty(patches.shape[0], patches.shape[2])
    side = _unit(query) - _unit(reference)  # [M, C]
    for frame, token in zip(patches, out, strict=True):
        x = frame.float()
        dots = torch.linalg.vecdot(x, side)
        weights = (dots / _norm(x) / alpha).softmax(-1)
        torch.mv(x.mT, weights, out=token)
    return out.to(patches.dtype)


def pool_difference(patches: Tensor, query: Tensor, reference: Tensor, alpha: float) -> Tensor:
    """The one product of `pool_chunked` on all frames at once, by einsum."""
    x = patches.float()
    dots = torch.einsum("nmc,mc->nm", x, _unit(query) - _unit(reference))
    weights = (dots / _norm(x) / alpha).softmax(-1)
    return torch.einsum("nm,nmc->nc", weights, x).to(patches.dtype)


def projected_by_frames(
    patches: Tensor, query: Tensor, reference: Tensor, alpha: float, maps: Projection
) -> Tensor:
    """Tokens `[N, C]`: the query and the reference are mapped once instead of once per frame; the
    two mapped copies of a frame live in a cache. Products run in the dtype of the patches."""
    if maps.output_weight is not None:
        patches = linear(patches, maps.output_weight, maps.output_bias)
        reference = linear(reference, maps.output_weight, maps.output_bias)
    text = _unit(linear(query, maps.w_q, maps.b_q))
    key = _unit(linear(reference, maps.w_k, maps.b_k))
    both = torch.cat((maps.w_iq, maps.w_ik))
    bias = torch.cat((maps.b_iq, maps.b_ik))
    out = torch.empty(patches.shape[0], patches.shape[2])
    for frame, token in zip(patches, out, strict=True):
        for_query, for_key = linear(frame, both, bias).float().chunk(2, -1)
        relevance = torch.mv(for_query, text) / _norm(for_query)
        redundancy = torch.linalg.vecdot(for_key, key) / _norm(for_key)
        weights = ((relevance - redundancy) / alpha).softmax(-1)
        torch.mv(frame.float().mT, weights, out=token)
    return out.to(patches.dtype)


def products(patches: Tensor, reference: Tensor, maps: Projection) -> list[Tensor]:
    """Only the products that the projected form needs, into buffers that exist: a bound for what
    torch's own matmul allows, not an implementation. Gives the call's (input, map, out)."""
    rows = patches.flatten(0, 1)
    triples = [(rows, maps.w_iq), (rows, maps.w_ik), (reference, maps.w_k)]
    return [(x, w.mT, x.new_zeros(x.shape[0], w.shape[0])) for x, w in triples]
