"""What holds for every op on any input, as hypothesis strategies and checks.

`test_properties.py` runs them a little, the same cases each time; `test_fuzz.py` for long, with
random seeds. Each check runs on the reference and on the C++ kernels.
"""

import itertools
import math

import oracles
import torch
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity, linear

import vilamp_kernels as vk
from vilamp_kernels import backends
from vilamp_kernels.testing import generator, projection

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SPECIALS = ("none", "none", "zeros", "duplicates", "nan", "inf", "tiny")
LAYOUTS = {
    "dense": lambda t: t,
    "rows apart": lambda t: t.repeat_interleave(2, -2)[..., ::2, :],
    "last stride 2": lambda t: t.repeat_interleave(2, -1)[..., ::2],
    "transposed": lambda t: t.mT.contiguous().mT,
    "unaligned": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
    "expanded": lambda t: t[..., :1, :].expand(t.shape),
}
seeds, layouts = st.integers(0, 2**31), st.sampled_from(list(LAYOUTS))


def having(op):
    """The backends of `op` that can run here at speed: an interpreter of GPU kernels is too slow
    for hundreds of inputs."""
    found = vk.available_backends()
    return [
        name
        for name in ("reference", "cpu")
        if name in backends.IMPLS[op] and found[name].available
    ]


@st.composite
def tensors(draw, *shape, dtype):
    """Normal numbers of some scale, with some rows replaced by special ones, in some layout."""
    g = generator(draw(seeds))
    out = torch.randn(*shape, generator=g) * draw(st.sampled_from([1.0, 1.0, 1e-3, 50.0]))
    special = draw(st.sampled_from(SPECIALS))
    rows = torch.rand(shape[:-1], generator=g) < 0.3
    if special == "zeros":
        out[rows] = 0
    elif special == "duplicates" and rows.any():
        out[rows] = out[rows][0].clone()
    elif special in ("nan", "inf") and shape[-1]:
        column = draw(st.integers(0, shape[-1] - 1))
        out[..., column][rows] = math.nan if special == "nan" else -math.inf
    elif special == "tiny":
        out[rows] *= 1e-12
    return LAYOUTS[draw(layouts)](out.to(dtype))


def acc(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def near(out, ref, budget):
    """NaN in the same places, the rest at most `budget` apart (a number or a tensor)."""
    assert out.shape == ref.shape
    assert torch.equal(out.isnan(), ref.isnan()), (out, ref)
    error = (out.double() - ref).abs().nan_to_num(0)
    assert (error <= budget).all(), (error.max(), budget)


sizes = st.integers(0, 9)
widths = st.sampled_from([0, 1, 2, 7, 15, 16, 17, 33, 64])


@st.composite
def similarity_cases(draw):
    b, n, q, d = draw(st.integers(0, 2)), draw(sizes), draw(st.integers(0, 4)), draw(widths)
    dtype = draw(st.sampled_from(DTYPES))
    return draw(tensors(b, n, d, dtype=dtype)), draw(tensors(b, q, d, dtype=dtype))


def cosine_error(width, dtype):
    """Bound on the rounding of a cosine: a sum of `width` products, two norms, two divisions."""
    return (width + 8) * torch.finfo(acc(dtype)).eps


def similarity_holds(frames, queries):
    ref = oracles.similarity(frames.double(), queries.double())
    for backend in having("similarity"):
        with vk.use_backend(backend):
            out = vk.similarity(frames, queries)
        assert out.dtype == acc(frames.dtype)
        near(out, ref, cosine_error(frames.shape[-1], frames.dtype))


THRESHOLDS = st.one_of(
    st.sampled_from([-1.0, 0.0, 0.6, 1.0, 1.5, math.inf, -math.inf]), st.floats(-1, 1)
)


@st.composite
def selection_cases(draw):
    n, d = draw(st.integers(0, 25)), draw(st.sampled_from([1, 2, 3, 16]))
    dtype = draw(st.sampled_from(DTYPES))
    frames = draw(tensors(n, d, dtype=dtype))
    if draw(st.booleans()):
        # Few scores: nearly every order is decided by a tie.
        g = generator(draw(seeds))
        choices = torch.tensor([0.0, -0.0, 0.5, 1.0, math.nan, math.inf, -math.inf])
        scores = choices[torch.randint(0, draw(st.integers(2, 7)), (2, n), generator=g)]
        scores = scores.to(acc(dtype))
    else:
        scores = draw(tensors(2, n, dtype=acc(dtype)))
    k, tau = draw(st.integers(0, n + 3)), draw(THRESHOLDS)
    if n > 1 and draw(st.booleans()):
        # A threshold next to a cosine that occurs: a decision that hangs on little.
        pair = frames[draw(st.integers(1, n - 1))].double(), frames[0].double()
        cosine = cosine_similarity(*pair, dim=0, eps=1e-8).nan_to_num(0).item()
        tau = cosine + draw(st.sampled_from([-1e-4, 0.0, 1e-4]))
    min_score = draw(st.none() | THRESHOLDS)
    return frames, scores, k, tau, min_score, draw(st.integers(0, n))


MARGIN = 1e-5


def greedy(frames, scores, k, tau, min_score, chosen):
    """Each frame that was taken, or not, had a reason to be, up to the rounding of a cosine."""
    cosines = oracles.similarity(frames.double()[None], frames.double()[None])[0]
    values = scores.tolist()
    order = sorted(
        range(len(values)),
        key=lambda i: (not math.isnan(values[i]), 0 if math.isnan(values[i]) else -values[i], i),
    )
    floor = -math.inf if min_score is None else torch.tensor(min_score, dtype=scores.dtype).item()
    taken = []
    for i in order:
        alike = cosines[i, taken]
        if i in chosen:
            assert not values[i] < floor
            assert not (alike > tau + MARGIN).any()
            taken.append(i)
        else:
            full = len(taken) == k
            assert full or values[i] < floor or (alike > tau - MARGIN).any()


def selection_holds(frames, scores, k, tau, min_score, length):
    inside = frames[:length]
    cosines = oracles.similarity(inside.double()[None], inside.double()[None])[0]
    clear = not ((cosines - tau).abs() < MARGIN).any()
    lengths = torch.tensor(length)
    for backend in having("select_keyframes"):
        with vk.use_backend(backend):
            indices, count = vk.select_keyframes(frames, scores, k, tau, min_score, None, lengths)
            filled, _ = vk.select_keyframes(frames, scores, k, tau, min_score, "even", lengths)
        for q in range(scores.shape[0]):
            chosen = [i for i in indices[q].tolist() if i >= 0]
            assert indices[q].tolist() == sorted(set(chosen)) + [-1] * (k - len(chosen))
            assert count[q] == len(chosen)
            given = scores[q, :length]
            greedy(inside, given, k, tau, min_score, chosen)
            if clear:
                floor = min_score if min_score is None else given.new_tensor(min_score).item()
                wanted = oracles.select(inside.double(), given.tolist(), k, tau, floor)
                assert chosen == sorted(wanted)
            mask = oracles.fill([i in chosen for i in range(length)], k)
            wanted = [i for i, there in enumerate(mask) if there]
            assert filled[q].tolist() == wanted + [-1] * (k - len(wanted))


@st.composite
def mask_cases(draw):
    mask = torch.tensor(draw(st.lists(st.booleans(), max_size=40)), dtype=torch.bool)
    return mask, draw(st.integers(0, 45)), draw(st.booleans())


def fill_holds(mask, k, strided):
    given = mask.repeat_interleave(2)[::2] if strided else mask
    for backend in having("fill_keyframes"):
        with vk.use_backend(backend):
            out = vk.fill_keyframes(given, k)
        assert out.tolist() == oracles.fill(mask.tolist(), k)


@st.composite
def reference_cases(draw):
    n = draw(st.integers(0, 30))
    keyframes = draw(st.lists(st.integers(-1, n - 1), max_size=8))
    policy = draw(st.sampled_from(["preceding", "nearest", "released"]))
    return keyframes, n, policy, draw(st.sampled_from([torch.int64, torch.int32, torch.int8]))


def references_hold(keyframes, n, policy, dtype):
    wanted = oracles.reference_frames([p for p in set(keyframes) if p >= 0], n, policy)
    for backend in having("reference_frames"):
        with vk.use_backend(backend):
            out = vk.reference_frames(torch.tensor([keyframes], dtype=dtype), n, policy)
        assert out.tolist() == [wanted]


@st.composite
def pool_cases(draw, projected=False):
    n, m = draw(st.integers(0, 4)), draw(st.sampled_from([0, 1, 2, 5, 17]))
    c, q, r = draw(st.sampled_from([1, 3, 16, 33])), draw(st.integers(0, 3)), draw(sizes)
    dtype = draw(st.sampled_from(DTYPES))
    d = draw(st.sampled_from([1, 5])) if projected else c
    patches, references = draw(tensors(n, m, c, dtype=dtype)), draw(tensors(r, m, c, dtype=dtype))
    queries = draw(tensors(q, d, dtype=dtype))
    assignment = torch.randint(-2, max(r, 0), (q, n), generator=generator(draw(seeds)))
    alpha = draw(st.sampled_from([0.05, 1.0, -0.2]))
    lam = draw(st.sampled_from([1.0, 0.0, -2.0]))
    maps = None
    if projected:
        e = draw(st.sampled_from([None, 4]))
        maps = projection(c, d, 7, e=e, biases=draw(st.booleans()), seed=draw(seeds))
        maps = vk.Projection(*(None if t is None else t.to(dtype) for t in maps))
    return patches, queries, references, assignment, alpha, lam, maps


def stretch(weight, bias, x):
    """By how much `W x + b` can cancel: the sum of magnitudes over the norm of the sum."""
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    sums = linear(x.abs(), weight.abs(), bias.abs()).norm(dim=-1)
    ratio = sums / linear(x, weight, bias).norm(dim=-1).clamp_min(1e-8)
    return ratio.nan_to_num(1).amax().item() if ratio.numel() else 1.0


def pool_error(patches, queries, references, maps):
    """Bound on the rounding of a cosine of the pooling, for these very tensors."""
    error = cosine_error(patches.shape[-1], patches.dtype)
    if maps is None:
        return error
    wide = vk.Projection(*(None if t is None else t.double() for t in maps))
    x, key, inner = patches.double(), references.double(), 1.0
    if wide.output_weight is not None:
        # The maps are folded: what cancels in the last layer cancels in their sums too.
        inner = max(stretch(wide.output_weight, wide.output_bias, t) for t in (x, key))
        x, key = (linear(t, wide.output_weight, wide.output_bias) for t in (x, key))
    worst = max(
        stretch(wide.w_iq, wide.b_iq, x),
        stretch(wide.w_ik, wide.b_ik, x),
        stretch(wide.w_q, wide.b_q, queries.double()),
        stretch(wide.w_k, wide.b_k, key),
    )
    return 4 * cosine_error(patches.shape[-1] + 16, patches.dtype) * (1 + worst * inner)


def pool_budget(patches, queries, references, alpha, lam, maps):
    """How far tokens and weights may be from the exact ones."""
    # An error of a logit is one of a weight, relative, and at most doubled by the sum over patches.
    logit = 2 * (1 + abs(lam)) / abs(alpha) * pool_error(patches, queries, references, maps)
    weight = (
        math.expm1(min(2 * logit, 30))
        + (patches.shape[1] + 8) * torch.finfo(acc(patches.dtype)).eps
    )
    finite = patches.double().nan_to_num(0, 0, 0)
    if maps is not None and maps.output_weight is not None:
        bias = None if maps.output_bias is None else maps.output_bias.double().abs()
        finite = linear(finite.abs(), maps.output_weight.double().abs(), bias)
    size = finite.abs().amax().item() if finite.numel() else 0.0
    rounding = torch.finfo(patches.dtype)
    token = size * (2 * weight + rounding.eps) + rounding.tiny
    return token, weight


def pool_holds(patches, queries, references, assignment, alpha, lam, maps):
    op = "differential_pool" if maps is None else "projected_differential_pool"
    wide = maps and vk.Projection(*(None if t is None else t.double() for t in maps))
    doubles = [t.double() for t in (patches, queries, references)]
    tokens_ref, weights_ref = oracles.pool(*doubles, assignment, alpha, lam, wide)
    token, weight = pool_budget(patches, queries, references, alpha, lam, maps)
    for backend in having(op):
        with vk.use_backend(backend):
            given = (patches, queries, references, assignment, alpha, lam, maps)
            tokens, weights = pool(*given, return_weights=True)
        assert tokens.dtype == patches.dtype
        if patches.shape[1]:
            near(tokens, tokens_ref, token)
        near(weights, weights_ref, weight)


@st.composite
def stream_cases(draw):
    patches, queries, _, _, alpha, lam, maps = draw(pool_cases(projected=draw(st.booleans())))
    n, k = patches.shape[0], draw(st.integers(0, 3))
    indices = torch.randint(-1, max(n, 0), (queries.shape[0], k), generator=generator(draw(seeds)))
    policy = draw(st.sampled_from(["preceding", "released"]))
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=4)))
    return (
        patches,
        queries,
        vk.reference_frames(indices, n, policy),
        alpha,
        lam,
        maps,
        [0, *cuts, n],
    )


def pool(patches, queries, references, assignment, alpha, lam, maps, **options):
    """Either pooling op, by whether there are maps."""
    if maps is None:
        call, rest = vk.differential_pool, ()
    else:
        call, rest = vk.projected_differential_pool, maps[:8]
        options |= {"output_weight": maps.output_weight, "output_bias": maps.output_bias}
    return call(patches, queries, references, assignment, *rest, alpha, lam, **options)


def stream_holds(patches, queries, references, alpha, lam, maps, cuts):
    whole = pool(patches, queries, patches, references, alpha, lam, maps)
    merger = vk.StreamingMerger(queries, references, alpha=alpha, lam=lam, projection=maps)
    parts = [merger.push(patches[a:b], a) for a, b in itertools.pairwise(cuts)]
    token, _ = pool_budget(patches, queries, patches, alpha, lam, maps)
    near(torch.cat(parts, 1), whole.double(), 2 * token)


PROPERTIES = {
    "similarity": (similarity_cases(), similarity_holds),
    "select_keyframes": (selection_cases(), selection_holds),
    "fill_keyframes": (mask_cases(), fill_holds),
    "reference_frames": (reference_cases(), references_hold),
    "differential_pool": (pool_cases(), pool_holds),
    "projected_differential_pool": (pool_cases(projected=True), pool_holds),
    "StreamingMerger": (stream_cases(), stream_holds),
}
