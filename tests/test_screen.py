"""The screen in a real terminal, on a real job: it attaches, draws, answers keys, and leaves terminal and job as they were."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TORCHTOP, Start, Target
from tests.test_detach import residue
from tests.tmux import TMUX, Terminal, terminal

pytestmark = pytest.mark.skipif(TMUX is None, reason="NOT TESTED: there is no tmux here, so no terminal to draw on")

LAYER = r"\(root\)"  # the last row of the table, and one that every model has
STEPS = r"([\d,.]+) steps since attach"


def attach(target: Target, *args: str, environment: str = "") -> str:
    """The line that watches it."""
    command = shlex.join([*TORCHTOP, "attach", str(target.pid), *args])
    return f"cd {shlex.quote(str(target.folder))} && {environment} exec {command}"


def terminal_settings(pane: Terminal) -> str:
    return subprocess.run(
        ["stty", "-F", pane.of_pane("pane_tty"), "-a"], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def watched(start: Start) -> Target:
    """A job that can compare itself with what it was before anybody came."""
    return start("residue.py").wait_ready()


def test_watch_look_around_and_leave(watched: Target, tmp_path: Path, wait_for: Callable[..., Any]) -> None:
    with terminal(tmp_path, "sh", size=(120, 40)) as pane:
        pane.shows(r"[#$]")
        before = terminal_settings(pane)
        pane.press(attach(watched).replace("exec ", "") + "; echo status=$?", "Enter")
        pane.shows(r"attached")
        pane.shows(LAYER)
        assert pane.of_pane("alternate_on") == "1"
        first = pane.shows(STEPS).group(1)
        wait_for(lambda: pane.shows(STEPS).group(1) != first, "the step counter to move")
        pane.press("1")
        pane.press("1")
        wait_for(lambda: "steps" not in pane.lines()[2], "the devices to fill the screen")
        pane.press("Escape")
        pane.shows("2 steps")
        pane.press("?")
        pane.shows("while watching")
        pane.press("q")
        pane.press("v")
        pane.shows("STEP     median")
        pane.press("q")
        pane.press("q")
        pane.shows("status=0")
        assert pane.of_pane("alternate_on") == "0"
        assert pane.of_pane("cursor_flag") == "1"
        assert terminal_settings(pane) == before
    assert residue(watched, wait_for)["differs"] == {}
    watched.stop()


def test_a_lost_terminal(watched: Target, tmp_path: Path, wait_for: Callable[..., Any]) -> None:
    with terminal(tmp_path, attach(watched)) as pane:
        pane.shows(LAYER)
        pid = pane.pid
        pane.hang_up()
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "torchtop to end", 10.0)
    assert residue(watched, wait_for)["differs"] == {}
    watched.stop()


def test_a_signal(watched: Target, tmp_path: Path, wait_for: Callable[..., Any]) -> None:
    with terminal(tmp_path, attach(watched)) as pane:
        pane.shows(LAYER)
        os.kill(pane.pid, signal.SIGTERM)
        assert pane.ended() == 130
    assert residue(watched, wait_for)["differs"] == {}
    watched.stop()


def test_nothing_is_written_while_nothing_can_change(
    watched: Target, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    written = tmp_path / "written"

    def silent_for(seconds: float) -> bool:
        before = written.stat().st_size
        time.sleep(seconds)  # of silence, which no event ends
        return written.stat().st_size == before

    with terminal(tmp_path, attach(watched)) as pane:
        pane.shows(LAYER)
        pane.copy_bytes_to(written)
        wait_for(lambda: written.exists() and written.stat().st_size > 0, "the screen to be drawn on")
        pane.press("Space")
        pane.shows("paused")
        wait_for(lambda: silent_for(1.6), "silence after a pause", 10.0)
        pane.press("Space")
        wait_for(lambda: not silent_for(1.2), "the picture to move again", 10.0)
        os.kill(watched.pid, signal.SIGSTOP)
        try:
            pane.shows("stopped")
            wait_for(lambda: silent_for(1.6), "silence while the job is stopped", 10.0)
        finally:
            os.kill(watched.pid, signal.SIGCONT)
        pane.shows("attached")
        wait_for(lambda: not silent_for(1.2), "the picture to move again", 10.0)
        pane.press("q")
        assert pane.ended() == 0
    watched.stop()


def test_sizes_and_visits(watched: Target, tmp_path: Path, wait_for: Callable[..., Any]) -> None:
    with terminal(tmp_path, attach(watched), size=(20, 5)) as pane:
        pane.shows("needs 80x24")
        for step in range(30):
            pane.resize(40 + 7 * step % 190, 10 + 5 * step % 50)
        pane.resize(80, 24)
        pane.shows(LAYER)
        assert all(len(line) <= 80 for line in pane.lines())
        pane.resize(200, 60)
        pane.shows("7 journal")
        pane.visit()
        seen = pane.shows(STEPS).group(1)
        wait_for(lambda: pane.shows(STEPS).group(1) != seen, "the step counter to move")
        pane.press("q")
        assert pane.ended() == 0
    watched.stop()


def colours(sent: bytes) -> set[str]:
    """How the stream names its colours: of 24 bits, and of those whether all are grey; of 256; of 8."""
    exact = [tuple(map(int, found)) for found in re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", sent)]
    found = {"24 bits" if len({*one}) > 1 else "grey" for one in exact}
    found |= {"256"} if re.search(rb"[34]8;5;", sent) else set()
    return found | ({"8"} if re.search(rb"\x1b\[(?:[01];)*(?:3[0-7]|4[0-7]|9[0-7]|10[0-7])[;m]", sent) else set())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("COLORTERM=truecolor", {"24 bits", "grey"}),
        ("COLORTERM=truecolor NO_COLOR=1", {"grey"}),
        ("COLORTERM= TERM=screen-256color", {"256"}),
        ("COLORTERM= TERM=screen", {"8"}),
        ("COLORTERM= TERM=linux", {"8"}),
        ("COLORTERM=truecolor LC_ALL=C", {"24 bits", "grey"}),
    ],
)
def test_poor_terminals(watched: Target, tmp_path: Path, environment: str, expected: set[str]) -> None:
    written = tmp_path / "written"
    with terminal(tmp_path, attach(watched, environment=environment), size=(80, 24)) as pane:
        pane.copy_bytes_to(written)
        pane.shows(LAYER)
        drawn = pane.text()
        pane.press("1", "1", "1")  # an escape with a letter right behind it would be alt and that letter
        pane.press("q")
        assert pane.ended() == 0
    sent = written.read_bytes()
    assert colours(sent) <= expected, "colours that this terminal does not have"
    assert colours(sent) & expected
    assert drawn.isascii() == sent.isascii() == ("LC_ALL" in environment)
    watched.stop()


def test_no_terminal_is_said(watched: Target) -> None:
    done = subprocess.run(
        [*TORCHTOP, "attach", str(watched.pid)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"torchtop: there is no terminal to draw on: use `torchtop export {watched.pid}`\n"
    watched.stop()


def test_a_dumb_terminal_is_refused(watched: Target, tmp_path: Path) -> None:
    with terminal(tmp_path, attach(watched, environment="TERM=dumb")) as pane:
        assert pane.ended() == 2
        pane.shows(r"cannot move its cursor \(TERM=dumb\): use `torchtop export")
    watched.stop()


def test_the_job_list(watched: Target, tmp_path: Path) -> None:
    with terminal(tmp_path, shlex.join(TORCHTOP)) as pane:
        pane.shows(rf"{watched.pid} .* yes")
        for _ in range(20):
            if any("▶" in line and "residue.py" in line for line in pane.lines()):
                break
            pane.press("Down")
        pane.press("Enter")
        pane.shows(LAYER)
        pane.press("q")
        assert pane.ended() == 0
    watched.stop()


def test_the_end_of_the_job_stays_on_screen(watched: Target, tmp_path: Path) -> None:
    with terminal(tmp_path, attach(watched)) as pane:
        pane.shows(LAYER)
        watched.stop()
        pane.shows(r"ended.*the process has ended")  # with its exit code, where Linux tells strangers
        assert pane.status is None
        pane.shows(LAYER)
        pane.press("q")
        assert pane.ended() == 0


@pytest.mark.parametrize(
    ("target", "status", "phrase"),
    [("999999999", 3, "there is no process 999999999"), (str(os.getpid()), 3, "")],
)
def test_what_cannot_be_watched(tmp_path: Path, target: str, status: int, phrase: str) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    try:
        wanted = target if phrase else str(sleeper.pid)
        with terminal(tmp_path, shlex.join([*TORCHTOP, "attach", wanted])) as pane:
            assert pane.ended() == status
            pane.shows(phrase or "PyTorch")
    finally:
        sleeper.kill()
        sleeper.wait()
