"""Each op on many small and awkward inputs, the same ones each time."""

import properties
import pytest
from hypothesis import HealthCheck, given, settings

pytestmark = pytest.mark.usefixtures("uninitialised_is_nan")


@pytest.mark.parametrize("op", properties.PROPERTIES)
def test_property(op):
    cases, holds = properties.PROPERTIES[op]

    @settings(
        derandomize=True,
        max_examples=150,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def run(case):
        holds(*case)

    run()


def test_every_op_with_a_kernel_here_has_a_property():
    assert set(properties.vk.available_backends()["cpu"].ops) <= set(properties.PROPERTIES)
