"""A hash of the sources that a kernel and its launcher are made of."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from .cuda_ptx import ROOT, source_hash

IMPORT = re.compile(r"^from \.(?:(\w+) import| import (\w+))", re.M)
CONFIG = re.compile(r'\bconfig\(\s*"(\w+)"')


def python_files(path: Path) -> list[Path]:
    """A module, those of its folder that it imports, and the tables of tile sizes they use."""
    found: list[Path] = []

    def visit(path: Path) -> None:
        if path in found or not path.exists():
            return
        found.append(path)
        if path.suffix != ".py":
            return
        text = path.read_text()
        for of_name, name in IMPORT.findall(text):
            visit(path.with_name(f"{of_name or name}.py"))
        for name in CONFIG.findall(text):
            visit(path.parent / "configs" / f"{name}.json")

    visit(path)
    return found


@cache
def kernel_hash(kernels: str) -> str:
    """Of `triton/<file>`: its files and tables; of `cuda/<file>`: also source, headers, flags.

    Raises:
        FileNotFoundError: there is no such file.
    """
    backend, name = kernels.split("/")
    launcher = ROOT / "vilamp_kernels" / backend / f"{name}.py"
    digest = hashlib.sha256(launcher.read_bytes())
    for path in python_files(launcher):
        digest.update(path.name.encode() + path.read_bytes())
    if backend == "cuda":
        digest.update(source_hash(ROOT / "csrc" / "cuda" / f"{name}.cu").encode())
    return digest.hexdigest()[:16]
