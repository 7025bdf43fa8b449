"""Registers and spills of compiled kernels, as ptxas reports them: for any GPU, without one."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Of one kernel: registers of a thread, bytes of a thread that are spilled to memory."""

    registers: int
    spilled: int


def assemblers() -> list[str]:
    """The ptxas of the CUDA toolkit, and the one that comes with Triton, where they exist."""
    found = [shutil.which("ptxas")]
    spec = importlib.util.find_spec("triton")
    if spec is not None:
        bundled = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "ptxas"
        found.append(str(bundled) if bundled.exists() else None)
    return [path for path in found if path]


def usage(ptx: str, architecture: int) -> dict[str, Usage]:
    """By kernel of a PTX text, on a GPU of compute capability `architecture` (80, 86, 90, ...).

    Raises:
        ValueError: no ptxas takes the text.
    """
    error = "there is none"
    for ptxas in assemblers():
        command = [ptxas, "-v", f"-arch=sm_{architecture}", "-", "-o", "/dev/null"]
        done = subprocess.run(command, input=ptx, capture_output=True, text=True)
        if done.returncode == 0:
            return _read(done.stderr)
        error = done.stderr
    raise ValueError(f"ptxas for sm_{architecture}: {error}")


def _read(said: str) -> dict[str, Usage]:
    found = {}
    for part in re.split(r"Compiling entry function '", said)[1:]:
        spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", part))
        found[part.split("'")[0]] = Usage(int(re.search(r"Used (\d+) reg", part)[1]), spilled)
    return found
