"""Copies of the Triton kernels with one mistake each, which the tests have to notice.

A `Mistake` changes the source, of a kernel or of its launcher; a `PtxMistake` what the compiler
made of a kernel. Both are in force inside `broken(mistake)`, for all ops, on the backend `triton`.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from unittest import mock

from ptx.machine import Module
from ptx.triton_runner import COPIES, ROOT, worker

from vilamp_kernels import backends

KERNELS = ROOT / "vilamp_kernels" / "triton"
SHARED = ("__init__", "availability", "launch", "pooling_tiles", "preprocess_plan", "tuning")
"""Modules without kernels: copies import the real ones."""

IMPLEMENTATIONS = {
    "similarity": ("similarity", "similarity"),
    "similarity_backward": ("similarity", "similarity_backward"),
    "select_keyframes": ("selection", "select_keyframes"),
    "fill_keyframes": ("fill", "fill_keyframes"),
    "reference_frames": ("reference_frames", "reference_frames"),
    "differential_pool": ("pooling", "differential_pool"),
    "differential_pool_backward": ("pooling_backward", "differential_pool_backward"),
    "projected_differential_pool": ("projected", "projected_differential_pool"),
    "projected_differential_pool_backward": (
        "projected_backward",
        "projected_differential_pool_backward",
    ),
    "preprocess_frames": ("preprocess", "preprocess_frames"),
}
"""Of each op its module and function, as `vilamp_kernels/ops` registers them."""


@dataclass(frozen=True)
class Mistake:
    """The first `old` after `within` becomes `new`, in a file of `vilamp_kernels/triton`."""

    net: str  # which checks have to notice it
    name: str
    file: str
    within: str
    old: str
    new: str
    quick: bool = False  # part of `make test`


@dataclass(frozen=True)
class PtxMistake:
    """In the PTX of one kernel match `number` of a pattern, if there is one, becomes `new`."""

    net: str
    name: str
    kernel: str
    pattern: str
    new: str
    number: int = 1
    quick: bool = False

    def edited(self, ptx: str) -> str:
        matches = list(re.finditer(self.pattern, ptx))
        if len(matches) < self.number:
            return ptx
        match = matches[self.number - 1]
        return ptx[: match.start()] + match.expand(self.new) + ptx[match.end() :]


def narrowed(net: str, what: str, file: str, within: str, offset: str, quick: bool = False):
    """An offset of 64 bits that is cut off to 32."""
    name = f"offset of {what} in 32 bits"
    return Mistake(net, name, file, within, offset, f"({offset}).to(tl.int32)", quick)


def text_with(mistake: Mistake | None, file: str) -> str:
    """The source of a file, with the mistake if it belongs there."""
    text = (KERNELS / file).read_text()
    if isinstance(mistake, Mistake) and mistake.file == file:
        begin = text.find(mistake.within)
        place = text.find(mistake.old, begin)
        if begin < 0 or place < 0:
            raise LookupError(f"{mistake.name}: not in {file}")
        text = text[:place] + mistake.new + text[place + len(mistake.old) :]
    text = text.replace("from .. import", "from vilamp_kernels import")
    text = re.sub(r"^from \.\.(\w)", r"from vilamp_kernels.\1", text, flags=re.M)
    shared = "|".join(SHARED)
    text = re.sub(
        rf"^from \. import ({shared})\b", r"from vilamp_kernels.triton import \1", text, flags=re.M
    )
    return re.sub(rf"^from \.({shared}) ", r"from vilamp_kernels.triton.\1 ", text, flags=re.M)


@cache
def package_with(mistake: Mistake | None) -> str:
    """The name of a package of all kernels, one of them with the mistake."""
    files = [path.name for path in sorted(KERNELS.glob("*.py")) if path.stem not in SHARED]
    texts = {"__init__.py": "", **{file: text_with(mistake, file) for file in files}}
    digest = hashlib.sha256("".join(texts.values()).encode()).hexdigest()
    folder = COPIES / f"copy_{digest[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        part = folder / f"{file}.part"
        part.write_text(text)
        part.replace(folder / file)
    if str(COPIES) not in sys.path:
        sys.path.append(str(COPIES))
    importlib.invalidate_caches()
    return folder.name


def edited_by(mistake: PtxMistake) -> Callable[[str], Module]:
    """A stand-in for the worker's `module`."""
    modules, real = {}, worker.module

    def module(ptx: str) -> Module:
        if not re.search(rf"\.entry\s+{mistake.kernel}\(", ptx):
            return real(ptx)
        if ptx not in modules:
            modules[ptx] = Module(mistake.edited(ptx))
        return modules[ptx]

    return module


@contextmanager
def broken(mistake: Mistake | PtxMistake | None) -> Iterator[None]:
    """The backend `triton` with a mistake; with None a copy that has none."""
    with ExitStack() as stack:
        if isinstance(mistake, PtxMistake):
            stack.enter_context(mock.patch.object(worker, "module", edited_by(mistake)))
        else:
            package = package_with(mistake)
            for op, (module, function) in IMPLEMENTATIONS.items():
                copy = getattr(importlib.import_module(f"{package}.{module}"), function)
                stack.enter_context(mock.patch.dict(backends.IMPLS[op], triton=copy))
        yield
