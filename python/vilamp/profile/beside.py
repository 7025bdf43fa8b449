"""The simulation of a run that was measured."""

from __future__ import annotations

import torch

from ..checkpoint import find_folder, stored_tensors, vocabulary_rows
from ..config import ViLAMPConfig
from . import workspace
from .full_size import published_config, without_weights
from .measure import Measurement, Request
from .simulate import Settings, Simulation, Simulator


def simulated(request: Request, measured: Measurement) -> Simulation:
    """The same model, frames, keyframes and longest answer, on tensors without numbers.

    Pixels that other threads make ready are left out where the measurement did not see them.
    """
    settings = Settings(
        batch=request.batch,
        prefill_chunk=request.prefill_chunk,
        new_tokens=request.new_tokens,
        keyframes=measured.keyframes,
    )
    on_gpu = torch.device(measured.device).type == "cuda"
    simulator = Simulator(
        without_weights(config_of(request), getattr(torch, measured.dtype)),
        settings,
        kernels=workspace.gpu if on_gpu else workspace.cpu,
        threads=on_gpu or not request.allocations,
    )
    return simulator.run(measured.frames)


def config_of(request: Request) -> ViLAMPConfig:
    """Sizes of the model that was asked for."""
    if request.random_weights is not None:
        return published_config()
    folder = find_folder(request.model)
    config = ViLAMPConfig.from_folder(folder)
    rows = vocabulary_rows(stored_tensors(folder), config.text_config.vocab_size)
    config.text_config.vocab_size = rows
    return config
