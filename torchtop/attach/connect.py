"""From a PID to a connected probe: the chain of ways in, each tried only when the one before is not there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from torchtop.attach import bundle, payload, rendezvous
from torchtop.attach.inject import Injection, check_state, inject, wake_from_lock
from torchtop.attach.rendezvous import Channel, Meeting
from torchtop.errors import AttachError, NothingMeasured

_POLL_S = 0.0007  # s between two looks for the socket; a look costs about 30 us
_EXPIRY_MARGIN_S = 1.0  # s that the payload lives longer than we wait, so that it is never cancelled by being late
_LOCK_S = 0.3  # s without a safe point after which a main thread that waits for a lock is woken to see to it


class Connection(NamedTuple):
    """A socket on which the probe speaks JSON lines, and how we got it."""

    pid: int
    channel: Channel
    method: str
    hello_s: float
    pause_s: float | None


def attach(pid: int, timeout_s: float = 10.0, given_up: Callable[[], bool] = lambda: False) -> Connection:
    """Connect to the probe in `pid`, putting it there first if need be. Blocks for up to `timeout_s`.

    given_up: asked now and then; once true, the attach is cancelled as at the end of the time.

    Raises `NoTarget`, `AttachError` (with cause and fix) or `NothingMeasured` when the main thread came to no safe
    point in time; the target then runs on as if nothing had been tried.
    """
    began = time.monotonic()
    check_state(pid)
    for meeting in rendezvous.existing_meetings(pid):
        sock = rendezvous.connect(meeting)
        if sock is not None:
            channel = rendezvous.shake_hands(sock, meeting)
            method = "live-agent" if channel.live else "cooperative"
            return _started(pid, channel, method, began, None)
    meeting = rendezvous.new_meeting(pid)
    injection = inject(pid, payload.build(meeting, time.monotonic() + timeout_s + _EXPIRY_MARGIN_S))
    channel = _await_connector(meeting, injection, began + timeout_s, given_up)
    return _started(pid, channel, "ptrace", began, injection.pause_s)


def _await_connector(meeting: Meeting, injection: Injection, deadline: float, given_up: Callable[[], bool]) -> Channel:
    """Wait for the target to reach a safe point and open its socket."""
    wake_at = time.monotonic() + _LOCK_S
    try:
        while time.monotonic() < deadline and not given_up():
            sock = rendezvous.connect(meeting)
            if sock is not None:
                return rendezvous.shake_hands(sock, meeting)
            time.sleep(_POLL_S)
            check_state(meeting.pid)
            if time.monotonic() > wake_at:
                wake_from_lock(meeting.pid)
                wake_at += _LOCK_S
    except BaseException:
        _cancel(injection)
        raise
    _cancel(injection)
    raise NothingMeasured(
        f"the main thread of process {meeting.pid} came to no Python safe point in time: it is asleep or in a long C "
        f"call (py-spy dump --pid {meeting.pid} shows where); the attach was cancelled and nothing was left: try again"
    )


def _cancel(injection: Injection) -> None:
    try:
        injection.cancel()
    except OSError:
        return  # the process is gone, and its memory with it


def _started(pid: int, channel: Channel, method: str, began: float, pause_s: float | None) -> Connection:
    """Send the probe's code where none runs yet."""
    if not channel.live:
        if tuple(int(part) for part in channel.python.split(".")[:2]) < (3, 9):
            channel.socket.close()
            raise AttachError(f"process {pid} runs Python {channel.python}: torchtop needs 3.9 or newer")
        code = bundle.build(channel.magic)
        channel.socket.sendall(b"%d\n" % len(code) + code)
    return Connection(pid, channel, method, time.monotonic() - began, pause_s)
