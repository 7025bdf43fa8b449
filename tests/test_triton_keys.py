"""A video that grows by a frame compiles no Triton kernel again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parent.parent

# The frames of short videos are split among programs: they have other constants than long ones.
# Between 500 and 1000 frames the widest patches pass 2^31 elements.
SHORT, LONG = (16, 17, 37, 64, 65), (500, 1000, 1001, 1008)


@pytest.mark.parametrize("lengths", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_kernels_are_compiled_once_for_all_lengths(dtype, lengths):
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT), *filter(None, sys.path)])
    command = [sys.executable, "-m", "ptx.triton_keys", dtype, *map(str, lengths)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *others = json.loads(done.stdout)
    assert "differential_pool_fwd_kernel, M 729 C 1152 Q 1 " + dtype in first
    for length, found in zip(lengths[1:], others, strict=True):
        for name, keys in first.items():
            assert found[name] == keys, f"{name}: other keys for {length} frames"
