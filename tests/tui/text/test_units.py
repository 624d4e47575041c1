"""Numbers as users read them."""

from __future__ import annotations

import pytest

from torchtop.tui.text import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123456, "0.00123"),
        (0.16, "0.160"),
        (0.9996, "1.00"),
        (1, "1.00"),
        (12.34, "12.3"),
        (99.96, "100"),
        (123.4, "123"),
        (12345, "12300"),
        (-1.5, "-1.50"),
    ],
)
def test_digits(value: float, text: str) -> None:
    assert units.digits(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0.0, "0 s"),
        (1.5, "1.50 s"),
        (0.0559, "55.9 ms"),
        (0.9999, "1.00 s"),
        (2.11e-4, "211 µs"),
        (1.2e-8, "12.0 ns"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "—"), (0, "0 B"), (512, "512 B"), (3501056, "3.34 MiB"), (2**30, "1.00 GiB"), (1000 * 2**20, "0.977 GiB")],
)
def test_size(count: int | None, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "—"), (0, "0"), (8.0, "8"), (0.5, "0.500"), (66048, "66.0k"), (7.1e9, "7.10G")]
)
def test_amount(count: float | None, text: str) -> None:
    assert units.amount(count) == text


@pytest.mark.parametrize(
    ("share", "text"), [(None, "—"), (0.0, "0 %"), (1e-7, "<0.001 %"), (0.516, "51.6 %"), (1.0, "100 %")]
)
def test_percent(share: float | None, text: str) -> None:
    assert units.percent(share) == text
