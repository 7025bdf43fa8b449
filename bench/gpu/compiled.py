"""What the compilers make of a kernel: registers, spills, shared memory, the widths of its loads.

Nothing here needs a GPU. Triton kernels are compiled by Triton for the target, then assembled by
the ptxas that comes with it; CUDA kernels by nvcc.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .shapes import TritonLaunch

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tests"))  # ptx: compiling and executing kernels without a GPU

CUDA_TARGETS = (80, 86, 89, 90, 100)
AMD_TARGETS = ("gfx942",)

LIMITS = {
    80: (64, 65536, 167936, 32),
    86: (48, 65536, 102400, 16),
    89: (48, 65536, 102400, 24),
    90: (64, 65536, 233472, 32),
    100: (64, 65536, 233472, 32),
}
"""By compute capability, what a multiprocessor has: warps, registers, bytes of shared memory,
blocks (CUDA C++ Programming Guide, technical specifications)."""


@dataclass(frozen=True)
class Resources:
    """One kernel on one target. `loop_load` is the narrowest load of global memory, in bytes, in
    the loop that streams (those that carry less than a tenth of it aside); 0 where none loads."""

    kernel: str
    target: str
    registers: int
    spills: int
    shared: int
    warps: int
    widest_load: int
    loop_load: int
    matrix: str

    @property
    def occupancy(self) -> float | None:
        """Warps that a multiprocessor can hold, as a share of its limit; None where not known."""
        limits = LIMITS.get(int(self.target[3:])) if self.target.startswith("sm_") else None
        if limits is None:
            return None
        warps, registers, shared, blocks = limits
        # Registers are given out to warps in units of 256, shared memory in units of 128 bytes,
        # one kilobyte of it to the system.
        per_warp = -(-self.registers * 32 // 256) * 256
        fit = min(
            blocks,
            warps // self.warps,
            registers // (per_warp * self.warps),
            shared // (-(-self.shared // 128) * 128 + 1024),
        )
        return fit * self.warps / warps


def triton(launch: TritonLaunch, target: int | str) -> Resources:
    """Compile the kernel of a launch as that launch would."""
    from ptx.triton_runner import described, named
    from ptx.triton_worker import compiled

    request = {
        "kernel": named(launch.kernel),
        "target": target,
        "args": [described(a) for a in launch.args],
        "options": {k: described(v) for k, v in launch.options.items()},
    }
    answer = compiled(request)
    text, warps = answer["ptx"], answer["num_warps"]
    if isinstance(target, str):
        return _amd(answer, target, warps)
    registers, spills, static = assemble(text, target)[answer["entry"]]
    return Resources(
        kernel=answer["entry"],
        target=f"sm_{target}",
        registers=registers,
        spills=spills,
        shared=answer["shared"] + static,
        warps=warps,
        **loads(text),
    )


def assemble(ptx: str, target: int) -> dict[str, tuple[int, int, int]]:
    """By entry: registers, bytes of spills, bytes of static shared memory, as ptxas says."""
    from triton.backends.nvidia.compiler import get_ptxas

    # Triton writes sm_90a where it uses what only that architecture has.
    arch = re.search(r"\.target\s+(sm_\w+)", ptx).group(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        command = [get_ptxas(target).path, "-v", f"--gpu-name={arch}", str(path), "-o"]
        done = subprocess.run(
            [*command, str(path.with_suffix(".cubin"))], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise ValueError(f"ptxas for {arch}: {done.stderr.strip()[:500]}")
    return parse_ptxas(done.stdout + done.stderr)


def parse_ptxas(said: str) -> dict[str, tuple[int, int, int]]:
    """What `ptxas -v` (or nvcc's `-Xptxas -v`) prints, by entry."""
    found, entry, spills = {}, "", 0
    for line in said.splitlines():
        if match := re.search(r"Compiling entry function '([\w$]+)'", line):
            entry, spills = match.group(1), 0
        elif match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spills = int(match.group(1)) + int(match.group(2))
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            found[entry] = (int(match.group(1)), spills, int(shared.group(1)) if shared else 0)
    return found


ASYNC_COPY = re.compile(r"cp\.async\.c[ag]\.shared\.global\S*\s+\[[^]]*\],\s*\[[^]]*\],\s*(\w+)")
LOAD = re.compile(r"\bld\.global\S*?(?:\.v(\d))?\.[bfus](\d+)\s")


def loads(ptx: str) -> dict[str, int | str]:
    """Widths of the loads from global memory, and which matrix instruction is there."""
    lines = [line.partition("//")[0].strip() for line in ptx.splitlines()]
    labels = {line[:-1]: i for i, line in enumerate(lines) if re.fullmatch(r"[\w$]+:", line)}
    widths = {i: w for i, line in enumerate(lines) if (w := load_width(line))}
    loops = [
        (labels[match.group(1)], i)
        for i, line in enumerate(lines)
        if (match := re.search(r"\bbra(?:\.uni)?\s+([\w$]+);", line))
        and labels.get(match.group(1), i) < i
    ]
    # Of nested loops the innermost one streams.
    inner = [
        loop
        for loop in loops
        if not any(o != loop and loop[0] <= o[0] and o[1] <= loop[1] for o in loops)
    ]
    # The one that loads most bytes streams. A few narrow loads beside them, of a row number or of a
    # norm, do not count.
    streams = max(
        ([w for i, w in widths.items() if a < i < b] for a, b in inner), key=sum, default=[]
    )
    carrying = [w for w in set(streams) if 10 * w * streams.count(w) >= sum(streams)]
    mma = re.search(r"\b(wgmma\.mma_async|mma\.sync|tcgen05\.mma)\S*", ptx)
    return {
        "widest_load": max(widths.values(), default=0),
        "loop_load": min(carrying, default=0),
        "matrix": mma.group(0) if mma else "",
    }


def load_width(line: str) -> int:
    """Bytes that one thread loads from global memory with this instruction; 0 for any other."""
    if match := ASYNC_COPY.search(line):
        return int(match.group(1), 0)
    if match := LOAD.search(line):
        return int(match.group(1) or 1) * int(match.group(2)) // 8
    return 0


def _amd(answer: dict, target: str, warps: int) -> Resources:
    """The same from the metadata at the end of AMD's assembly."""
    text = answer["ptx"]

    def number(name: str) -> int:
        match = re.search(rf"\.{name}:\s+(\d+)", text)
        return int(match.group(1)) if match else 0

    widths = [
        {"dword": 4, "dwordx2": 8, "dwordx3": 12, "dwordx4": 16}.get(kind, 2)
        for kind in re.findall(r"\b(?:global|buffer)_load_(\w+)", text)
    ]
    matrix = re.search(r"\bv_mfma\w*", text)
    return Resources(
        kernel=answer["entry"],
        target=target,
        registers=number("vgpr_count"),
        # Scalar registers spill to lanes of vector registers, not to memory.
        spills=number("vgpr_spill_count"),
        shared=answer["shared"],
        warps=warps,
        widest_load=max(widths, default=0),
        loop_load=0,
        matrix=matrix.group(0) if matrix else "",
    )


def cuda(target: int) -> dict[str, tuple[int, int, int]]:
    """Registers, spills and static shared memory of all CUDA kernels, by entry, as nvcc says."""
    if shutil.which("nvcc") is None:
        raise FileNotFoundError("nvcc is not on the PATH")
    found = {}
    for source in sorted((ROOT / "csrc" / "cuda").glob("*.cu")):
        with tempfile.TemporaryDirectory() as folder:
            command = ["nvcc", "-cubin", f"-arch=sm_{target}", "-std=c++17", "-Xptxas", "-v"]
            command += [f"-I{ROOT / 'csrc' / 'include'}", str(source), "-o", f"{folder}/out"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"{source.name} for sm_{target}: {done.stderr.strip()[:500]}")
        found |= parse_ptxas(done.stdout + done.stderr)
    return found
