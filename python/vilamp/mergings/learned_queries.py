"""Merging in the manner of a Q-Former: a learned query attends to the patches of each frame.

Unlike differential merging it compares a frame with no other, and what it looks for is learned.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import CheckpointError
from ..finite import all_finite
from .simple import NAME

FILE = "learned_queries.safetensors"
"""Beside a model's weights, where such queries were trained for it."""


class LearnedQueries(nn.Module):
    """One query per question, a learned vector plus a map of the question's embedding.

    Args:
        patch_width: H, width of the patches.
        query_width: D, width of the question's embedding.
        width: P, of queries and keys.
    """

    def __init__(self, patch_width: int, query_width: int, width: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.of_question = nn.Linear(query_width, width, bias=False)
        self.key = nn.Linear(patch_width, width, bias=False)

    @classmethod
    def from_folder(cls, folder: Path, patch_width: int, query_width: int) -> LearnedQueries:
        """Those that were trained for the model of a folder, in fp32.

        Raises:
            CheckpointError: there are none, they are not of these widths, or not finite.
        """
        path = folder / FILE
        if not path.is_file():
            raise CheckpointError(
                f"{folder} has no {FILE}: merging by learned queries needs queries trained for it"
            )
        try:
            tensors = load_file(path)
            # Layers are made on PyTorch's default device.
            with torch.device("cpu"):
                queries = cls(patch_width, query_width, len(tensors["query"]))
            queries.load_state_dict(tensors)
        except (SafetensorError, OSError, KeyError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{path}: no learned queries for this model ({reason})"
            ) from error
        if not all(all_finite(tensor) for tensor in tensors.values()):
            raise CheckpointError(f"{path}: holds numbers that are NaN or infinite")
        return queries.requires_grad_(False)

    def weights(self, patches: Tensor, questions: Tensor) -> Tensor:
        """fp32 `[Q, n, M]`, summing to 1 over patches.

        Args:
            patches: `[n, M, H]`.
            questions: `[Q, D]`.
        """
        query, key = self._query(questions), self._key(patches)
        return torch.einsum("qp,nmp->qnm", query, key).softmax(-1)

    def weights_of_pairs(self, patches: Tensor, questions: Tensor) -> Tensor:
        """fp32 `[n, M]`: the same where each frame has its own question, `[n, D]`."""
        query, key = self._query(questions), self._key(patches)
        return torch.einsum("np,nmp->nm", query, key).softmax(-1)

    def _query(self, questions: Tensor) -> Tensor:
        return self.query + self.of_question(questions.to(self.query))

    def _key(self, patches: Tensor) -> Tensor:
        """Scaled as in attention, so that the logits are of order 1 whatever the width."""
        return self.key(patches.to(self.query)) * self.key.out_features**-0.5


class QueryMerger:
    """`LearnedQueries` for a video that arrives in batches.

    Args:
        queries: trained for this model.
        questions: `[Q, D]`.
        output: the projector's last layer.
    """

    def __init__(self, queries: LearnedQueries, questions: Tensor, output: nn.Linear):
        self._queries, self._questions, self._output = queries, questions, output
        self._position = 0

    @property
    def position(self) -> int:
        """Number of frames pushed so far: the `start` of the next push."""
        return self._position

    @torch.no_grad()
    def push(
        self, patches: Tensor, start: int, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """As `simple.FrameByFrame.push`."""
        if start != self._position:
            raise ValueError(f"{NAME}: wanted start {self._position}; given start {start}")
        weights = self._queries.weights(patches, self._questions)
        pooled = torch.einsum("qnm,nmh->qnh", weights, patches.float())
        tokens = self._output(pooled.to(self._output.weight))
        self._position += len(patches)
        return (tokens, weights) if return_weights else tokens
