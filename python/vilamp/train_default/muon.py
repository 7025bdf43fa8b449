"""Muon (Jordan et al. 2024) for stacks of small matrices, in fp32.

`torch.optim.Muon` works in bfloat16 and on one matrix at a time, which a CPU does slowly.
"""

from collections import defaultdict

import torch
from torch import Tensor

# Coefficients of the Newton-Schulz iteration, from the authors of Muon.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


def orthogonalise(stack: Tensor) -> Tensor:
    """Matrices with about the same singular vectors and all singular values near 1. [n, r, c]."""
    tall = stack.shape[-2] > stack.shape[-1]
    x = stack.mT if tall else stack
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update of each matrix is made orthogonal.

    The update's root mean square is 0.2, as AdamW's typically is, so that one rate serves both.
    """

    def __init__(self, params, lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        alike = defaultdict(list)
        for group in self.param_groups:
            for parameter in group["params"]:
                alike[parameter.shape].append((group, parameter))
        for shape, members in alike.items():
            updates = []
            for group, parameter in members:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                updates.append(parameter.grad.lerp(state["momentum"], group["momentum"]))
            scale = 0.2 * max(shape) ** 0.5
            for (group, parameter), update in zip(
                members, orthogonalise(torch.stack(updates)), strict=True
            ):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * scale)
