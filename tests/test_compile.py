"""All ops under torch.compile: one graph, no break, no recompile for another length."""

import pytest
import torch

import vilamp_kernels as vk
from vilamp_kernels.backends import IMPLS
from vilamp_kernels.testing import pool_inputs, projection, video_frames

LENGTHS = (7, 12, 40)
MAPS = projection(6, 9, 8, e=10)


def similarity(n):
    frames = video_frames(n, 6)
    return vk.similarity, (frames, frames[:2] + 1)


def selection(n):
    def choose(frames, scores, k):
        indices, count = vk.select_keyframes(frames, scores, k, 0.8, 0.1, fill="even")
        return indices, count, vk.reference_frames(indices, frames.shape[0], "released")

    frames = video_frames(n, 6)
    return choose, (frames, vk.similarity(frames, frames[:2]).detach(), 5)


def fill(n):
    return vk.fill_keyframes, (torch.arange(n) % 6 == 5, 4)


def plain(n):
    def pool(patches, queries, references, assignment):
        return vk.differential_pool(
            patches, queries, references, assignment, 0.1, return_weights=True
        )

    return pool, pool_inputs(n, 5, 6, questions=3, bank=2)


def projected(n):
    def pool(patches, queries, references, assignment, alpha):
        return vk.projected_differential_pool(
            patches,
            queries,
            references,
            assignment,
            *MAPS[:8],
            alpha,
            output_weight=MAPS.output_weight,
            output_bias=MAPS.output_bias,
        )

    patches, _, references, assignment = pool_inputs(n, 5, 6, questions=3, bank=2)
    return pool, (patches, video_frames(3, 9), references, assignment, torch.tensor(0.1))


CASES = {f.__name__: f for f in (similarity, selection, fill, plain, projected)}


def results(function, arguments):
    """Outputs, and the gradients of all floating arguments when the outputs have one."""
    arguments = [
        t.detach().clone().requires_grad_(t.is_floating_point())
        if isinstance(t, torch.Tensor)
        else t
        for t in arguments
    ]
    out = function(*arguments)
    out = out if isinstance(out, tuple) else (out,)
    smooth = [t for t in out if t.requires_grad]
    inputs = [t for t in arguments if isinstance(t, torch.Tensor) and t.requires_grad]
    if not smooth:
        return out
    return *out, *torch.autograd.grad(sum(t.sin().sum() for t in smooth), inputs)


@pytest.mark.parametrize("case", CASES)
def test_one_graph_for_all_lengths(case):
    torch._dynamo.reset()
    compiled = torch.compile(
        CASES[case](LENGTHS[0])[0], fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for n in LENGTHS:
        function, arguments = CASES[case](n)
        # The first length compiles; from then on a recompile is an error.
        with torch.compiler.set_stance("default" if n == LENGTHS[0] else "fail_on_recompile"):
            torch.testing.assert_close(results(compiled, arguments), results(function, arguments))
    for n in (0, 1):
        function, arguments = CASES[case](n)
        torch.testing.assert_close(results(compiled, arguments), results(function, arguments))


def test_under_autocast():
    torch._dynamo.reset()
    frames = video_frames(9, 6)
    compiled = torch.compile(vk.similarity, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = compiled(frames.bfloat16(), frames[:2])
    assert torch.equal(out, vk.similarity(frames.bfloat16().float(), frames[:2]))


def test_a_forced_backend_holds_in_a_compiled_program(monkeypatch):
    torch._dynamo.reset()
    frames = video_frames(9, 6)
    compiled = torch.compile(
        lambda f: vk.select_keyframes(f, f[:, :1].mT.contiguous(), 3)[0],
        fullgraph=True,
        backend="aot_eager",
    )
    compiled(frames)
    monkeypatch.delitem(IMPLS["select_keyframes"], "cpu", raising=False)
    with vk.use_backend("cpu"), pytest.raises(ValueError, match="backend 'cpu' was forced"):
        compiled(frames)


def test_inference_mode_and_export():
    frames = video_frames(9, 6)
    with torch.inference_mode():
        out = vk.similarity(frames, frames[:2])
    assert torch.equal(out, vk.similarity(frames, frames[:2]))

    class Module(torch.nn.Module):
        def forward(self, frames, queries):
            return vk.select_keyframes(frames, vk.similarity(frames, queries), 3)

    shapes = ({0: torch.export.Dim("n", min=2)}, None)
    program = torch.export.export(Module(), (frames, frames[:2]), dynamic_shapes=shapes)
    longer = video_frames(31, 6)
    assert torch.equal(program.module()(longer, longer[:2])[0], Module()(longer, longer[:2])[0])
