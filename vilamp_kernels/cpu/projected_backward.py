"""The gradients of projected pooling on the CPU, a frame (or several small ones) at a time.

Six matrix products, all torch's: two map its patches, two take the gradients of the mapped
patches back to the patches, two to the maps. What lies between is `csrc/cpu/mapped_backward.cpp`,
which puts gradients where the mapped patches were.

Queries and references get theirs afterwards. The gradient of a mapped reference patch is a sum of
mapped patches, one for each frame compared with it; a map is linear, so the patches themselves are
summed and the sum is mapped: products for each reference, instead of for each frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..reference.numerics import acc_dtype, exact_matmul
from ..reference.pooling import check_assignment, only_wanted
from ..reference.projected import Maps
from .module import DTYPES, address, load, unit_stride
from .projected import BLOCK_BYTES, map_rows, normalise, patch_blocks, unit_queries


class Grads(NamedTuple):
    """What is wanted of the gradients, empty tensors for the rest. Those of patches and references
    are written once, in their dtypes; the others are sums in the accumulation dtype."""

    patches: Tensor
    queries: Tensor
    references: Tensor
    maps: Maps
    scalars: list[float]  # alpha and lam


class CosineGrads(NamedTuple):
    """Gradients of the cosines of one video `[Q, N, M]`: divided by the norm of the mapped patch,
    and times the cosine."""

    query_scale: Tensor
    query_own: Tensor
    key_scale: Tensor
    key_own: Tensor


class Keys(NamedTuple):
    """Mapped patches that others are compared with."""

    units: Tensor  # [..., P], of length 1
    norms: Tensor  # [...], the lengths that they had


class Inputs(NamedTuple):
    """What one video has to itself, and what all share: maps in the accumulation dtype, numbers."""

    patches: Tensor  # [N, M, C]
    queries: Tensor  # [Q, D]
    references: Tensor  # [R, M, C]
    assignment: Tensor  # [Q, N]
    grad_tokens: Tensor  # [Q, N, C]
    grad_weights: Tensor | None  # [Q, N, M]
    maps: Maps
    alpha: float
    lam: float
    eps: float


@exact_matmul()
def projected_differential_pool_backward(
    grad_tokens: Tensor,
    grad_weights: Tensor,
    patches: Tensor,
    queries: Tensor,
    references: Tensor,
    assignment: Tensor,
    w_iq: Tensor,
    b_iq: Tensor,
    w_ik: Tensor,
    b_ik: Tensor,
    w_q: Tensor,
    b_q: Tensor,
    w_k: Tensor,
    b_k: Tensor,
    alpha: Tensor,
    lam: Tensor,
    eps: float,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    """Gradients of all floating inputs in the order of the arguments; recomputes the forward."""
    check_assignment("projected_differential_pool", assignment, references.shape[1])
    acc = acc_dtype(patches)
    given_maps = (w_iq, b_iq, w_ik, b_ik, w_q, b_q, w_k, b_k)
    inputs = (patches, queries, references, *given_maps, alpha, lam)
    sums = [
        t.new_zeros(t.shape if want else 0, dtype=t.dtype if t is references else acc)
        for t, want in zip(inputs[1:-2], wanted[1:-2], strict=True)
    ]
    # No zeros: every element of it is written.
    sums = [patches.new_empty(patches.shape if wanted[0] else 0), *sums]
    grads = Grads(*sums[:3], Maps(*sums[3:]), [0.0, 0.0])
    maps = Maps(*(t.to(acc) for t in given_maps))
    patches, references = unit_stride(patches), unit_stride(references)
    for b in range(patches.shape[0]):
        given = Inputs(
            patches[b],
            queries[b],
            references[b],
            assignment[b],
            grad_tokens[b].to(acc),
            grad_weights[b].to(acc) if grad_weights.numel() else None,
            maps,
            alpha.item(),
            lam.item(),
            eps,
        )
        if queries.shape[1] > 0:
            _Backward(given, grads, b).run()
        elif wanted[0]:
            grads.patches[b] = 0
    sums += [t.new_full((), value) for t, value in zip((alpha, lam), grads.scalars, strict=True)]
    return only_wanted(sums, inputs, wanted)


class _Backward:
    """Adds the gradients of one video, number `b`."""

    def __init__(self, given: Inputs, grads: Grads, b: int) -> None:
        self.given, self.grads, self.b = given, grads, b
        (n, m, c), (questions, _) = given.patches.shape, given.queries.shape
        maps = given.maps
        self.acc = maps.w_q.dtype
        self.unit_norms = maps.w_q.new_empty(questions)
        self.units = unit_queries(
            given.queries, m, maps.w_q, maps.b_q, given.eps, self.unit_norms
        )  # [Q, P]
        self.of = CosineGrads(*maps.w_q.new_empty(4, questions, n, m))
        # For each question the sum of all patches, as the gradient of the query weighs them.
        self.summed = maps.w_q.new_zeros(questions, c)

    def run(self) -> None:
        self._frames()
        self._queries()
        if any(
            t.numel() for t in (self.grads.references, self.grads.maps.w_k, self.grads.maps.b_k)
        ):
            for row in self.given.assignment.unique().tolist():
                if row >= 0:
                    self._reference(row)

    def _frames(self) -> None:
        given = self.given
        n, m, _ = given.patches.shape
        y_bytes = m * self.units.shape[1] * self.units.element_size()
        step = max(1, BLOCK_BYTES // max(1, y_bytes))
        held: dict[int, Keys] = {}  # by row: a frame follows its reference, so they change seldom
        for start in range(0, n, step):
            frames = slice(start, min(start + step, n))
            x = given.patches[frames].to(self.acc)
            rows = given.assignment[:, frames].flatten().tolist()
            held = {row: held[row] for row in rows if row in held}
            for row in rows:
                if row >= 0 and row not in held:
                    held[row] = self._keys(given.references[row].to(self.acc))
            itself = self._keys(x) if -2 in rows else None
            keys: list[Tensor | None] = []
            for i, row in enumerate(rows):
                own = itself.units[i % len(x)] if row == -2 else None
                keys.append(held[row].units if row >= 0 else own)
            self._some_frames(frames, x, keys, itself)

    def _keys(self, x: Tensor) -> Keys:
        """Keys of patches `x [..., C]` in the accumulation dtype."""
        maps = self.given.maps
        rows = x.flatten(0, -2)
        y, norms = x.new_empty(len(rows), maps.w_k.shape[0]), x.new_empty(len(rows))
        normalise(map_rows(rows, maps.w_k, maps.b_k, y), self.given.eps, norms)
        return Keys(y.view(*x.shape[:-1], -1), norms.view(x.shape[:-1]))

    def _some_frames(
        self, frames: slice, x: Tensor, keys: list[Tensor | None], itself: Keys | None
    ) -> None:
        """Frames `x [F, M, C]`, the key `[M, P]` of each question and frame (`[Q, F]` in a row),
        and the frames themselves as keys, if they are some."""
        given, maps, grads = self.given, self.given.maps, self.grads
        rows = x.flatten(0, 1)
        grad_token = given.grad_tokens[:, frames].transpose(0, 1)  # [F, Q, C]
        weights = grad_token @ x.mT  # [F, Q, M]: gradients of the weights, later the weights
        if given.grad_weights is not None:
            weights += given.grad_weights[:, frames].transpose(0, 1)
        # In place of mapped patches come their gradients.
        y = [self._mapped(x, maps.w_iq, maps.b_iq)]
        if any(key is not None for key in keys):
            y.append(self._mapped(x, maps.w_ik, maps.b_ik))
        self._through_cosines(frames, y, keys, itself, weights)
        self.summed.addmm_(self.of.query_scale[:, frames].flatten(1), rows)

        back = [(maps.w_iq, grads.maps.w_iq, grads.maps.b_iq)]
        back.append((maps.w_ik, grads.maps.w_ik, grads.maps.b_ik))
        if itself is not None:
            y.append(itself.units)
            back.append((maps.w_k, grads.maps.w_k, grads.maps.b_k))
        y = [t.flatten(0, 1) for t in y]
        for grad_y, (_, of_weight, of_bias) in zip(y, back, strict=False):
            _add_map_grads(of_weight, of_bias, grad_y, rows)
        if grads.patches.numel():
            out = grads.patches[self.b, frames]
            total = out if out.dtype == self.acc else torch.empty_like(x)
            torch.bmm(weights.mT, grad_token, out=total)
            for grad_y, (weight, _, _) in zip(y, back, strict=False):
                total.flatten(0, 1).addmm_(grad_y, weight)
            if total is not out:
                out.copy_(total)

    def _mapped(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Patches `x [F, M, C]` through a map: `[F, M, P]`."""
        y = x.new_empty(*x.shape[:-1], weight.shape[0])
        map_rows(x.flatten(0, 1), weight, bias, y.flatten(0, 1))
        return y

    def _through_cosines(
        self,
        frames: slice,
        y: list[Tensor],
        keys: list[Tensor | None],
        itself: Keys | None,
        weights: Tensor,
    ) -> None:
        """Mapped patches `y` and the mapped patches of `itself` become gradients, the gradients of
        the weights become weights; fills `of` for these frames."""
        scalars = load().mapped_backward(
            dtype=DTYPES[self.acc],
            y_query=address(y[0]),
            y_key=address(y[1]) if len(y) > 1 else None,
            units=address(self.units),
            keys=[None if key is None else address(key) for key in keys],
            itself=None if itself is None else address(itself.units),
            itself_norms=None if itself is None else address(itself.norms),
            grad=address(weights.transpose(0, 1)),
            **{name: address(part[:, frames]) for name, part in self.of._asdict().items()},
            alpha=self.given.alpha,
            lam=self.given.lam,
            eps=self.given.eps,
            threads=torch.get_num_threads(),
        )
        for i, value in enumerate(scalars):
            self.grads.scalars[i] += value

    def _queries(self) -> None:
        maps, grads = self.given.maps, self.grads
        own = torch.where(self.unit_norms > self.given.eps, self.of.query_own.sum((1, 2)), 0)
        scale = self.of.query_scale.sum((1, 2))
        grad = _through_map(self.summed, scale, maps.w_iq, maps.b_iq)
        grad.addcmul_(self.units, own[:, None], value=-1).div_(self.unit_norms[:, None])
        _add_map_grads(grads.maps.w_q, grads.maps.b_q, grad, self.given.queries.to(self.acc))
        if grads.queries.numel():
            grads.queries[self.b] = grad @ maps.w_q

    def _reference(self, row: int) -> None:
        """What all frames compared with one reference frame say of its patches."""
        given, maps, grads = self.given, self.given.maps, self.grads
        users = given.assignment == row
        for block in patch_blocks(given.patches.shape[1], maps.w_k):
            x = given.references[row, block].to(self.acc)
            keys = self._keys(x)
            summed = torch.empty_like(x, memory_format=torch.contiguous_format)
            scale = self.of.key_scale[..., block]
            load().assigned_sum(
                dtype=DTYPES[given.patches.dtype],
                patches=address(given.patches[:, block]),
                assignment=address(unit_stride(given.assignment)),
                row=row,
                scale=address(scale),
                out=address(summed),
                threads=torch.get_num_threads(),
            )
            own = self.of.key_own[..., block][users].sum(0)
            own = torch.where(keys.norms > given.eps, own, 0)
            grad = _through_map(summed, scale[users].sum(0), maps.w_ik, maps.b_ik)
            grad.addcmul_(keys.units, own[:, None], value=-1).div_(keys.norms[:, None])
            _add_map_grads(grads.maps.w_k, grads.maps.b_k, grad, x)
            if grads.references.numel():
                grads.references[self.b, row, block] = grad @ maps.w_k


def _through_map(summed: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Sums of mapped rows `[n, P]`: from sums of the rows `[n, C]` and of their factors `[n]`."""
    return (summed @ weight.mT).addr_(scale, bias)


def _add_map_grads(of_weight: Tensor, of_bias: Tensor, grad_y: Tensor, x: Tensor) -> None:
    """Gradients of `y = x W^T + b`, where they are wanted, for `grad_y [n, P]` and `x [n, C]`."""
    if of_weight.numel():
        of_weight.addmm_(grad_y.mT, x)
    if of_bias.numel():
        of_bias.add_(grad_y.sum(0))
