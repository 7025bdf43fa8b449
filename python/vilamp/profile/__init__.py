"""What a question about a video costs: memory and compute against its number of frames.

`Simulator` runs the model's own code on fake tensors, so that no weights and no GPU are needed;
`compared` computes the same figures of other architectures from their published configurations.
Every figure is a `Row`, whose `kind` says where it comes from.
"""

from .full_size import published_config, without_weights
from .rows import Row, as_csv, as_dict, compared, of_the_paper
from .simulate import Settings, Simulation, Simulator

__all__ = [
    "Row",
    "Settings",
    "Simulation",
    "Simulator",
    "as_csv",
    "as_dict",
    "compared",
    "of_the_paper",
    "published_config",
    "without_weights",
]
