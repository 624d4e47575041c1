"""From a PID to a connected probe: the chain of ways in, each tried only when the one before is not there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from torchtop.attach import bundle, payload, rendezvous
from torchtop.attach.inject import Injection, inject, remind
from torchtop.attach.permission import check_alive, check_state
from torchtop.attach.rendezvous import Channel, Meeting
from torchtop.errors import AttachError, NothingMeasured

_POLL_S = 0.0007  # s between two looks for the socket; a look costs about 30 us
_CODE_S = 30.0  # s in which a target whose threads are all busy must have taken the probe's code
_EXPIRY_MARGIN_S = 1.0  # s that the payload lives longer than we wait, so that it is never cancelled by being late
_REMIND_AT_S = (0.1, 0.4, 1.5, 5.0)  # s without a safe point after which the main thread is reminded
_WAKE_S = 0.3  # s after which it is also woken from waiting for a lock: shorter waits end by themselves


class Connection(NamedTuple):
    """A socket on which the probe speaks JSON lines, and how we got it."""

    pid: int
    channel: Channel
    method: str
    hello_s: float
    pause_s: float | None = None
    page: int | None = None
    folders: tuple[str, ...] = ()


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
        channel = rendezvous.shake_hands(sock, meeting) if sock is not None else None
        if channel is not None:
            return _started(pid, channel, "live-agent" if channel.live else "cooperative", began)
    meeting = rendezvous.new_meeting(pid)
    expires = time.monotonic() + timeout_s + _EXPIRY_MARGIN_S
    injection = inject(pid, lambda page: payload.text(meeting, expires, page))
    channel = _await_connector(meeting, injection, began + timeout_s, given_up)
    return _started(pid, channel, "ptrace", began)._replace(pause_s=injection.pause_s, page=injection.page)


def _await_connector(meeting: Meeting, injection: Injection, deadline: float, given_up: Callable[[], bool]) -> Channel:
    """Wait for the target to reach a safe point and open its socket."""
    began = time.monotonic()
    reminders = list(_REMIND_AT_S)
    try:
        while time.monotonic() < deadline and not given_up():
            sock = rendezvous.connect(meeting)
            channel = rendezvous.shake_hands(sock, meeting) if sock is not None else None
            if channel is not None:
                return channel
            time.sleep(_POLL_S)
            check_alive(meeting.pid)
            waited = time.monotonic() - began
            if reminders and waited > reminders[0]:
                del reminders[0]
                remind(meeting.pid, wake=waited > _WAKE_S)
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


def _started(pid: int, channel: Channel, method: str, began: float) -> Connection:
    """Send the probe's code where none runs yet."""
    if not channel.live:
        if tuple(int(part) for part in channel.python.split(".")[:2]) < (3, 9):
            channel.socket.close()
            raise AttachError(f"process {pid} runs Python {channel.python}: torchtop needs 3.9 or newer")
        code = bundle.build(channel.magic)
        channel.socket.settimeout(_CODE_S)
        channel.socket.sendall(b"%08x" % len(code) + code)
    folders = rendezvous.shared_folders(pid)
    return Connection(pid, channel, method, time.monotonic() - began, folders=folders)
