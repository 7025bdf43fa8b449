"""What the preprocessing kernel keeps between calls, for videos of many sizes."""

import weakref

import pytest
import torch

layout = pytest.importorskip("vilamp_kernels.triton.preprocess_plan")


def plan_for(height: int):
    geometry, levels = (8, 8, 0, 0, 8, 8), (0.5, 0.5, 0.5)
    return layout.plan(height, 32, geometry, levels, levels, torch.float32, torch.device("cpu"))


def test_plans_of_many_sizes_do_not_pile_up():
    first = plan_for(16)
    assert plan_for(16) is first
    kept = weakref.ref(first.tiles)
    digits = first.digits.clone()
    del first
    for height in range(17, 17 + layout.MOST_PLANS):
        plan_for(height)
    assert kept() is None
    assert torch.equal(plan_for(16).digits, digits)
