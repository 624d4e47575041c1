"""Steps of a rank that waits in backward for others."""

from __future__ import annotations

import random

from tests.advisor.windows import PARTS, STEP_S, rows
from torchtop.record import StepRow


def waiting(
    wait: float,
    count: int = 180,
    lot: int = 0,
    uneven: float = 0.0,
    data: float = PARTS["data"],
    forward: float = PARTS["forward"],
    backward: float = PARTS["backward"],
) -> tuple[StepRow, ...]:
    """Steps of which the rank waits `wait` (a share of STEP_S) in backward, `uneven` of it more or less."""
    chance = random.Random(lot)
    return tuple(
        row._replace(backward_wait_s=max(wait + uneven * (2 * chance.random() - 1), 0.0) * STEP_S)
        for row in rows(count, data=data, forward=forward, backward=backward)
    )
