"""The properties for as long as asked: VILAMP_FUZZ_SECONDS (600) in all, a new seed each round.

A failure names its seed; VILAMP_FUZZ_SEED=seed runs that round alone.
"""

import os
import random
import time

import properties
import pytest
from hypothesis import HealthCheck, given, seed, settings

SECONDS = float(os.environ.get("VILAMP_FUZZ_SECONDS", 600))
SEED = os.environ.get("VILAMP_FUZZ_SEED")


@pytest.mark.slow
@pytest.mark.parametrize("op", properties.PROPERTIES)
def test_fuzz(op):
    cases, holds = properties.PROPERTIES[op]
    end = time.monotonic() + SECONDS / len(properties.PROPERTIES)
    while True:
        number = int(SEED) if SEED else random.SystemRandom().randrange(2**32)

        @seed(number)
        @settings(
            max_examples=200,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(cases)
        def run(case):
            holds(*case)

        try:
            run()
        except BaseException:
            print(f"{op}: failed with VILAMP_FUZZ_SEED={number}")
            raise
        if SEED or time.monotonic() > end:
            break
