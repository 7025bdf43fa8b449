"""The C++ kernels give the same bits for any number of threads."""

import pytest
import torch

import vilamp_kernels as vk
from vilamp_kernels import cpu
from vilamp_kernels.testing import generator, pool_inputs, projection, video_frames

THREADS = (1, 2, 3, 7)


@pytest.fixture(autouse=True)
def cpu_backend(backend):
    if backend != "cpu":
        pytest.skip("torch's own products may depend on the number of threads")


def similarity():
    g = generator(0)
    frames, queries = torch.randn(2, 3000, 130, generator=g), torch.randn(2, 3, 130, generator=g)
    return vk.similarity, (frames, queries)


def selection():
    frames = video_frames(5000, 64)
    scores = vk.similarity(frames, frames[:3] + frames[100:103])
    return lambda f, s: vk.select_keyframes(f, s, 500, 0.9, fill="even"), (frames, scores)


def pooling():
    patches, queries, references, assignment = pool_inputs(150, 30, 100, questions=2, bank=4)

    def pool(patches, queries, references):
        return vk.differential_pool(
            patches, queries, references, assignment, 0.1, return_weights=True
        )

    return pool, (patches, queries, references)


def projected():
    patches, _, references, assignment = pool_inputs(5, 110, 64, questions=2, bank=2)
    maps = [t.bfloat16() for t in projection(64, 32, 70)[:8]]
    queries = torch.randn(2, 32, generator=generator(3)).bfloat16()
    inputs = patches.bfloat16(), queries, references.bfloat16()
    return lambda *t: vk.projected_differential_pool(*t, assignment, *maps, 0.1).detach(), inputs


CASES = {f.__name__: f for f in (similarity, selection, pooling, projected)}


@pytest.mark.parametrize("case", CASES)
def test_same_bits(case):
    if case == "projected" and cpu.instruction_set() != "avx512_bf16":
        pytest.skip("its matrix products are torch's, which may depend on the number of threads")
    function, inputs = CASES[case]()
    before = torch.get_num_threads()
    results = []
    try:
        for threads in THREADS:
            torch.set_num_threads(threads)
            leaves = [t.detach().requires_grad_() for t in inputs]
            out = function(*leaves)
            out = out if isinstance(out, tuple) else (out,)
            smooth = [t for t in out if t.requires_grad]
            grads = (
                torch.autograd.grad(sum(t.sin().sum() for t in smooth), leaves) if smooth else ()
            )
            results.append((*(t.detach() for t in out), *grads))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
