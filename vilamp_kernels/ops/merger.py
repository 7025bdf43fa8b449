"""Pooling over a video that arrives in batches."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import autocast_on, require, require_floats, require_integers, require_tensors
from .._interop import accepts_arrays
from .common import scalar
from .pooling import differential_pool
from .projected import Projection, cast_maps, fold, pool_folded, require_maps

OP = "StreamingMerger"


class StreamingMerger:
    """Differential pooling of one video, a batch of frames at a time, in order.

    Holds the patches of the frames that later frames are compared with, and nothing else: at most
    one frame per question for `preceding` references, at most K frames in all for `released`.

    Args:
        queries: `[Q, C]`, or `[Q, D]` with `projection`; fp64/fp32/fp16/bf16.
        references: integer `[Q, N]`, the number of the frame that each frame is compared with, -1
            for none: what `reference_frames` gives for the keyframes of each question. Read on
            the host once, here.
        alpha, lam: as in `differential_pool`.
        projection: learned maps; None for the plain pooling. A last linear layer in it is folded
            once, here (under autocast once for each dtype of patches).
    Raises:
        ValueError: a shape, dtype or device disagrees, alpha or lam as in `differential_pool`, or
            a number in `references` is not in -1..N-1.

    The tokens of all batches, put together, are those of the one-shot op with the whole video as
    its bank, up to rounding, for any split. A frame may be compared with a later one (policy
    `nearest`) only if both are in one batch: `push` raises ValueError otherwise. Inference only:
    no gradient flows through a merger.
    Autocast: a push runs in the dtype of its patches, which may then be another than the queries'.

    Example:
        >>> references = reference_frames(indices, n)                 # [Q, N]
        >>> merger = StreamingMerger(queries, references, alpha=0.01)
        >>> for start in range(0, n, 16):
        ...     tokens = merger.push(patches_of(start, start + 16), start)  # [Q, <=16, C]
    """

    @accepts_arrays(OP)
    def __init__(
        self,
        queries: Tensor,
        references: Tensor,
        *,
        alpha: float | Tensor = 0.01,
        lam: float | Tensor = 1.0,
        projection: Projection | None = None,
    ) -> None:
        require_tensors(OP, queries=queries, references=references)
        require_integers(OP, references=references)
        require(
            OP,
            queries.ndim == 2 and references.ndim == 2 and references.shape[0] == queries.shape[0],
            "queries [Q, C] and references [Q, N] with one Q",
            queries=queries,
            references=references,
        )
        self._given_queries = queries.detach()
        self._alpha = scalar(OP, "alpha", alpha, queries).detach()
        self._lam = scalar(OP, "lam", lam, queries).detach()
        self._given_maps = None
        if projection is not None:
            self._given_maps = Projection(*(None if t is None else t.detach() for t in projection))
        self._require_one_kind(queries=queries)
        self._dtype: torch.dtype | None = None
        # Under autocast the dtype of the patches is not known yet.
        if not autocast_on(queries.device):
            self._prepare(queries.dtype)
        self._plan = references.to(device="cpu", dtype=torch.int64)
        self._length = self._plan.shape[1]
        self._last_use = self._find_last_uses()
        self._held: dict[int, Tensor] = {}
        self._position = 0

    @property
    def position(self) -> int:
        """Number of frames pushed so far: the `start` of the next push."""
        return self._position

    @property
    def held_frames(self) -> tuple[int, ...]:
        """Numbers of the frames whose patches are held for later ones."""
        return tuple(sorted(self._held))

    @accepts_arrays(OP)
    @torch.no_grad()
    def push(
        self, patches: Tensor, start: int, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pool the next frames.

        Args:
            patches: `[n, M, C]`, the frames `start .. start + n - 1`, in the dtype (any under
                autocast) and on the device of the queries. Not kept: what is held is copied.
            start: number of the first of them.
            return_weights: also give the weight of each patch.
        Returns:
            Tokens `[Q, n, C]` (`[Q, n, E]` with a last linear layer), dtype of the patches; with
            `return_weights` also the weights `[Q, n, M]`, fp32 (fp64 for fp64).
        Raises:
            ValueError: the batch is not the next one or runs past the video, its shape, dtype or
                device disagrees, or it refers to a frame that comes after it.

        After any error, torch.OutOfMemoryError among them, the state is as before the call: the
        same frames can be pushed in smaller batches.
        """
        self._check(patches, start)
        end = start + patches.shape[0]
        plan = self._plan[:, start:end]
        itself = plan == torch.arange(start, end, device="cpu")
        numbers = plan[(plan >= 0) & ~itself].unique().tolist()
        if numbers and numbers[-1] >= end:
            question, frame = (plan >= end).nonzero()[0].tolist()
            raise ValueError(
                f"{OP}: wanted references up to the last frame of the batch, {end - 1}; given"
                f" frame {start + frame} compared with frame {plan[question, frame].item()}"
                " (push both in one batch)"
            )
        bank, rows = self._bank(patches, start, numbers, plan)
        assignment = torch.where(itself, -2, rows).to(patches.device)
        self._prepare(patches.dtype)
        pooled = self._pool(patches, bank, assignment, return_weights)
        self._keep(patches, start, end)
        self._position = end
        return pooled

    def _find_last_uses(self) -> dict[int, int]:
        """For each frame that others refer to, the last frame that does."""
        plan = self._plan
        require(
            OP,
            bool(((plan >= -1) & (plan < self._length)).all()),
            "references in -1..N-1",
            references=plan,
        )
        users = torch.arange(self._length, device="cpu").expand_as(plan)
        last = torch.full((self._length + 1,), -1, device="cpu")
        # Column N takes the frames without a reference.
        target = torch.where(plan >= 0, plan, self._length)
        last.scatter_reduce_(0, target.flatten(), users.flatten(), "amax")
        used = (last[:-1] >= 0).nonzero().flatten().tolist()
        return {frame: int(last[frame]) for frame in used}

    def _require_one_kind(self, **given: Tensor) -> None:
        """These and the maps have one device, and one dtype unless autocast is on."""
        if self._given_maps is not None:
            given |= {name: t for name, t in self._given_maps._asdict().items() if t is not None}
        require_tensors(OP, **given)
        require_floats(OP, **given)

    def _prepare(self, dtype: torch.dtype) -> None:
        """Queries and maps as the one-shot op has them for patches of a dtype."""
        if dtype != self._dtype:
            self._queries, self._maps = self._given_queries.to(dtype), None
            if self._given_maps is not None:
                self._maps = fold(cast_maps(self._given_maps, dtype))
            self._dtype = dtype

    def _check(self, patches: Tensor, start: int) -> None:
        self._require_one_kind(patches=patches, queries=self._given_queries)
        require(OP, patches.ndim == 3, "patches [n, M, C]", patches=patches)
        held = next(iter(self._held.values()), patches[:1])
        require(
            OP,
            patches.shape[1:] == held.shape[-2:],
            "patches of the same M and C in every batch",
            patches=patches,
            held=held,
        )
        if self._given_maps is not None:
            require_maps(OP, patches, self._given_queries, self._given_maps)
        if start != self._position:
            raise ValueError(f"{OP}: wanted start {self._position}; given start {start}")
        if start + patches.shape[0] > self._length:
            raise ValueError(
                f"{OP}: wanted at most {self._length - start} more frames (of {self._length});"
                f" given {patches.shape[0]}"
            )

    def _bank(
        self, patches: Tensor, start: int, numbers: list[int], plan: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The reference patches that this batch needs `[R, M, C]`, and `[Q, n]` rows of them."""
        # Not `stack`, which autocast refuses in a half precision other than its own.
        bank = patches.new_empty((len(numbers), *patches.shape[1:]))
        for row, number in enumerate(numbers):
            bank[row] = patches[number - start] if number >= start else self._held[number]
        row_of = torch.full((self._length + 1,), -1, device="cpu")
        row_of[numbers] = torch.arange(len(numbers), device="cpu")
        return bank, row_of[plan]

    def _pool(
        self, patches: Tensor, bank: Tensor, assignment: Tensor, return_weights: bool
    ) -> Tensor | tuple[Tensor, Tensor]:
        if self._maps is None:
            pool, maps = differential_pool, ()
        else:
            pool, maps = pool_folded, (self._maps,)
        return pool(
            patches,
            self._queries,
            bank,
            assignment,
            *maps,
            self._alpha,
            self._lam,
            return_weights=return_weights,
        )

    def _keep(self, patches: Tensor, start: int, end: int) -> None:
        """Hold the frames of this batch that later ones need, drop those that none does."""
        needed = [f for f in range(start, end) if self._last_use.get(f, -1) >= end]
        # All of them before anything changes: memory may run out half way.
        copies = {frame: patches[frame - start].clone() for frame in needed}
        held = {frame: kept for frame, kept in self._held.items() if self._last_use[frame] >= end}
        self._held = held | copies
