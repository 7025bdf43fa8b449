"""The tests that `make sanitize` runs are about the module with sanitizers in it."""

import os

import pytest

import vilamp_kernels as vk

FOLDER = os.environ.get("VILAMP_EXPECT_MODULE_IN")


@pytest.mark.skipif(FOLDER is None, reason="run by `make sanitize`")
def test_the_sanitized_module_is_the_one_that_runs():
    import vilamp_kernels._cpu as module

    assert module.__file__.startswith(FOLDER)
    assert vk.available_backends()["cpu"].available
    with open("/proc/self/maps") as maps:
        loaded = maps.read()
    assert "libasan" in loaded
    assert "libubsan" in loaded
