"""The training loop of every stage: warm-up and cosine decay, checkpoints, resume."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .muon import Muon
from .progress import Progress
from .sizes import SEED

# Seconds between checkpoints.
_EVERY = 60.0
_WARM_UP = 0.03


def step_generator(stage: str, step: int) -> torch.Generator:
    """Randomness of one step: depends on the step alone, so that a resumed run equals an unbroken
    one.
    """
    number = SEED * 1_000_003 + sum(map(ord, stage)) * 10_007 + step
    return torch.Generator().manual_seed(number % 2**62)


def warm_cosine(step: int, steps: int) -> float:
    """Share of the peak rate: a short warm-up, then half a cosine down to a fiftieth."""
    rise = min(1.0, (step + 1) / max(1, _WARM_UP * steps))
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def train(
    stage: str,
    model: nn.Module,
    loss: Callable[[int, torch.Generator], tuple[Tensor, str]],
    *,
    folder: Path,
    steps: int,
    rate: float,
    decay: float = 0.01,
    rates: dict[str, float] | None = None,
    factor: Callable[[int], float] | None = None,
    muon: str | None = None,
) -> None:
    """Train a module with AdamW until `steps`, going on from the last checkpoint if there is one.

    Args:
        stage: name of the stage; its result is `<folder>/<stage>.safetensors`.
        model: its parameters are trained in place.
        loss: (step, generator) -> loss and a note for the progress line.
        folder: where checkpoints and results lie.
        steps: number of steps in all.
        rate: peak learning rate; `rates` overrides it for parameters whose name starts with a key.
        decay: weight decay of matrices.
        factor: share of the peak rate at a step; `warm_cosine` over all steps when None.
        muon: matrices whose name contains this are trained with Muon instead, at the same rate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"{stage}.checkpoint.safetensors"
    groups: dict[bool, list[dict]] = {False: [], True: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = next((r for key, r in (rates or {}).items() if name.startswith(key)), rate)
            weight = decay if parameter.ndim > 1 else 0.0
            group = {"params": [parameter], "lr": own, "peak": own, "weight_decay": weight}
            by_muon = muon is not None and muon in name and parameter.ndim == 2
            groups[by_muon].append(group)
    optimizers = [torch.optim.AdamW(groups[False], betas=(0.9, 0.98), eps=1e-8)]
    if groups[True]:
        # Its updates are scaled to those of AdamW, so one rate serves both.
        optimizers.append(Muon(groups[True]))
    every_group = [group for optimizer in optimizers for group in optimizer.param_groups]
    first = _restore(checkpoint, model, optimizers)
    progress = Progress(stage, steps, done=first)
    saved = time.monotonic()
    for step in range(first, steps):
        share = factor(step) if factor else warm_cosine(step, steps)
        for group in every_group:
            group["lr"] = group["peak"] * share
        value, note = loss(step, step_generator(stage, step))
        model.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        progress.step(f"loss {value.item():.3f} {note}")
        if time.monotonic() - saved > _EVERY:
            _keep(checkpoint, model, optimizers, step + 1)
            saved = time.monotonic()
    save(folder / f"{stage}.safetensors", model.state_dict())
    checkpoint.unlink(missing_ok=True)


def save(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file that is either whole or not there."""
    part = path.with_suffix(".part")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, part)
    part.replace(path)


Optimizers = list[torch.optim.Optimizer]


def _states(optimizers: Optimizers) -> Iterator[tuple[str, torch.optim.Optimizer, nn.Parameter]]:
    """Prefix of the stored state, optimizer and parameter of each group (of one parameter each)."""
    for o, optimizer in enumerate(optimizers):
        for i, group in enumerate(optimizer.param_groups):
            yield f"optimizer.{o}.{i}.", optimizer, group["params"][0]


def _keep(path: Path, model: nn.Module, optimizers: Optimizers, step: int) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for prefix, optimizer, parameter in _states(optimizers):
        for key, tensor in optimizer.state[parameter].items():
            tensors[prefix + key] = tensor
    tensors["step"] = torch.tensor(step)
    save(path, tensors)


def _restore(path: Path, model: nn.Module, optimizers: Optimizers) -> int:
    if not path.exists():
        return 0
    tensors = load_file(path)
    model.load_state_dict(
        {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    )
    for prefix, optimizer, parameter in _states(optimizers):
        optimizer.state[parameter] = {
            name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)
        }
    return int(tensors["step"])
