"""Sizes as text: one unit, and nothing that is not 0 is shown as 0."""

from __future__ import annotations

import math

import pytest
from vilamp.cache import Cache, key
from vilamp.cli.app import run
from vilamp.sizes import size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (110_592, "108 KiB"),
        (3 << 19, "1.5 MiB"),
        (4 << 30, "4 GiB"),
        (5 << 40, "5 TiB"),
        (3000 << 40, "3,000 TiB"),
    ],
)
def test_text(count, text):
    assert size_text(count) == text


def test_rounding():
    count = (1 << 30) + 1
    assert size_text(count, math.ceil) == "1.1 GiB" and size_text(count, math.floor) == "1 GiB"


def test_a_small_cache_is_not_empty(tmp_path, monkeypatch, capsys):
    import torch

    monkeypatch.setenv("VILAMP_CACHE", str(tmp_path))
    Cache().store("embeddings", key("abc"), {"x": torch.zeros(500)}, {})
    assert run(["cache"]) == 0
    shown = capsys.readouterr().out
    assert "KiB of at most 4 GiB" in shown and "MB" not in shown
    assert run(["cache", "--clear"]) == 0
    assert "KiB freed in" in capsys.readouterr().out
