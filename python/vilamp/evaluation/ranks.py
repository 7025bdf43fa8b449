"""Processes of one run that `torchrun` started: which device each takes, and when all are done."""

from __future__ import annotations

import os
from datetime import timedelta

LONGEST_WAIT = timedelta(days=7)
"""For the slowest process; `torchrun` ends all of them when one fails."""


def local_device() -> str | None:
    """This process's own GPU of the machine; None outside `torchrun`, or without a GPU each."""
    import torch

    number = os.environ.get("LOCAL_RANK")
    if number is None or not number.isdigit() or int(number) >= torch.cuda.device_count():
        return None
    return f"cuda:{number}"


def wait_for_all() -> bool:
    """Return when every process of the run has come here.

    Returns:
        False at once when the environment names no place to meet, as outside `torchrun`.
    """
    import torch.distributed as dist

    world = os.environ.get("WORLD_SIZE")
    if world in (None, "1") or "MASTER_ADDR" not in os.environ or not dist.is_available():
        return False
    dist.init_process_group("gloo", timeout=LONGEST_WAIT)
    try:
        dist.barrier()
    finally:
        dist.destroy_process_group()
    return True
