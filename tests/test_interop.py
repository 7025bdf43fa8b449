"""Arrays of NumPy, and of a library known only by DLPack, in and out of each public op."""

import warnings

import array_api_strict
import ml_dtypes
import numpy as np
import pytest
import torch

import vilamp_kernels as vk
from vilamp_kernels import backends
from vilamp_kernels.testing import moved, pool_inputs, projection, video_frames

FRAMES = video_frames(9, 6)
SCORES = vk.similarity(FRAMES, FRAMES[:2])
INDICES = torch.tensor([[1, 5, -1], [0, 2, 8]])
POOL = pool_inputs(9, 5, 6, questions=2)
MAPS = projection(6, 6, 8, e=7)


class Foreign:
    """An array of a library that torch has never heard of: DLPack and a namespace, as CuPy has."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()

    def __array_namespace__(self, api_version=None):
        return Foreign

    @classmethod
    def from_dlpack(cls, other):
        return cls(torch.from_dlpack(other))


class Nameless:
    """DLPack and nothing else."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.__dlpack_device__ = tensor.__dlpack_device__

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)


KINDS = {
    # kind -> (from a tensor, type of results, back to a tensor)
    "numpy": (lambda t: t.numpy(), np.ndarray, torch.from_numpy),
    "strict": (
        array_api_strict.from_dlpack,
        type(array_api_strict.zeros(1)),
        torch.from_dlpack,
    ),
    "foreign": (Foreign, Foreign, lambda a: a.tensor),
    "nameless": (Nameless, torch.Tensor, lambda a: a),
}


def stream(patches, queries, references, maps):
    merger = vk.StreamingMerger(queries, references, alpha=0.1, projection=maps)
    return merger.push(patches, 0, return_weights=True)


CALLS = {
    "similarity": (vk.similarity, (FRAMES, FRAMES[:2])),
    "select_keyframes": (vk.select_keyframes, (FRAMES, SCORES, 4, 0.8, 0.0, "even")),
    "fill_keyframes": (vk.fill_keyframes, (SCORES > 0.5, 5)),
    "reference_frames": (vk.reference_frames, (INDICES, 9)),
    "differential_pool": (vk.differential_pool, (*POOL, torch.tensor(0.1))),
    "projected_differential_pool": (
        vk.projected_differential_pool,
        (*POOL, *projection(6, 6, 8)[:8]),
    ),
    "StreamingMerger": (stream, (*POOL[:2], vk.reference_frames(INDICES, 9), MAPS)),
}


def change(function, value):
    if isinstance(value, vk.Projection):
        return vk.Projection(*(change(function, v) for v in value))
    return function(value) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op", CALLS)
def test_results_are_in_kind_and_equal_those_of_tensors(op, kind):
    function, arguments = CALLS[op]
    there, type_of_results, back = KINDS[kind]
    out = function(*(change(there, value) for value in arguments))
    wanted = function(*arguments)
    pairs = zip(out, wanted, strict=True) if isinstance(wanted, tuple) else [(out, wanted)]
    for ours, theirs in pairs:
        assert type(ours) is type_of_results
        assert torch.equal(back(ours), theirs)


def test_arguments_by_name_and_numpy_numbers():
    frames, scores = FRAMES.numpy(), SCORES.numpy()
    out, count = vk.select_keyframes(scores=scores, frames=frames, k=np.int64(4), tau=np.float32(2))
    assert isinstance(out, np.ndarray) and isinstance(count, np.ndarray)
    assert torch.equal(torch.from_numpy(out), vk.select_keyframes(FRAMES, SCORES, 4, 2.0)[0])
    # A number of NumPy is a number, whatever kind the arrays are.
    assert vk.select_keyframes(FRAMES, SCORES, np.int64(4))[0].shape == (2, 4)


def seen_by(monkeypatch, *arrays):
    """The addresses at which the op itself finds the frames and queries."""
    found = []

    def spy(frames, queries, eps):
        found.extend((frames.data_ptr(), queries.data_ptr()))
        return torch.zeros(frames.shape[0], queries.shape[1], frames.shape[1])

    monkeypatch.setitem(backends.IMPLS["similarity"], "reference", spy)
    with vk.use_backend("reference"):
        vk.similarity(*arrays)
    monkeypatch.undo()
    return found


def test_memory_is_shared_not_copied(monkeypatch):
    frames = np.random.default_rng(moved(0)).random((20, 6), dtype=np.float32)
    frames.flags.writeable = False
    for view in (frames, frames[::2], frames[:, ::2], np.broadcast_to(frames[:1], (5, 6))):
        assert seen_by(monkeypatch, view, view) == [view.ctypes.data] * 2
    low = frames.astype(ml_dtypes.bfloat16)
    assert seen_by(monkeypatch, low, low) == [low.ctypes.data] * 2
    foreign = Foreign(torch.ones(3, 4))
    assert seen_by(monkeypatch, foreign, foreign) == [foreign.tensor.data_ptr()] * 2


def fields(array):
    """The same numbers as a field of records: strides that are no multiple of the element."""
    records = np.zeros(array.shape, dtype=[("pad", "i1"), ("x", array.dtype)])
    records["x"] = array
    return records["x"]


LAYOUTS = {
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "negative-rows": lambda a: a[::-1].copy()[::-1],
    "negative-columns": lambda a: a[:, ::-1].copy()[:, ::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "fields": fields,
    "fortran": np.asfortranarray,
    "subclass": lambda a: a.view(np.memmap),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_numpy_without_a_warning_and_unwritten(layout):
    frames = LAYOUTS[layout](FRAMES.numpy())
    before = frames.copy()
    torch.set_warn_always(True)  # some warnings come once per process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            out = vk.similarity(frames, frames[:2])
    finally:
        torch.set_warn_always(False)
    assert torch.equal(torch.from_numpy(out), SCORES)
    assert np.array_equal(frames, before)


def test_the_memory_of_a_read_only_array_lives_as_long_as_a_merger():
    queries = LAYOUTS["read-only"](POOL[1].numpy())
    merger = vk.StreamingMerger(queries, np.full((2, 9), -1))
    wanted = vk.differential_pool(*POOL[:3], torch.full((2, 9), -1))
    del queries
    junk = [np.full((2, 6), np.nan, np.float32) for _ in range(100)]
    assert torch.equal(torch.from_numpy(merger.push(POOL[0].numpy(), 0)), wanted)
    assert junk


@pytest.mark.parametrize("order", ["=", ">"])
def test_bfloat16_of_ml_dtypes(order):
    low = [t.bfloat16() for t in POOL[:3]]
    arrays = [t.float().numpy().astype(ml_dtypes.bfloat16) for t in low]
    if order == ">":
        arrays[0] = arrays[0].astype(np.dtype(ml_dtypes.bfloat16).newbyteorder(">"))
    tokens, weights = vk.differential_pool(*arrays, POOL[3].numpy(), return_weights=True)
    wanted = vk.differential_pool(*low, POOL[3], return_weights=True)
    assert tokens.dtype == ml_dtypes.bfloat16
    assert np.array_equal(tokens.astype(np.float32), wanted[0].float().numpy())
    assert np.array_equal(weights, wanted[1].numpy())


def test_empty_arrays():
    assert vk.similarity(np.ones((0, 3)), np.ones((2, 3))).shape == (2, 0)


def test_a_bool_result_and_an_unknown_type_of_numbers():
    assert vk.fill_keyframes(np.zeros(4, bool), 2).dtype == bool
    for bad in (np.ones((2, 3), object), np.ones((2, 3), "S1"), np.ones((2, 3), complex)):
        with pytest.raises(ValueError, match=r"^similarity: wanted .*; given .*"):
            vk.similarity(bad, bad)


BIG = np.zeros((1000, 1000), np.float32)
MIXED = {
    "tensor and numpy": lambda: vk.similarity(FRAMES, BIG),
    "numpy and tensor": lambda: vk.similarity(BIG, queries=FRAMES),
    "numpy and foreign": lambda: vk.similarity(BIG, Foreign(FRAMES)),
    "two libraries": lambda: vk.similarity(Foreign(FRAMES), Nameless(FRAMES)),
    "alpha": lambda: vk.differential_pool(*(t.numpy() for t in POOL), torch.tensor(0.1)),
    "maps": lambda: vk.StreamingMerger(
        POOL[1].numpy(), np.full((2, 9), -1), projection=projection(6, 6, 8)
    ),
    "lengths": lambda: vk.select_keyframes(FRAMES, SCORES, 3, lengths=np.array(3)),
}


@pytest.mark.parametrize("case", MIXED)
def test_kinds_do_not_mix(case):
    wanted = "wanted tensors only, or arrays of one library; given"
    with pytest.raises(ValueError, match=rf"^\w+: {wanted} .*") as caught:
        MIXED[case]()
    assert len(str(caught.value)) < 500


LONG = {
    "list": lambda: vk.similarity(BIG.tolist(), BIG.tolist()),
    "string": lambda: vk.similarity(FRAMES, "x" * 10_000),
    "tau": lambda: vk.select_keyframes(FRAMES, SCORES, 3, tau=BIG),
    "lengths": lambda: vk.select_keyframes(
        torch.ones(1000, 2, 3), torch.ones(1000, 1, 2), 1, lengths=torch.full((1000,), 3)
    ),
    "dtype": lambda: vk.similarity(BIG.astype(int), BIG.astype(int)),
}


@pytest.mark.parametrize("case", LONG)
def test_errors_print_no_arrays(case):
    with pytest.raises(ValueError, match=r"^\w+: wanted .*; given .*") as caught:
        LONG[case]()
    assert len(str(caught.value)) < 300


def test_a_tensor_pays_for_nothing(monkeypatch):
    monkeypatch.setattr("vilamp_kernels._interop._call", None)
    with torch.inference_mode():
        vk.differential_pool(*POOL, 0.1)
        vk.StreamingMerger(POOL[1], vk.reference_frames(INDICES, 9)).push(POOL[0], 0)
