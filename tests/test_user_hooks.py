"""Training in a non-main thread, with global hooks of the user's own before and after ours: they never notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conftest import Start


def test_a_thousand_armed_steps(start: Start, export: Callable[..., dict[str, Any]]) -> None:
    """Every step arms and disarms the module dictionaries, while the user registers and removes hooks of his own."""
    target = start("thread_trainer.py", "--steps", "100000").wait_ready()
    armed = 0
    while armed < 1000:
        snapshot = export(target.pid, "--for", "4s", "--sample-every", "1")
        armed += snapshot["health"]["probe"]["sampled_steps"]
        assert snapshot["health"]["probe"]["errors"] == 0
        assert snapshot["health"]["probe"]["left_behind"] == []
    truth = target.stop()
    assert truth["errors"] == []


def test_same_hash_watched_and_unwatched(start: Start, export: Callable[..., dict[str, Any]]) -> None:
    steps = ("--steps", "9000")
    alone = start("thread_trainer.py", *steps).finish()
    target = start("thread_trainer.py", *steps).wait_ready()
    for _ in range(2):
        export(target.pid, "--for", "1s", "--sample-every", "2")
    watched = target.finish()
    assert watched["errors"] == alone["errors"] == []
    assert (watched["losses_sha256"], watched["weights_sha256"]) == (alone["losses_sha256"], alone["weights_sha256"])
