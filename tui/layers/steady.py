"""What keeps a live list calm: numbers and places that do not move for differences that mean nothing. Pure but for memory.

Each number is a mean over the sampled steps of a sliding minute. Written anew every second its last digits flicker, and
rows that are alike (the blocks of a transformer) change places all the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torchtop.snapshot import Layer

SAME_NUMBER = 0.01  # of itself: a mean of 100 steps wanders by as much from one second to the next
SAME_TIME = 2e-5  # of a step's time: below it the clock and the correction for hooks decide
TURNS = 4  # snapshots in which each row is once written anew: over a thin line all at once are too many bytes
SAME_OUT_OF_TURN = 0.10  # of a number: more than that is news, and shown at once
SAME_PLACE = 0.10  # of itself: rows nearer than that are alike to whoever looks for what is slow
SAME_PLACE_OF_TOP = 0.01  # of the largest: below it the order of the small ones helps nobody

_TIMES = ("forward_s", "backward_s", "self_forward_s", "self_backward_s", "recompute_s", "calls")
_FACTS = ("type", "parameter_bytes", "activation_bytes", "output_shape", "flops", "dtype")


def alike(shown: float | None, new: float | None, same: float = SAME_NUMBER, least: float = 0.0) -> bool:
    """Whether nobody would miss the difference. same: as a share of the number; least: in its unit."""
    if shown is None or new is None:
        return shown is new
    return abs(new - shown) <= max(same * abs(shown), least)


def steady(shown: Layer, new: Layer, step_s: float | None, same: float = SAME_NUMBER) -> Layer:
    """The one of the two to show: `shown` until `new` differs from it. same: share of a number that is no difference."""
    least = SAME_TIME * (step_s or 0.0)
    for field in _TIMES:
        if not alike(getattr(shown, field), getattr(new, field), same, least):
            return new
    if not alike(shown.share, new.share, same, SAME_TIME):
        return new
    return new if any(getattr(shown, field) != getattr(new, field) for field in _FACTS) else shown


class SteadyOrder:
    """Largest first, by values that are only taken anew when they have changed by enough to matter."""

    def __init__(self) -> None:
        self._held: dict[str, float] = {}

    def forget(self) -> None:
        """Be exact the next time: the user asked for another order."""
        self._held = {}

    def hold(self, values: Mapping[str, float | None]) -> None:
        """Take in the values of now, by name."""
        known = {name: value for name, value in values.items() if value is not None}
        least = SAME_PLACE_OF_TOP * max(known.values(), default=0.0)
        held = self._held
        self._held = {
            name: before
            if (before := held.get(name)) is not None and abs(value - before) <= max(SAME_PLACE * before, least)
            else value
            for name, value in known.items()
        }

    def sort(self, names: Iterable[str]) -> list[str]:
        """Largest first; those without a value last, and equal ones in the order given."""
        held = self._held
        return sorted(names, key=lambda name: -held[name] if name in held else 1.0)
