"""Signals while torchtop attaches: the program's reach the program, and ours end torchtop and nothing else."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import TORCHTOP, Start, interpreters
from tests.cycle import cycle
from torchtop.attach import proc, rendezvous

INTERRUPTS = 150
ENDS = 6  # of torchtop, at least
STEPS = 1800
LATEST_S = 0.3  # after it has begun to take signals: an attach takes a tenth of that


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


def takes_signals(process: subprocess.Popen[str]) -> bool:
    """Whether it has come so far as to handle SIGTERM (SigCgt of proc(5))."""
    assert process.poll() is None, process.communicate()
    with open(f"/proc/{process.pid}/status") as status:
        caught = next(line for line in status if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def left(pid: int) -> list[Any]:
    """Sockets, and executable memory of no file."""
    code = [mapping for mapping in proc.mappings(pid) if "x" in mapping.permissions and not mapping.path]
    return [*rendezvous.existing_meetings(pid), *code]


def test_torchtop_is_ended_at_any_moment(start: Start, wait_for: Callable[..., Any]) -> None:
    """By Ctrl-C, SIGTERM and a closed terminal: exit code 130, and the training neither notices nor keeps anything."""
    job = "train.py", "--model", "transformer", "--small", "--steps", str(STEPS)
    target = start(*job).wait_ready()
    before = left(target.pid)
    chance = random.Random(0)
    ended = 0
    # As long as it trains: the last ones may find it gone.
    while target.steps_done() < STEPS * 0.9:
        watching = subprocess.Popen(
            [*TORCHTOP, "export", str(target.pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: takes_signals(watching), "torchtop to take signals")  # noqa: B023
        time.sleep(chance.uniform(0, LATEST_S))  # not a wait: spreads the ends over all moments of an attach
        watching.send_signal((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[ended % 3])
        _, err = watching.communicate(timeout=60)
        assert watching.returncode == 130, err
        assert "Traceback" not in err and err.count("\n") <= 1, err
        ended += 1
        wait_for(lambda: target.process.poll() is not None or left(target.pid) == before, "nothing to be left")
    watched = target.finish()
    assert ended >= ENDS
    unwatched = start(*job).finish()
    for key in ("losses_sha256", "weights_sha256"):
        assert watched[key] == unwatched[key]
