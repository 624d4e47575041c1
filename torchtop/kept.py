"""A result that is made anew only when what it was made from has changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """The latest result of one computation."""

    def __init__(self) -> None:
        self._found: tuple[Hashable, _T] | None = None

    def of(self, made_from: Hashable, make: Callable[[], _T]) -> _T:
        """The result for `made_from`: the one that is kept if it is of the same, else what `make` returns."""
        if self._found is None or self._found[0] != made_from:
            self._found = made_from, make()
        return self._found[1]
