"""How each provider computes each op. A provider takes inputs and gives a call without arguments;
what it may prepare outside the clock it prepares before it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

import vilamp_kernels as vk
from vilamp_kernels.backends import IMPLS
from vilamp_kernels.ops.common import EPS

from . import peers, published, tidy
from .inputs import Fill, Inputs, Pool, Selection, Similarity

Call = Callable[[], object]
Provider = Callable[[Inputs], Call]


def public(inputs: Inputs) -> Call:
    """The library's public function; which backend runs is chosen around the call."""
    match inputs:
        case Similarity(frames, queries):
            return lambda: vk.similarity(frames, queries)
        case Selection(frames, scores, k, tau):
            return lambda: vk.select_keyframes(frames, scores, k, tau)
        case Fill(mask, k):
            return lambda: vk.fill_keyframes(mask, k)
    bank = (inputs.patches, inputs.queries, inputs.references, inputs.assignment)
    if inputs.maps is None:
        return lambda: vk.differential_pool(*bank, inputs.alpha)
    maps, last = inputs.maps[:8], inputs.maps[8:]
    named = dict(zip(("output_weight", "output_bias"), last, strict=True))
    return lambda: vk.projected_differential_pool(*bank, *maps, inputs.alpha, **named)


def compiled(inputs: Inputs) -> Call:
    """The public function on the reference backend's code, under torch.compile: the registered op
    itself is opaque to the compiler, so the definition is compiled in its place."""
    torch._dynamo.reset()
    match inputs:
        case Similarity(frames, queries):
            run = torch.compile(IMPLS["similarity"]["reference"])
            return lambda: run(frames[None], queries[None], EPS)[0]
        case Selection(frames, scores, k, tau):
            run = torch.compile(IMPLS["select_keyframes"]["reference"])
            return lambda: run(frames[None], scores[None], k, tau, None, False, None, EPS)
        case Fill(mask, k):
            run = torch.compile(IMPLS["fill_keyframes"]["reference"])
            return lambda: run(mask, k)
    tensors, scalars = _pool_operands(inputs)
    name = "differential_pool" if inputs.maps is None else "projected_differential_pool"
    run = torch.compile(IMPLS[name]["reference"])
    dtype = inputs.patches.dtype
    return lambda: run(*tensors, *scalars, EPS, False)[0][0].to(dtype)


def _pool_operands(inputs: Pool) -> tuple[list[Tensor], list[Tensor]]:
    """Operands of the registered pooling op: with the batch dimension, then alpha and lam."""
    given = (inputs.patches, inputs.queries, inputs.references, inputs.assignment)
    scalars = [torch.tensor(inputs.alpha), torch.tensor(1.0)]
    return [*(t[None] for t in given), *(inputs.maps or ())[:8]], scalars


def by_published(inputs: Inputs) -> Call:
    """The published formula."""
    match inputs:
        case Similarity(frames, queries):
            return lambda: published.similarity(frames, queries)
        case Selection(frames, scores, k, tau):
            return lambda: published.select(frames, scores[0], k, tau)
        case Fill(mask, k):
            return lambda: published.fill(mask, k)
    pool, rows = inputs, inputs.assignment[0]
    return lambda: published.merge(
        pool.patches, pool.queries, pool.references, rows, pool.alpha, pool.maps
    )[None]


def tidy_similarity(form: Callable[[Tensor, Tensor], Tensor]) -> Provider:
    return lambda inputs: lambda: form(inputs.frames, inputs.queries)


def tidy_selection(form: Callable[..., Tensor]) -> Provider:
    return lambda inputs: lambda: form(inputs.frames, inputs.scores[0], inputs.k, inputs.tau)


def tidy_pool(form: Callable[..., Tensor]) -> Provider:
    def provider(inputs: Pool) -> Call:
        maps = () if inputs.maps is None else (inputs.maps,)
        given = (inputs.patches, inputs.queries[0], inputs.references[0], inputs.alpha, *maps)
        return lambda: form(*given)[None]

    return provider


def peer(form: Callable[[Tensor, Tensor], Call]) -> Provider:
    return lambda inputs: form(inputs.frames, inputs.queries)


def products(inputs: Pool) -> Call:
    """Only the matrix products: see `tidy.products`."""
    triples = tidy.products(inputs.patches, inputs.references[0], inputs.maps)

    def run() -> None:
        for x, w, out in triples:
            torch.mm(x, w, out=out)

    return run


def backward_kernel(backend: str) -> Provider:
    """The backward op alone, all gradients wanted, on one backend. When the implementation takes
    `out=`, into buffers that were touched before, so that no page is made inside the clock."""
    impl = IMPLS["differential_pool_backward"][backend]

    def provider(inputs: Pool) -> Call:
        tensors, scalars = _pool_operands(inputs)
        n, _, c = inputs.patches.shape
        grad_tokens = torch.randn(1, 1, n, c, generator=torch.Generator().manual_seed(5))
        no_grad_weights = torch.empty(1, 1, n, 0)
        arguments = (grad_tokens, no_grad_weights, *tensors, *scalars, EPS, [True] * 5)
        if "out" not in inspect.signature(impl).parameters:
            return lambda: impl(*arguments)
        # The scalars come back as new tensors in any case.
        out = tuple(torch.zeros_like(t) for t in impl(*arguments)[:3])
        return lambda: impl(*arguments, out=out)

    return provider


def full_backward(forward: Provider) -> Provider:
    """Autograd's backward of a pooling, gradients of patches, queries and references allocated;
    the forward is outside the clock."""

    def provider(inputs: Pool) -> Call:
        leaves = [
            t.detach().requires_grad_() for t in (inputs.patches, inputs.queries, inputs.references)
        ]
        tokens = forward(Pool(*leaves, inputs.alpha, inputs.maps))()
        grad = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(5))
        grad = grad.to(tokens.dtype)
        return lambda: torch.autograd.grad(tokens, leaves, grad, retain_graph=True)

    return provider


SIMILARITY = {
    "tidy whole": tidy_similarity(tidy.similarity_whole),
    "tidy chunked": tidy_similarity(tidy.similarity_chunked),
    "published": by_published,
    "compiled": compiled,
    "numkong cdist": peer(peers.numkong_cdist),
    "numkong packed": peer(peers.numkong_packed),
    "faiss pairwise": peer(peers.faiss_pairwise),
    "faiss search": peer(peers.faiss_search),
}
SELECTION = {
    "tidy picks": tidy_selection(tidy.select_by_picks),
    "tidy blocks": tidy_selection(tidy.select_by_blocks),
    "published": by_published,
    "compiled": compiled,
}
FILL = {"published": by_published, "compiled": compiled}
POOL = {
    "tidy whole": tidy_pool(tidy.pool_whole),
    "tidy difference": tidy_pool(tidy.pool_difference),
    "tidy chunked": tidy_pool(tidy.pool_chunked),
    "published": by_published,
    "compiled": compiled,
}
PROJECTED = {
    "tidy frames": tidy_pool(tidy.projected_by_frames),
    "published": by_published,
    "compiled": compiled,
}
