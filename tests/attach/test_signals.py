"""A Ctrl-C that comes while torchtop attaches still reaches the program, once and as a Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tests.conftest import Start, interpreters
from tests.cycle import cycle

INTERRUPTS = 150


@pytest.mark.parametrize("python", interpreters().items(), ids=lambda item: item[0])
def test_every_ctrl_c_arrives(start: Start, python: tuple[str, str]) -> None:
    target = start("ctrl_c.py", python=python[1]).wait_ready()
    out = target.process.stdout
    assert out is not None
    assert out.readline() == "interrupts 0\n"
    over = threading.Event()
    cycles = 0
    failed: list[BaseException] = []

    def attach_all_the_time() -> None:
        nonlocal cycles
        try:
            while not over.is_set():
                cycle(target.pid)
                cycles += 1
        except BaseException as error:  # noqa: BLE001  # whatever it was, the main thread reports it
            failed.append(error)

    attaching = threading.Thread(target=attach_all_the_time)
    attaching.start()
    for number in range(1, INTERRUPTS + 1):
        time.sleep(number % 7 / 1000)  # not a wait: spreads the signals over all moments of an attach
        # Not Popen.send_signal: it polls, and would take the stops of a child that another thread of ours traces.
        os.kill(target.pid, signal.SIGINT)
        # Two pending SIGINTs merge into one: the next is sent when this one has arrived.
        assert out.readline() == f"interrupts {number}\n", failed
    over.set()
    attaching.join()
    assert not failed, failed
    assert cycles > 0
    assert target.stop()["interrupts"] == INTERRUPTS
