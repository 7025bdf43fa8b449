"""How tensors are handed to the C++ module."""

import gc
import weakref

import torch

from vilamp_kernels.cpu.module import address, unit_stride


def test_an_address_keeps_a_copy_alive_that_nobody_else_holds():
    given = torch.arange(6).view(2, 3).mT
    found = address(unit_stride(given))
    copy = weakref.ref(found.tensor)
    gc.collect()
    assert copy() is not None
    assert found == (copy().data_ptr(), (3, 2), (2, 1))
    del found
    assert copy() is None
