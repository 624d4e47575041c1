"""A detach leaves nothing behind: what the target sees of itself is what it was, however the monitor goes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import TORCHTOP, Start, Target

GONE_S = 1.0  # s: DESIGN 3, "removed at the first safe point, within 1 s whenever Python is running"


def monitor(target: Target) -> subprocess.Popen[bytes]:
    """A monitor that watches every second step, once it has seen steps."""
    command = [*TORCHTOP, "export", str(target.pid), "--format", "jsonl", "--every", "100ms", "--sample-every", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["steps"]["sampled"] > 2:
            return process
    raise AssertionError("the monitor ended by itself")


def residue(target: Target, wait_for: Callable[..., Any]) -> dict[str, Any]:
    """Have the target compare itself with what it was before anybody attached."""
    (target.folder / "compare").touch()
    wait_for((target.folder / "residue.json").exists, "the target to have compared itself")
    compared: dict[str, Any] = json.loads((target.folder / "residue.json").read_text())
    return compared


@pytest.mark.parametrize("kind", [(), ("--workers", "2"), ("--inference",)], ids=["training", "workers", "inference"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda s: s.name)
def test_nothing_is_left(
    start: Start, wait_for: Callable[..., Any], end: signal.Signals, kind: tuple[str, ...]
) -> None:
    target = start("residue.py", *kind).wait_ready()
    watching = monitor(target)
    gone_at = time.monotonic()
    watching.send_signal(end)
    watching.communicate()
    compared = residue(target, wait_for)
    assert compared["differs"] == {}
    assert compared["same_at"] - gone_at < GONE_S
    target.stop()


def test_nothing_is_left_after_an_export(
    start: Start, wait_for: Callable[..., Any], export: Callable[..., Any]
) -> None:
    target = start("residue.py").wait_ready()
    snapshot = export(target.pid, "--for", "1s")
    assert snapshot["steps"]["count"] > 10
    assert snapshot["health"]["probe"]["left_behind"] == []
    assert residue(target, wait_for)["differs"] == {}
    target.stop()
