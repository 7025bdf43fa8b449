"""PTX of the hand-written CUDA kernels: from nvcc where there is one, else from committed files.

`python -m ptx.compile`, in `tests/`, writes the committed files anew.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from .machine import Module

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "ptx-cache"
COMMITTED = Path(__file__).with_name("compiled")
FLAGS = ("-arch=sm_80", "-std=c++17")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
ENTRY = re.compile(r"\.entry\s+([\w$]+)")


def sources() -> list[Path]:
    """The kernels of the project, and the known ones that test the interpreter."""
    return [*sorted((ROOT / "csrc" / "cuda").glob("*.cu")), Path(__file__).with_name("known.cu")]


def files_of(source: Path) -> list[Path]:
    """A source and all of our headers that it includes, in the order in which they come."""
    found: list[Path] = []

    def visit(path: Path) -> None:
        if path in found:
            return
        found.append(path)
        for name in INCLUDE.findall(path.read_text()):
            for folder in (path.parent, ROOT / "csrc" / "include"):
                if (folder / name).exists():
                    visit((folder / name).resolve())
                    break

    visit(source.resolve())
    return found


def source_hash(source: Path) -> str:
    """Of the source, of the headers that it includes, and of the flags."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in files_of(source):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def compile_source(source: Path) -> str:
    """PTX text of one file, from the cache if it was compiled before."""
    kept = CACHE / f"{source.stem}-{source_hash(source)}.ptx"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["nvcc", "-ptx", *FLAGS, f"-I{ROOT / 'csrc' / 'include'}", str(source), "-o"]
        done = subprocess.run([*command, f"{kept}.new"], capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{source.name}: {done.stderr}")
        Path(f"{kept}.new").replace(kept)
    return kept.read_text()


@cache
def ptx_of(source: Path) -> str:
    if shutil.which("nvcc"):
        return compile_source(source)
    return (COMMITTED / f"{source.stem}.ptx").read_text()


@cache
def module_of(source: Path) -> Module:
    return Module(ptx_of(source))


@cache
def source_of(kernel: str) -> Path:
    """The file that holds an entry point."""
    for source in sources():
        if kernel in ENTRY.findall(ptx_of(source)):
            return source
    raise ValueError(f"no kernel {kernel!r} in {[s.name for s in sources()]}")


def committed_hash(source: Path) -> str | None:
    """The hash of the source that a committed file was compiled from; None without such a file."""
    path = COMMITTED / f"{source.stem}.ptx"
    if not path.exists():
        return None
    with path.open() as file:
        return file.readline().removeprefix("// source ").strip()
