"""A watched job made of given snapshots, and the text of the screen that shows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio

from torchtop.errors import TorchtopError
from torchtop.lens import Lens
from torchtop.snapshot import Snapshot
from torchtop.tui.app import TorchtopApp
from torchtop.tui.watching import Choices, Ending, Section


class Scripted:
    """Hands out `snapshots` at once, then waits for `end` or to be stopped. Writes down what it is asked for."""

    def __init__(self, *snapshots: Snapshot) -> None:
        self._snapshots = snapshots
        self._over = anyio.Event()
        self._ending: Ending | TorchtopError = Ending(ended=False)
        self._take: Callable[[Snapshot], Awaitable[bool]]
        self.looked: list[Lens] = []
        self.budgets: list[float] = []
        self.stopped = False

    async def run(self, take: Callable[[Snapshot], Awaitable[bool]]) -> Ending:
        self._take = take
        for snapshot in self._snapshots:
            await take(snapshot)
        await self._over.wait()
        if isinstance(self._ending, TorchtopError):
            raise self._ending
        return self._ending

    async def show(self, snapshot: Snapshot) -> None:
        """Hand out one more."""
        await self._take(snapshot)

    def end(self, ending: Ending | TorchtopError) -> None:
        """Come to an end by itself."""
        self._ending = ending
        self._over.set()

    def stop(self) -> None:
        self.stopped = True
        self._over.set()

    def look(self, lens: Lens) -> None:
        self.looked.append(lens)

    def set_budget(self, share: float) -> None:
        self.budgets.append(share)


class Rulebook:
    """44 rules; of those in `texts` it knows what they say of themselves."""

    def __init__(self, texts: Mapping[str, tuple[Section, ...]] | None = None) -> None:
        self._texts = texts or {}

    def __len__(self) -> int:
        return 44

    def text(self, code: str) -> tuple[Section, ...]:
        return self._texts.get(code, ())


class Desk:
    """A job list that says what it is told, and opens what it is given."""

    def __init__(self, found: Sequence[Choices], opened: Scripted | TorchtopError) -> None:
        self._found = list(found)
        self._opened = opened
        self.asked_for: list[str] = []

    async def jobs(self) -> Choices:
        return self._found.pop(0) if len(self._found) > 1 else self._found[0]

    async def open(self, target: str) -> Scripted:
        self.asked_for.append(target)
        if isinstance(self._opened, TorchtopError):
            raise self._opened
        return self._opened


def rows(app: TorchtopApp) -> list[str]:
    """What is on screen, a text for each row."""
    strips = app.screen._compositor.render_strips(app.size)
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


def page(app: TorchtopApp) -> str:
    """The same as one text."""
    return "\n".join(rows(app))
