"""`torchtop attach` and `torchtop` alone: a session and the screen that shows it, in one event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread

from torchtop.attach.job import LocalJob, find
from torchtop.errors import UsageError
from torchtop.lens import Lens
from torchtop.ps import JobRow, take
from torchtop.ps_table import HEADING, row, title
from torchtop.rulebook import Rulebook
from torchtop.session import Options, Session
from torchtop.snapshot import Snapshot
from torchtop.tui.watching import Choice, Choices, Ending

_GARBAGE = 20_000  # objects between two rounds of the collector of cycles: an armed step of a large model makes so many
HORIZON_S = 60.0  # s that the numbers on screen look back


class LiveJob:
    """A session as the screen wants it (tui/watching.py)."""

    def __init__(self, job: LocalJob, options: Options) -> None:
        self._job = job
        self._options = options
        self._session: Session | None = None
        self._stopped = False

    async def run(self, take: Callable[[Snapshot], Awaitable[bool]]) -> Ending:
        if self._stopped:
            return Ending(ended=False)
        self._session = Session(self._job, self._options, take)
        outcome = await self._session.run()
        return Ending(outcome.ended, str(outcome.lost) if outcome.lost is not None else None)

    def stop(self) -> None:
        self._stopped = True
        if self._session is not None:
            self._session.stop()

    def look(self, lens: Lens) -> None:
        if self._session is not None:
            self._session.look(lens)

    def set_budget(self, share: float) -> None:
        if self._session is not None:
            self._session.set_budget(share)


class LocalDesk:
    """The jobs of this machine (tui/watching.py)."""

    def __init__(self, options: Options) -> None:
        self._options = options

    async def jobs(self) -> Choices:
        listing = await anyio.to_thread.run_sync(take)
        closed = listing.not_readable
        remark = f"{closed} Python processes of other users cannot be looked into: {listing.fix}" if closed else None
        return Choices(HEADING, tuple(_choice(job) for job in listing.jobs if job.ranks), remark)

    async def open(self, target: str) -> LiveJob:
        return LiveJob(await anyio.to_thread.run_sync(find, target), self._options)


def _choice(job: JobRow) -> Choice:
    blocked = next((rank for rank in job.ranks if not rank.attachable), None)
    why = None
    if blocked is not None:
        why = f"{blocked.why}: {blocked.fix}" if blocked.fix else blocked.why
    return Choice(str(job.ranks[0].pid), title(job), tuple(row(job, rank) for rank in job.ranks), why)


def attach(target: str, rank: int | None, options: Options, read_only: bool) -> int:
    """Watch TARGET on a screen; the exit code. Raises `TorchtopError`."""
    need_terminal(f"torchtop export {target}")
    return show(LiveJob(find(target, rank), options), options, read_only)


def pick(options: Options, read_only: bool) -> int:
    """Let the user choose a job, and watch it."""
    need_terminal("torchtop ps")
    return show(None, options, read_only)


def show(job: LiveJob | None, options: Options, read_only: bool) -> int:
    """Run the screen until its user leaves it or a signal comes; the exit code. Raises `TorchtopError`."""
    from torchtop.tui.app import TorchtopApp

    # What was imported stays: a collector of cycles that looks at all of it again and again stops the screen each time.
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # of the terminal that a shell exported them in; they would count before this one's
    app = TorchtopApp(job, None if job is not None else LocalDesk(options), read_only, options.budget, Rulebook())
    received: list[int] = []

    def leave(number: int) -> None:
        received.append(number)
        app.call_later(app.action_quit)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        # Before the first system call on a target: what killed us while its registers are borrowed would kill it too.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, leave, number)
        await app.run_async(mouse=False)

    asyncio.run(run())
    for found in app.left_behind:
        print(f"torchtop: left behind in the job: {found}", file=sys.stderr)
    if app.failure is not None:
        raise app.failure
    return 130 if received else app.return_code or 0


def live_options(budget: float | None, no_probe: bool) -> Options:
    """How a screen watches."""
    return Options(None, every_s=1.0, horizon_s=HORIZON_S, budget=budget, no_probe=no_probe, live=True)


def need_terminal(instead: str) -> None:
    """Raise `UsageError` where no screen can be shown. instead: a command that needs none."""
    if not (sys.__stdin__ and sys.__stdin__.isatty() and sys.__stderr__ and sys.__stderr__.isatty()):
        raise UsageError(f"there is no terminal to draw on: use `{instead}`")
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        raise UsageError(f"this terminal cannot move its cursor (TERM={os.environ.get('TERM', '')}): use `{instead}`")
