"""PTX of the hand-written CUDA kernels: from nvcc where there is one, else from committed files.

`python -m ptx.cuda_ptx` (in tests/) writes the committed files anew.
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
ENTRY = re.compile(r"\.entry\s+([\w$]+)")


def sources() -> list[Path]:
    return sorted((ROOT / "csrc" / "cuda").glob("*.cu"))


def source_hash(source: Path) -> str:
    """Of the source, of every header that it may include, and of the flags."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in [source, *sorted(ROOT.glob("csrc/**/*.h")), *sorted(ROOT.glob("csrc/**/*.cuh"))]:
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
    raise ValueError(f"no kernel {kernel!r} in {', '.join(s.name for s in sources()) or 'csrc/cuda'}")


def committed_hash(source: Path) -> str | None:
    """The hash of the source that a committed file was compiled from; None without such a file."""
    path = COMMITTED / f"{source.stem}.ptx"
    if not path.exists():
        return None
    with path.open() as file:
        return file.readline().removeprefix("// source ").strip()


def write_committed() -> None:
    COMMITTED.mkdir(exist_ok=True)
    for source in sources():
        text = f"// source {source_hash(source)}\n{compile_source(source)}"
        (COMMITTED / f"{source.stem}.ptx").write_text(text)


if __name__ == "__main__":
    write_committed()
