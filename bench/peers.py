"""Other libraries that do the same job. One that is not installed is skipped.

`similarity`: NumKong (cosine distances) and faiss (inner products). faiss has no cosine, so it is
given rows that were normalised outside the clock: it does less than the op does.

`select_keyframes` has no peer. Facility location (apricot, submodlib) and farthest-point sampling
(fpsample) optimise another objective and know no relevance; maximal marginal relevance (pyversity)
trades relevance against similarity and has no threshold. None chooses the same frames.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.nn.functional import normalize

Call = Callable[[], Tensor]


def version(name: str) -> str:
    """Version of a peer, or an empty string when it is not installed."""
    try:
        return importlib.import_module(name).__version__
    except ImportError:
        return ""


def numkong_cdist(frames: Tensor, queries: Tensor) -> Call:
    """Its pairwise distances, on one thread: they have no others."""
    import numkong

    a, b = numkong.from_dlpack(queries), numkong.from_dlpack(frames)
    return lambda: 1 - torch.from_dlpack(numkong.cdist(a, b, "angular"))


def numkong_packed(frames: Tensor, queries: Tensor) -> Call:
    """Its batched form: questions packed, frames split over the threads of torch."""
    import numkong

    n, threads = frames.shape[0], torch.get_num_threads()
    rows, questions = numkong.from_dlpack(frames), numkong.from_dlpack(queries)
    # It gives fp64 for fp32 rows, fp32 for bf16 rows, and takes no other `out`.
    dtype = torch.float64 if frames.dtype == torch.float32 else torch.float32
    out = torch.empty(n, queries.shape[0], dtype=dtype)
    distances = numkong.from_dlpack(out)
    bounds = [n * part // threads for part in range(threads + 1)]
    pool = ThreadPoolExecutor(threads)

    def run() -> Tensor:
        packed = numkong.dots_pack(questions)

        def part(first: int, last: int) -> None:
            numkong.angulars_packed(rows, packed, out=distances, start_row=first, end_row=last)

        list(pool.map(part, bounds[:-1], bounds[1:]))
        return (1 - out).mT

    return run


def _faiss():
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def faiss_pairwise(frames: Tensor, queries: Tensor) -> Call:
    """All inner products of rows that are already unit vectors. fp32 only."""
    faiss = _faiss()
    if frames.dtype != torch.float32:
        raise NotImplementedError("faiss has no inner products of all rows in this dtype")
    base, asked = (normalize(t, dim=-1).numpy() for t in (frames, queries))
    metric = faiss.METRIC_INNER_PRODUCT
    return lambda: torch.from_numpy(faiss.pairwise_distances(asked, base, metric=metric))


def faiss_search(frames: Tensor, queries: Tensor) -> Callable[[], tuple]:
    """IndexFlatIP: all inner products, of which it gives the best 32. fp32 only."""
    faiss = _faiss()
    if frames.dtype != torch.float32:
        raise NotImplementedError("IndexFlatIP holds fp32")
    base, asked = (normalize(t, dim=-1).numpy() for t in (frames, queries))
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base)
    k = min(32, base.shape[0])
    return lambda: index.search(asked, k)


def spread(found: tuple, n: int) -> Tensor:
    """Result of `faiss_search` as `[Q, N]`, NaN where nothing was given."""
    scores, indices = (torch.from_numpy(part) for part in found)
    out = torch.full((scores.shape[0], n), torch.nan)
    return out.scatter_(1, indices, scores)
