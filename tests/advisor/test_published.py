"""Published readings say where they are from, and hold nothing that a reading has not."""

from __future__ import annotations

import pytest

from tests.advisor import published
from torchtop.record import GpuSample


@pytest.mark.parametrize("name", published.READINGS)
def test_each_reading_has_a_source_and_known_fields(name: str) -> None:
    assert len(published.SOURCES[name]) > 20
    assert published.READINGS[name].keys() <= set(GpuSample.__struct_fields__)
    assert published.device(name).readings[-1].energy_j is None
