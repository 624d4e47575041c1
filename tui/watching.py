"""What the screen needs of a session, without knowing one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from torchtop.lens import Lens
from torchtop.snapshot import Snapshot


class Ending(NamedTuple):
    """How a watch ended. ended: the job itself has; lost: why nothing more can be seen although it runs on."""

    ended: bool
    lost: str | None = None


class Watching(Protocol):
    """A job that is watched. Everything but `run` returns at once."""

    async def run(self, take: Callable[[Snapshot], Awaitable[bool]]) -> Ending:
        """Hand every snapshot to `take` until the job ends or `stop` is called. Raises `TorchtopError`."""

    def stop(self) -> None:
        """Let go of the job; `run` then returns."""

    def look(self, lens: Lens) -> None:
        """Look at another rank or layer."""

    def set_budget(self, share: float) -> None:
        """Let the probe cost at most `share` (0..1) of step time."""


class Section(NamedTuple):
    """A part of a rule's text. heading: '' for what stands before the first one."""

    heading: str
    paragraphs: tuple[str, ...]


class Rules(Protocol):
    """What is known of the rules that judged."""

    def __len__(self) -> int:
        """How many there are."""

    def text(self, code: str) -> tuple[Section, ...]:
        """What one of them says of itself; empty for one that is not known here."""


class Choice(NamedTuple):
    """A job in the list. rows: one for each rank, below the list's heading; why: what stands against attaching."""

    target: str
    title: str
    rows: tuple[str, ...]
    why: str | None


class Choices(NamedTuple):
    """The jobs of this machine. remark: what could not be looked into."""

    heading: str
    jobs: tuple[Choice, ...]
    remark: str | None


class Desk(Protocol):
    """Where jobs are found and opened."""

    async def jobs(self) -> Choices:
        """Those of this machine now."""

    async def open(self, target: str) -> Watching:
        """One of them, ready to be watched. Raises `TorchtopError`."""
