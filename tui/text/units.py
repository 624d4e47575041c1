"""Numbers as users read them: three significant digits and a unit; a dash for what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

MISSING = "—"


def digits(value: float) -> str:
    """Three significant digits, and no exponent: 0.00123, 1.23, 12.3, 1230."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    before_point = math.floor(math.log10(abs(rounded))) + 1
    return f"{rounded:.{max(3 - before_point, 0)}f}"


def duration(seconds: float | None) -> str:
    """`1.50 s`, `55.9 ms`, `211 µs`, `12.0 ns`."""
    return _scaled(seconds, ((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")))


def size(count: float | None) -> str:
    """Bytes in the binary units that PyTorch and nvidia-smi print: `3.34 MiB`."""
    return _scaled(count, ((2.0**40, " TiB"), (2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB"), (1.0, " B")))


def amount(count: float | None) -> str:
    """`512`, `66.0k`, `1.24M`."""
    if count is not None and abs(count) < 1000 and count == int(count):
        return str(int(count))
    return _scaled(count, ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")))


def percent(share: float | None) -> str:
    """A share of 0..1 as `51.6 %`."""
    if share is None:
        return MISSING
    return "<0.001 %" if 0 < share < 1e-5 else f"{digits(100 * share)} %"


def _scaled(value: float | None, units: Sequence[tuple[float, str]]) -> str:
    """`value` in the smallest of `units`, largest first, that needs no more than three digits before the point."""
    if value is None:
        return MISSING
    if value == 0:
        return "0" + next(name for factor, name in units if factor == 1)
    fits = (unit for unit in reversed(units) if float(f"{abs(value) / unit[0]:.3g}") < 1000)
    factor, name = next(fits, units[0])
    return digits(value / factor) + name
