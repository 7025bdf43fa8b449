"""What a piece of torch code allocates and multiplies, followed operation by operation.

`Meter` watches every operation that reaches the dispatcher: the bytes of each new storage are added
when it appears and taken off when it is freed. With `fake=True` nothing is computed: tensors of
floats are fake (they have shapes, dtypes and lifetimes, but no numbers), so a model of any size
runs through its own code without weights. Indices, masks and other integers stay real, since code
decides by them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import flops, stand_ins

FAKES = FakeTensorMode(allow_non_fake_inputs=True)
"""Fake tensors know the mode that made them and do not mix with those of another."""

Workspace = Callable[[str, tuple], int]
"""Bytes that an op (`namespace::name`, its arguments) needs while it runs, beside its results."""


@dataclass
class Reading:
    """What a stretch of code did."""

    peak: int = 0
    """Most bytes held at once, what was there before included."""
    flops: int = 0
    """2 per multiply-add, see `vilamp.profile.flops`."""


class Meter(TorchDispatchMode):
    """Counts bytes and products of what runs inside `with Meter():`.

    Args:
        fake: compute nothing, see the module.
        workspace: bytes that an op holds only while it runs; the results of an op are counted by
            themselves.
    """

    def __init__(self, *, fake: bool = True, workspace: Workspace | None = None):
        super().__init__()
        self.held = 0
        """Bytes held now."""
        self.now = Reading()
        """Since the last `start`."""
        self._fake = fake
        self._workspace = workspace or (lambda op, args: 0)
        self._sizes: dict[weakref.ref, int] = {}
        self._known: dict[int, weakref.ref] = {}

    def start(self) -> Reading:
        """Begin a new reading, from what is held now."""
        self.now = Reading(peak=self.held)
        return self.now

    def add(self, peak: int, products: int) -> None:
        """Count work that is not run: it held `peak` bytes at most, what is held now included."""
        self.now.peak = max(self.now.peak, peak)
        self.now.flops += products

    def track(self, *tensors: Tensor) -> None:
        """Count tensors that were made elsewhere, such as weights."""
        for tensor in tensors:
            self._track(tensor)

    def release(self, *tensors: Tensor) -> None:
        """Stop counting tensors that are still alive, as if they had been moved elsewhere."""
        for tensor in tensors:
            reference = self._known.get(tensor.untyped_storage()._cdata)
            if reference is not None:
                self.held -= self._sizes[reference]
                self._sizes[reference] = 0

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A tensor without numbers (a real one unless `fake`)."""
        if not self._fake:
            return torch.empty(shape, dtype=dtype)
        with FAKES:
            return torch.empty(shape, dtype=dtype)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args)
        result = self._run(func, args, kwargs)
        op = func._schema.name
        self.now.flops += flops.count(func, args, kwargs, result)
        inner = self._workspace(op, args)
        for tensor in _tensors(result):
            self._track(tensor)
        self.now.peak = max(self.now.peak, self.held + inner)
        return result

    def _run(self, func, args: tuple, kwargs: dict):
        if not self._fake:
            return func(*args, **kwargs)
        inputs = _tensors((args, kwargs))
        if any(isinstance(tensor, FakeTensor) for tensor in inputs):
            stand_in = stand_ins.CHOICES.get(func)
            if stand_in is not None:
                return stand_in(*args, **kwargs)
        elif inputs or not _makes_floats(args, kwargs):
            return func(*args, **kwargs)
        with FAKES:
            return func(*args, **kwargs)

    def _track(self, tensor: Tensor) -> None:
        if tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        address, size = storage._cdata, storage.nbytes()

        def forget(reference: weakref.ref) -> None:
            del self._known[address]
            self.held -= self._sizes.pop(reference)

        # The Python object of a storage lives as long as the storage.
        reference = weakref.ref(storage, forget)
        self._known[address], self._sizes[reference] = reference, size
        self.held += size
        self.now.peak = max(self.now.peak, self.held)


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _makes_floats(args: tuple, kwargs: dict) -> bool:
    """Whether an operation without inputs, such as `full`, gives floats."""
    if kwargs.get("dtype") is not None:
        return kwargs["dtype"].is_floating_point
    numbers = [arg for arg in args if isinstance(arg, int | float)]
    return not numbers or any(isinstance(number, float) for number in numbers)
