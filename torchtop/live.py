"""`torchtop attach` and `torchtop` alone: a session and the screen that shows it, in one event loop."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable

from torchtop.attach.job import LocalJob, find
from torchtop.errors import UsageError
from torchtop.lens import Lens
from torchtop.session import Options, Session
from torchtop.snapshot import Snapshot
from torchtop.tui.watching import Ending

HORIZON_S = 60.0  # s that the numbers on screen look back


class LiveJob:
    """A session as the screen wants it (tui/watching.py)."""

    def __init__(self, job: LocalJob, options: Options) -> None:
        self._job = job
        self._options = options
        self._session: Session | None = None

    async def run(self, take: Callable[[Snapshot], Awaitable[bool]]) -> Ending:
        self._session = Session(self._job, self._options, take)
        outcome = await self._session.run()
        return Ending(outcome.ended, str(outcome.lost) if outcome.lost is not None else None)

    def stop(self) -> None:
        if self._session is not None:
            self._session.stop()

    def look(self, lens: Lens) -> None:
        if self._session is not None:
            self._session.look(lens)

    def set_budget(self, share: float) -> None:
        if self._session is not None:
            self._session.set_budget(share)


def attach(target: str, budget: float | None, no_probe: bool, read_only: bool) -> int:
    """Watch TARGET on a screen; the exit code. Raises `TorchtopError`."""
    need_terminal(f"torchtop export {target}")
    job = find(target)
    options = Options(duration_s=None, every_s=1.0, horizon_s=HORIZON_S, budget=budget, no_probe=no_probe, live=True)
    return show(LiveJob(job, options), read_only)


def show(watching: LiveJob, read_only: bool) -> int:
    """Run the screen until its user leaves it."""
    from torchtop.tui.app import TorchtopApp

    app = TorchtopApp(watching, read_only)
    app.run(mouse=False)
    if app.failure is not None:
        raise app.failure
    return 0


def need_terminal(instead: str) -> None:
    """Raise `UsageError` where no screen can be shown. instead: a command that needs none."""
    if not (sys.__stdin__ and sys.__stdin__.isatty() and sys.__stderr__ and sys.__stderr__.isatty()):
        raise UsageError(f"there is no terminal to draw on: use `{instead}`")
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        raise UsageError(f"this terminal cannot move its cursor (TERM={os.environ.get('TERM', '')}): use `{instead}`")
