"""Published benchmarks, read in their official file formats: one file each.

`benchmark(name)` gives one; `running.py` asks its questions, `scoring.py` counts, `reported.py` has
what the paper says.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ...errors import InputError

if TYPE_CHECKING:
    from .items import Benchmark

NAMES = {
    "video-mme": ("video_mme", "VideoMME"),
    "mlvu": ("mlvu", "MLVU"),
    "longvideobench": ("longvideobench", "LongVideoBench"),
    "egoschema": ("egoschema", "EgoSchema"),
    "lvbench": ("lvbench", "LVBench"),
    "activitynet-qa": ("activitynet_qa", "ActivityNetQA"),
}
"""By the name on the command line, the module and the class."""


def benchmark(name: str) -> Benchmark:
    """A benchmark by its name.

    Raises:
        InputError: there is none of that name; says which there are.
    """
    if name not in NAMES:
        raise InputError(f"no benchmark {name!r}: wanted one of {', '.join(NAMES)}")
    module, found = NAMES[name]
    return getattr(import_module(f".{module}", __name__), found)()
