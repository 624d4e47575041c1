"""From a PID to a connected probe: the chain of ways in, each tried only when the one before does not fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from torchtop.attach import asleep, bundle, clock, gdb, inject, payload, remote_exec, rendezvous
from torchtop.attach.asleep import ASLEEP_S, Sleeper
from torchtop.attach.c_api import Unsuited
from torchtop.attach.inject import Injection, Moved
from torchtop.attach.permission import check_alive, permission_sentence
from torchtop.attach.ptrace import Place
from torchtop.attach.remote_exec import Script
from torchtop.attach.rendezvous import Channel, Meeting
from torchtop.errors import AttachError, NoTarget, NothingMeasured, ProbeImpossible

# After a socket that is there already. remote_exec comes late because its script is Python on the main thread: a Ctrl-C
# that arrives while CPython reads or begins it is lost, which no script can prevent.
WAYS = (inject.DIRECT, inject.PENDING, remote_exec.METHOD, gdb.METHOD)

_POLL_S = 0.0007  # s between two looks for the socket; a look costs about 30 us
_CODE_S = 30.0  # s in which a target whose threads are all busy must have taken the probe's code
_EXPIRY_MARGIN_S = 1.0  # s that the payload lives longer than we wait, so that it is never cancelled by being late
_REMIND_AT_S = (0.1, 0.4, 1.5, 5.0)  # s without a safe point after which the main thread is reminded
_WAKE_S = 0.3  # s after which it is also woken from waiting for a lock: shorter waits end by themselves
_LOOK_S = 0.05  # s between two looks whether it has fallen asleep since, or another torchtop has come


class Connection(NamedTuple):
    """A socket on which the probe speaks JSON lines, and how we got it."""

    pid: int
    channel: Channel
    method: str
    hello_s: float
    pause_s: float | None = None
    page: int | None = None
    folders: tuple[str, ...] = ()


class _Wish(NamedTuple):
    """What an attach was asked for."""

    pid: int
    began: float
    deadline: float
    given_up: Callable[[], bool]
    where: Callable[[int], str | None]
    ways: Collection[str]
    asleep_s: float

    def over(self) -> bool:
        return time.monotonic() >= self.deadline or self.given_up()


def attach(
    pid: int,
    timeout_s: float = 10.0,
    given_up: Callable[[], bool] = lambda: False,
    where: Callable[[int], str | None] = lambda pid: None,
    ways: Collection[str] = WAYS,
    asleep_s: float = ASLEEP_S,
) -> Connection:
    """Connect to the probe in `pid`, putting it there first if need be. Blocks for up to `timeout_s`.

    given_up: asked now and then; once true, the attach is cancelled as at the end of the time;
    where: the Python line that a process is at, for a sentence; ways: those of `WAYS` that may be tried;
    asleep_s: s without any move after which a main thread that sleeps is not waited for.

    Raises `NoTarget`, `AttachError` (with cause and fix) or `NothingMeasured` when the main thread came to no safe
    point in time; the target then runs on as if nothing had been tried.
    """
    began = time.monotonic()
    wish = _Wish(pid, began, began + timeout_s, given_up, where, ways, asleep_s)
    try:
        inject.check_settled(pid)
        return _joined(wish) or _put_there(wish)
    except PermissionError as error:
        raise AttachError(permission_sentence(pid, error)) from None
    except (FileNotFoundError, ProcessLookupError):
        raise NoTarget(f"process {pid} ended while it was being attached to") from None
    except OSError as error:  # what went wrong with the socket; most often it is that
        check_alive(pid)
        raise AttachError(f"process {pid} broke the connection off ({error}): try again") from None


def _joined(wish: _Wish, but: str = "") -> Connection | None:
    """By a socket that stands there already, if there is one. but: the name of our own."""
    for meeting in rendezvous.existing_meetings(wish.pid):
        if meeting.file == but:
            continue
        sock = rendezvous.connect(meeting)
        channel = rendezvous.shake_hands(sock, meeting) if sock is not None else None
        if channel is not None:
            return _started(wish, channel, "live-agent" if channel.live else "cooperative")
    return None


def _put_there(wish: _Wish) -> Connection:
    sleeper = Sleeper(wish.pid, wish.asleep_s)
    if inject.DIRECT in wish.ways:
        _await_move(wish, sleeper)
    meeting = rendezvous.new_meeting(wish.pid)
    expires = wish.deadline + _EXPIRY_MARGIN_S + clock.shift_s(wish.pid)
    while True:
        # Another torchtop may have come meanwhile.
        joined = _joined(wish)
        if joined is not None:
            return joined
        planted = _plant(wish, meeting, expires, sleeper.place())
        connection = _await_connector(wish, meeting, planted, sleeper)
        if connection is not None:
            return connection
        if wish.over():
            raise _nothing(wish, planted)
        _cancel(planted)  # it has fallen asleep since


def _await_move(wish: _Wish, sleeper: Sleeper) -> None:
    """Watch a sleeping main thread until it moves, or has slept for long enough; one that works is not waited for.

    This comes first because a pending call cannot be taken back.
    """
    looked_at = None
    while sleeper.look() and sleeper.place() is None and not wish.over():
        if looked_at is not None and sleeper.since != looked_at:
            return
        looked_at = sleeper.since
        time.sleep(_POLL_S)


def _plant(wish: _Wish, meeting: Meeting, expires: float, sleeps_at: Place | None) -> Injection | Script:
    """By the first way that fits. Raises what the last one says when none does."""

    def text(page: int) -> bytes:
        return payload.text(meeting, expires, page)

    text(0)  # makes what all texts share: not while the target stands still
    problem: AttachError | None = None
    for way in (way for way in WAYS if way in wish.ways):
        try:
            if way == inject.DIRECT:
                if sleeps_at is not None:
                    return inject.inject_thread(wish.pid, text, sleeps_at)
            elif way == remote_exec.METHOD:
                return remote_exec.request(wish.pid, meeting, expires)
            elif way == inject.PENDING:
                return inject.inject(wish.pid, text)
            else:
                return gdb.inject(wish.pid, text)
        except Moved:
            continue
        except (Unsuited, ProbeImpossible) as unsuited:
            problem = problem or unsuited  # that gdb is not installed, too, is no cause
    raise problem or AttachError(f"process {wish.pid} is not asleep, and no other way in was allowed")


def _await_connector(wish: _Wish, meeting: Meeting, planted: Injection | Script, sleeper: Sleeper) -> Connection | None:
    """Wait for the target to reach a safe point and open its socket; None when the time is up or another way is due."""
    began = time.monotonic()
    reminders = list(_REMIND_AT_S) if planted.method == inject.PENDING else []
    look_at = began + _WAKE_S
    try:
        while not wish.over():
            sock = rendezvous.connect(meeting)
            channel = rendezvous.shake_hands(sock, meeting) if sock is not None else None
            if channel is not None:
                started = _started(wish, channel, planted.method)
                return started._replace(pause_s=planted.pause_s, page=planted.page)
            time.sleep(_POLL_S)
            check_alive(wish.pid)
            now = time.monotonic()
            if reminders and now - began > reminders[0]:
                del reminders[0]
                inject.remind(wish.pid, wake=now - began > _WAKE_S)
            if now < look_at:
                continue
            look_at = now + _LOOK_S
            # Another torchtop may have been let in by our own connector, which is then gone: its agent serves us, too.
            joined = _joined(wish, but=meeting.file)
            if joined is not None:
                _cancel(planted)
                return joined
            if planted.method != inject.DIRECT and inject.DIRECT in wish.ways:
                sleeper.look()
                if sleeper.place() is not None:
                    return None
    except BaseException:
        _cancel(planted)
        raise
    return None


def _nothing(wish: _Wish, planted: Injection | Script) -> NothingMeasured:
    """Cancel, and say what the main thread was in."""
    call = asleep.system_call(wish.pid)
    doing = "runs, perhaps in a long C call" if call is None else f"waits in {call.name}"
    line = wish.where(wish.pid)
    left = _cancel(planted)
    return NothingMeasured(
        f"the main thread of process {wish.pid} came to no Python safe point in "
        f"{time.monotonic() - wish.began:.0f} s: it {doing}"
        + (f", in {line}" if line else f" (py-spy dump --pid {wish.pid} shows where)")
        + "; the attach was cancelled and nothing of it will run"
        + (f" ({left})" if left else "")
        + f": try again once it has moved on, torchtop export {wish.pid}"
    )


def _cancel(planted: Injection | Script) -> str | None:
    """What is left of it, None if nothing is."""
    try:
        return planted.cancel()
    except OSError:
        return None  # the process is gone, and its memory with it


def _started(wish: _Wish, channel: Channel, method: str) -> Connection:
    """Send the probe's code where none runs yet."""
    try:
        if not channel.live:
            if tuple(int(part) for part in channel.python.split(".")[:2]) < (3, 9):
                raise AttachError(f"process {wish.pid} runs Python {channel.python}: torchtop needs 3.9 or newer")
            code = bundle.build(channel.magic)
            channel.socket.settimeout(_CODE_S)
            channel.socket.sendall(b"%08x" % len(code) + code)
        folders = rendezvous.shared_folders(wish.pid)
    except BaseException:
        channel.socket.close()
        raise
    return Connection(wish.pid, channel, method, time.monotonic() - wish.began, folders=folders)
