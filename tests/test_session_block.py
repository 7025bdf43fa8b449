"""A session in a `with` block, and what its notes say of disk."""

from __future__ import annotations

import numpy as np
import pytest
from vilamp import InputError, ViLAMP

QUESTION = "In what place do you see the pink cross?"


@pytest.fixture(scope="module")
def model() -> ViLAMP:
    return ViLAMP.from_pretrained("default", device="cpu")


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (4, 48, 48, 3), np.uint8)


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_end_of_a_block_closes(error, model, frames):
    def block():
        with model.session(frames) as session:
            sessions.append(session)
            session.select(QUESTION)
            if error:
                raise error

    sessions = []
    if error is None:
        block()
    else:
        with pytest.raises(error):
            block()
    with pytest.raises(InputError, match="the session is closed"):
        sessions[0].ask(QUESTION)


def test_disk_that_is_not_there_is_told_in_a_unit_that_fits(model, frames):
    with model.session(frames, spool=1) as session:
        session.ask(QUESTION, max_new_tokens=1)
        (told,) = [line for line in session.notes if "of disk" in line]
    assert "they would take 48 KiB of disk" in told
