"""Exceptions that meet us by chance: from a signal handler, or set by another thread. They reach the program."""

# mypy: allow-untyped-calls, no-warn-return-any

from __future__ import annotations

import ctypes
import functools
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import torch

from torchtop.probe.watch import program
from torchtop.probe.watch.garbage import Garbage
from torchtop.probe.watch.program import hand_on, is_ours

PATIENCE_S = 10.0


class Stop(Exception):
    """One whose arguments are not its constructor's."""

    def __init__(self, number: int, *, why: str) -> None:
        super().__init__(f"signal {number}: {why}")
        self.why = why


def stop(number: int, _frame: FrameType | None) -> None:
    raise Stop(number, why="time is up")


@pytest.fixture
def garbage() -> Iterator[Any]:
    watch = SimpleNamespace(
        on=True, errors=0, clock=SimpleNamespace(trainer=threading.get_ident()), program=program.Program(torch)
    )
    found = Garbage(watch)
    before = signal.signal(signal.SIGALRM, stop)
    # Hypothesis has one, too, once it was used in this process: an exception that lands there is lost.
    others, gc.callbacks[:] = gc.callbacks[:], []
    found.add()
    yield found
    found.remove()
    gc.callbacks[:] = others
    signal.signal(signal.SIGALRM, before)
    assert watch.errors == 0


def interrupted_collection() -> None:
    """A signal arrives while garbage is collected: its handler runs in the first Python there is."""
    many = [[number] for number in range(400_000)]
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    gc.collect()
    del many


def told(tick: Callable[[], None]) -> Stop | None:
    """The Stop that reaches the program in which it was raised while garbage was collected."""
    try:
        interrupted_collection()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            tick()
    except Stop as error:
        return error
    return None


def test_a_handlers_exception_arrives_as_it_was(garbage: Any) -> None:
    error = told(garbage.tick)
    assert error is not None
    assert (type(error), error.why, error.args) == (Stop, "time is up", (f"signal {int(signal.SIGALRM)}: time is up",))


def test_it_arrives_in_a_forked_child_where_nobody_else_raises_it(garbage: Any) -> None:
    child = os.fork()
    if child == 0:
        try:
            error = told(lambda: None)
            again = told(lambda: None)
            os._exit(0 if error is not None and again is not None else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 4 * PATIENCE_S
    ended = (0, 0)
    while ended[0] == 0 and time.monotonic() < deadline:
        ended = os.waitpid(child, os.WNOHANG)
        threading.Event().wait(0.01)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)


def caught(raising: Callable[[], object]) -> Exception:
    """What is raised, as our own code would catch it. `raising` may be ours or the program's."""
    try:
        raising()
    except Exception as error:  # noqa: BLE001  # as ours does
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("handler", [stop, lambda *_: stop(1, None), lambda number, frame: stop(number, frame)])
def test_what_a_handler_raises_is_not_ours(handler: Any) -> None:
    before = signal.signal(signal.SIGALRM, handler)
    try:
        error = caught(lambda: signal.raise_signal(signal.SIGALRM))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not is_ours(error)
    with pytest.raises(Stop):
        hand_on(error)


def test_what_reading_a_property_of_the_users_raises_is_our_doing() -> None:
    class Parameter:
        @property
        def grad(self) -> None:
            raise ValueError

    error = caught(lambda: Parameter().grad)
    assert is_ours(error)
    hand_on(error)
    assert is_ours(caught(lambda: program.plain(None)))


class TimesUp(Exception):
    """What func_timeout and stopit have raised in the thread that took too long."""


def test_what_another_thread_has_raised_in_this_one_is_not_ours() -> None:
    raising = ctypes.pythonapi.PyThreadState_SetAsyncExc
    ident, kind = ctypes.c_ulong(threading.get_ident()), ctypes.py_object(TimesUp)

    class Text(str):
        encode = functools.partial(raising, ident, kind)

    error = caught(lambda: program.plain(Text("")))
    assert type(error) is TimesUp
    assert not is_ours(error)
