"""A pytest plugin: one setting of a run of numeric tests, and how much of each budget was used.

`VILAMP_TEST_ORDER` names an order of `orders.py`; `VILAMP_TEST_BUDGETS` the file to which the worst
share of a budget goes, by test; `VILAMP_TEST_TRUTHS` a folder for truths that other runs need too.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from vilamp_kernels import testing

from .kept_truths import keep_in
from .orders import use_order


class Shares:
    """The largest share of a budget that each test used."""

    def __init__(self):
        self.worst: dict[str, float] = defaultdict(float)
        self.failed: dict[str, str] = {}
        self.passed = 0
        self.test = ""

    def watch(self, what: str, error: float, budget: float) -> None:
        share = 0.0 if error == 0 else error / budget if budget else float("inf")
        self.worst[self.test] = max(self.worst[self.test], share)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        self.test = item.nodeid

    def pytest_runtest_logreport(self, report):
        if report.passed and report.when == "call":
            self.passed += 1
        if report.failed:
            text = report.longreprtext
            reasons = [line for line in text.splitlines() if line.startswith("E ")]
            self.failed[report.nodeid] = "\n".join(reasons[:5]) or text[-500:]

    def pytest_sessionfinish(self):
        found = {"worst": self.worst, "failed": self.failed, "passed": self.passed}
        Path(os.environ["VILAMP_TEST_BUDGETS"]).write_text(json.dumps(found))


def watched(compare, shares: Shares):
    """`torch.testing.assert_close`, whose tolerances are a budget too."""

    def assert_close(actual, expected, *args, rtol=None, atol=None, **options):
        if isinstance(actual, torch.Tensor) and actual.is_floating_point() and actual.numel():
            usual = torch.testing._comparison.default_tolerances(actual, expected)
            relative, absolute = usual if rtol is None else (rtol, atol)
            if actual.shape == expected.shape:
                error = (actual.double() - expected.double()).abs()
                share = error / (absolute + relative * expected.double().abs())
                shares.watch("assert_close", share.nan_to_num(0, 0, 0).max().item(), 1.0)
        elif isinstance(actual, list | tuple):
            for one, other in zip(actual, expected, strict=True):
                assert_close(one, other, *args, rtol=rtol, atol=atol, **options)
        return compare(actual, expected, *args, rtol=rtol, atol=atol, **options)

    return assert_close


def pytest_configure(config):
    if order := os.environ.get("VILAMP_TEST_ORDER"):
        config.stash[_ORDER] = use_order(order)
    if folder := os.environ.get("VILAMP_TEST_TRUTHS"):
        keep_in(Path(folder))
    if "VILAMP_TEST_BUDGETS" in os.environ:
        shares = Shares()
        testing.watchers.append(shares.watch)
        torch.testing.assert_close = watched(torch.testing.assert_close, shares)
        config.pluginmanager.register(shares)


_ORDER = pytest.StashKey[torch.library.Library]()
