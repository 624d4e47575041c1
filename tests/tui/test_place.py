"""Where a rank was in its code."""

from __future__ import annotations

from tests.tui import found, scenes
from torchtop.tui.place import places


def test_places() -> None:
    snapshot = scenes.two_ranks()
    assert list(places(snapshot, found.PID)) == [
        "scaled_dot_product_attention (attention.py:41)",
        "forward (block.py:87)",
        "<module> (train.py:120)",
    ]
    assert list(places(snapshot, 1)) == []
    assert list(places(snapshot, None)) == []


def test_other_threads_do_not_count() -> None:
    assert list(places(scenes.changed(scenes.healthy(), stacks__0__main=False), found.PID)) == []
