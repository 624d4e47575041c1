"""The state line is honest: one word for what is going on, and every remark that the numbers need."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.tui import scenes
from tests.tui.scenes import changed, healthy
from torchtop.snapshot import Snapshot
from torchtop.tui.keys import EVERYWHERE, LAYERS, WATCHING, table
from torchtop.tui.lines import job_line, key_line, state_line
from torchtop.tui.state import remarks, state


def ranks(snapshot: Snapshot, *fields: dict[str, Any]) -> Snapshot:
    """One rank for each of `fields`, which differ from the first in that."""
    return changed(
        snapshot,
        job__ranks=[{**msgspec.to_builtins(snapshot.job.ranks[0]), "pid": 100 + i, **f} for i, f in enumerate(fields)],
    )


GONE = {"state": "lost", "stage": "ended", "reason": "the process has ended (killed by SIGKILL)"}
ANEW = {"state": "lost", "stage": "replaced", "reason": "the process has ended; rank 0 goes on as process 101"}
AGAIN = {"state": "lost", "stage": "reconnecting", "reason": "the probe closed the connection without a goodbye"}
WAITS = {"state": "outside", "stage": "attaching", "reason": "waits for a Python safe point, in fit (train.py:7)"}
REFUSED = {"state": "outside", "reason": "another program traces process 100"}


@pytest.mark.parametrize(
    ("fields", "word", "text"),
    [
        (({},), "attached", "ptrace"),
        (({}, GONE), "attached", "ptrace"),
        ((GONE,), "ended", "killed by SIGKILL"),
        ((GONE, {**GONE, "reason": "the process has ended (exit code 1)"}), "ended", "see the ranks for the others"),
        ((ANEW, {}), "attached", "ptrace"),
        ((AGAIN,), "reconnecting", "the probe closed"),
        ((WAITS,), "attaching", "in fit (train.py:7)"),
        ((WAITS, {}), "attached", "ptrace"),
        ((REFUSED,), "outside", "another program"),
        (({"process_state": "T"},), "stopped", "kill -CONT"),
        (({"process_state": "t"},), "stopped", "kill -CONT"),
        (({"process_state": "T"}, {"process_state": "R"}), "attached", "ptrace"),
        (({"process_state": None},), "attached", "ptrace"),
    ],
)
def test_the_state(fields: tuple[dict[str, Any], ...], word: str, text: str) -> None:
    found = state(ranks(healthy(), *fields))
    assert found.word == word
    assert text in found.text


def test_a_compiled_model_is_said() -> None:
    assert state(scenes.compiled()).word == "compiled"


@pytest.mark.parametrize(
    ("snapshot", "remark"),
    [
        (scenes.two_ranks(), "this node only: 2 ranks elsewhere"),
        (ranks(healthy(), {}, GONE), "process 101 lost"),
        (ranks(healthy(), {}, WAITS, REFUSED), "process 101 outside and 1 more"),
        (changed(healthy(), health__probe__dropped=3), "3 dropped"),
        (changed(healthy(), health__probe__errors=2), "2 probe errors"),
        (changed(healthy(), health__probe__left_behind=["a wrapper"]), "left behind: a wrapper"),
        (changed(healthy(), health__monitor__dropped=4), "4 readings dropped"),
    ],
)
def test_a_remark(snapshot: Snapshot, remark: str) -> None:
    assert remark in remarks(snapshot)
    assert remark in state_line(snapshot, 200, ()).plain


def test_a_healthy_job_needs_no_remark() -> None:
    assert remarks(healthy()) == []
    assert remarks(ranks(healthy(), ANEW, {})) == []


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("scene", scenes.SCENES)
def test_the_lines_fit(scene: str, width: int) -> None:
    snapshot = scenes.SCENES[scene]()
    assert job_line(snapshot, width).cell_len <= width
    assert state_line(snapshot, width, ("paused", "read-only")).cell_len <= width


def test_what_watching_costs_is_told_at_80_columns() -> None:
    line = state_line(healthy(), 80, ()).plain
    assert all(word in line for word in ("attached ptrace", "probe ", "1 in ", "late 0", "torchtop ", "MiB"))


def test_help_and_quit_are_always_named() -> None:
    keys = (*table(LAYERS, False), *table(WATCHING, False), *table(EVERYWHERE, False))
    for width in (20, 40, 80, 200):
        line = key_line(keys, width)
        assert line.cell_len <= width
        assert line.plain.rstrip().endswith("q quit")
        assert "? help" in line.plain
