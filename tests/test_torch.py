"""The ops as citizens of PyTorch: opcheck, transforms, compiling, export, modes."""

import pytest
import torch
from torch.autograd import forward_ad

import vilamp_kernels as vk
from vilamp_kernels import backends
from vilamp_kernels.testing import generator, pool_inputs, projection, video_frames

OPS = torch.ops.vilamp_kernels
MAPS = projection(6, 6, 8)


def reversed_storage(tensor):
    """The same tensor with its dimensions stored in reverse order."""
    axes = tuple(reversed(range(tensor.ndim)))
    return tensor.permute(axes).contiguous().permute(axes)


LAYOUTS = {"dense": lambda t: t, "permuted": reversed_storage}


def batch(n):
    """Two videos of `n` frames: what both pooling ops are given first."""
    videos = [pool_inputs(n, 5, 6, questions=2, seed=seed) for seed in range(2)]
    return [torch.stack(tensors) for tensors in zip(*videos, strict=True)]


def random(*shape):
    return torch.randn(*shape, generator=generator(len(shape)))


def registered(n):
    """Arguments of every registered op for videos of `n` frames."""
    frames, queries, scores = random(2, n, 6), random(2, 3, 6), random(2, 3, n)
    patches, questions, bank, assignment = batch(n)
    pooled = (patches, questions, bank, assignment)
    grads = (random(2, 2, n, 6), random(2, 2, n, 5))
    scalars = (torch.tensor(0.3), torch.tensor(0.7))
    lengths = torch.tensor([n, n // 2])
    return {
        "similarity": (frames, queries, 1e-8),
        "similarity_backward": (scores, frames, queries, 1e-8),
        "select_keyframes": (frames, scores, 3, 0.5, 0.0, True, lengths, 1e-8),
        "fill_keyframes": (scores > 0, 3),
        "reference_frames": (torch.full((2, 3, 2), n - 1), n, "nearest"),
        "differential_pool": (*pooled, *scalars, 1e-8, True),
        "differential_pool_backward": (
            *(*grads, *pooled, *scalars, 1e-8),
            [True, False, True, True, False],
        ),
        "projected_differential_pool": (*pooled, *MAPS[:8], *scalars, 1e-8, True),
        "projected_differential_pool_backward": (
            *(*grads, *pooled, *MAPS[:8], *scalars, 1e-8),
            [True, True, False] * 4 + [True],
        ),
        "preprocess_frames": (
            torch.randint(0, 256, (n, 5, 7, 3), dtype=torch.uint8, generator=generator(n)),
            *([4, 6, 0, 0, 4, 6, 9, 3, 2, 1, 5, 2], [0.5] * 6, [0.25] * 6, torch.bfloat16),
        ),
        "_product": (random(n, 6), random(6, 2)),
    }


def test_no_registered_op_is_left_out():
    assert set(registered(4)) == set(backends.IMPLS)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("layout", [*LAYOUTS, "empty"])
@pytest.mark.parametrize("op", backends.IMPLS)
def test_opcheck(op, layout, requires_grad):
    arguments = registered(0 if layout == "empty" else 4)[op]
    change = LAYOUTS.get(layout, LAYOUTS["dense"])
    # A backward op has no second derivative: asked for one it raises, which is tested elsewhere.
    grad = requires_grad and not op.endswith("_backward")
    arguments = tuple(
        change(a.detach().clone()).requires_grad_(grad and a.is_floating_point())
        if isinstance(a, torch.Tensor)
        else a
        for a in arguments
    )
    torch.library.opcheck(getattr(OPS, op).default, arguments)


def plain(patches, queries, references, assignment):
    return vk.differential_pool(patches, queries, references, assignment, 0.3, return_weights=True)


def projected(patches, queries, references, assignment):
    return vk.projected_differential_pool(
        patches, queries, references, assignment, *MAPS[:8], 0.3, return_weights=True
    )


def select(frames, scores):
    return vk.select_keyframes(frames, scores, 3, 0.5, 0.0, "even")


def fill(mask):
    return vk.fill_keyframes(mask, 3)


def refer(indices, frames):
    return vk.reference_frames(indices, frames.shape[0], "nearest")


def public(n):
    """Each public op with the arguments of one video, which `n` frames long."""
    frames, scores = video_frames(n, 6), random(2, n)
    pooled = pool_inputs(n, 5, 6, questions=2)
    return {
        "similarity": (vk.similarity, (frames, frames[:2] + 1)),
        "select_keyframes": (select, (frames, scores)),
        "fill_keyframes": (fill, (scores > 0,)),
        "reference_frames": (refer, (torch.tensor([[0, n - 1]]), frames)),
        "differential_pool": (plain, pooled),
        "projected_differential_pool": (projected, pooled),
    }


PUBLIC = list(public(4))
# The argument with N frames, and where N is in it.
FRAMES_AXIS = {
    "similarity": [{0: "n"}, None],
    "select_keyframes": [{0: "n"}, {1: "n"}],
    "fill_keyframes": [{1: "n"}],
    "reference_frames": [None, {0: "n"}],
    "differential_pool": [{0: "n"}, None, None, {1: "n"}],
    "projected_differential_pool": [{0: "n"}, None, None, {1: "n"}],
}


@pytest.mark.parametrize("op", PUBLIC)
def test_export_with_any_number_of_frames(op):
    function, arguments = public(9)[op]

    class Module(torch.nn.Module):
        def forward(self, *tensors):
            return function(*tensors)

    n = torch.export.Dim("n", min=2)
    shapes = tuple(axes and dict.fromkeys(axes, n) for axes in FRAMES_AXIS[op])
    program = torch.export.export(Module(), arguments, dynamic_shapes=(shapes,))
    function, arguments = public(31)[op]
    torch.testing.assert_close(program.module()(*arguments), function(*arguments))


@pytest.mark.parametrize("op", PUBLIC)
def test_inference_mode(op):
    function, arguments = public(9)[op]
    with torch.inference_mode():
        inside = function(*(t.clone() for t in arguments))
    torch.testing.assert_close(inside, function(*arguments), rtol=0, atol=0)


@pytest.mark.parametrize("op", PUBLIC)
def test_autocast_touches_no_result(op):
    function, arguments = public(9)[op]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = function(*arguments)
    torch.testing.assert_close(inside, function(*arguments), rtol=0, atol=0)


def compiles(op, backend):
    torch._dynamo.reset()
    compiled = torch.compile(public(4)[op][0], fullgraph=True, dynamic=True, backend=backend)
    for n in (7, 2, 40):
        function, arguments = public(n)[op]
        with torch.compiler.set_stance("default" if n == 7 else "fail_on_recompile"):
            torch.testing.assert_close(compiled(*arguments), function(*arguments))


@pytest.mark.parametrize("op", PUBLIC)
def test_one_graph_from_two_frames_on(op):
    compiles(op, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("op", PUBLIC)
def test_one_graph_of_inductor(op):
    compiles(op, "inductor")


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("op", PUBLIC)
def test_vmap(op):
    videos = [public(9)[op][1], [t.roll(1, 0) for t in public(9)[op][1]]]
    function = public(9)[op][0]
    out = torch.vmap(function)(*(torch.stack(pair) for pair in zip(*videos, strict=True)))
    alone = [function(*video) for video in videos]
    if isinstance(out, tuple):
        alone = tuple(torch.stack(pair) for pair in zip(*alone, strict=True))
    else:
        alone = torch.stack(alone)
    torch.testing.assert_close(out, alone)


SMOOTH = ("similarity", "differential_pool", "projected_differential_pool")


def loss_of(op):
    function = public(4)[op][0]

    def loss(*tensors):
        out = function(*tensors)
        return sum(t.sin().sum() for t in (out if isinstance(out, tuple) else (out,)))

    return loss


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("op", SMOOTH)
def test_func_grad_and_vmap_of_it(op):
    loss, (first, *others) = loss_of(op), public(5)[op][1]
    grads = []
    for x in (first, 2 - first):
        leaf = x.clone().requires_grad_()
        grads.extend(torch.autograd.grad(loss(leaf, *others), leaf))
    grad = torch.func.grad(loss)
    torch.testing.assert_close(grad(first, *others), grads[0])
    axes = (0, *(None for _ in others))
    both = torch.vmap(grad, in_dims=axes)(torch.stack([first, 2 - first]), *others)
    torch.testing.assert_close(both, torch.stack(grads))


@pytest.mark.parametrize("op", SMOOTH)
def test_func_derivatives_beyond_the_first_in_reverse_are_refused(op):
    loss, (first, *others) = loss_of(op), public(5)[op][1]
    with pytest.raises(RuntimeError, match="first order"):
        torch.func.grad(lambda x: torch.func.grad(loss)(x, *others).sum())(first)
    with pytest.raises(RuntimeError, match="forward mode AD"):
        torch.func.jvp(lambda x: loss(x, *others), (first,), (first,))


def test_forward_mode_is_refused_not_zero():
    frames = video_frames(4, 6)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward mode AD"):
        vk.similarity(forward_ad.make_dual(frames, torch.ones_like(frames)), frames[:2])


NAN = float("nan")


@pytest.mark.parametrize("options", [{"tau": NAN}, {"min_score": NAN}, {"tau": "1"}])
def test_thresholds_are_numbers(options):
    frames = video_frames(4, 6)
    with pytest.raises(ValueError, match=r"^select_keyframes: wanted a number .*; given \w+ "):
        vk.select_keyframes(frames, frames[:1] @ frames.mT, 2, **options)


def test_above_one_nothing_is_redundant():
    frames = torch.ones(4, 6)
    for tau in (1.5, float("inf")):
        assert vk.select_keyframes(frames, torch.ones(1, 4), 3, tau)[0].tolist() == [[0, 1, 2]]


def test_thresholds_may_change_in_a_compiled_program():
    torch._dynamo.reset()
    frames = video_frames(9, 6)
    scores = vk.similarity(frames, frames[:1])
    compiled = torch.compile(vk.select_keyframes, fullgraph=True, dynamic=True, backend="aot_eager")
    for tau in (0.9, 0.1, -0.5):
        out = compiled(frames, scores, 4, tau, tau / 2)
        assert torch.equal(out[0], vk.select_keyframes(frames, scores, 4, tau, tau / 2)[0])
