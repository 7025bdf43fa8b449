"""cp.async."""

from __future__ import annotations

import numpy as np

from ..access import count, shared_index
from ..memory import ELEMENTS
from ..operands import address_reader, reader, spread
from ..parse import Function, Instruction, Literal, Register
from .registry import instruction, unknown


@instruction("cp")
def cp(f: Function, step: Instruction):
    op = step.op
    if op[1] != "async" or "bulk" in op or "mbarrier" in op:
        raise unknown(step)
    if "commit_group" in op:
        return lambda m, L: m.copies.commit(L)
    if "wait_all" in op:
        return lambda m, L: m.copies.wait_all(L)
    if "wait_group" in op:
        keep = int(step.operands[0].text, 0)
        return lambda m, L: m.copies.wait(L, keep)
    return _copy(f, step)


def _copy(f: Function, step: Instruction):
    to, source = (address_reader(f, operand) for operand in step.operands[:2])
    n, text = int(step.operands[2].text, 0), step.text
    read_size = None
    if len(step.operands) > 3:
        size = step.operands[3]
        # A 64-bit register there is a cache policy.
        if isinstance(size, Literal) or (isinstance(size, Register) and size.width == 32):
            read_size = reader(f, size, "u32")

    def run(m, L):
        where = shared_index(m, to(m, L), n, L, text)
        address = source(m, L)
        sizes = n if read_size is None else spread(m, L, read_size(m, L))
        if np.all(sizes == n):
            data = m.memory.load(address, n, text)
            count(m, "global", address, n, L)
        else:
            lanes = m.lanes[L]
            data = np.zeros(len(lanes), ELEMENTS[n])
            for size in np.unique(sizes[sizes > 0]).tolist():
                who = np.flatnonzero(sizes == size)
                count(m, "global", address[who], n, lanes[who])
                data[who] = _partial(m, address[who], size, n, text)
        m.copies.start(L, where, data, text)

    return run


def _partial(m, address: np.ndarray, size: int, n: int, text: str) -> np.ndarray:
    """The first `size` bytes of each element of `n`, zeros behind them."""
    if size == n:
        return m.memory.load(address, n, text)
    data = np.zeros((len(address), n), np.uint8)
    for i in range(size):
        data[:, i] = m.memory.load(address + i, 1, text)
    return data.view(ELEMENTS[n]).reshape(-1)
