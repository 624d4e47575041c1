"""Why numbers are missing."""

from __future__ import annotations

from rich.text import Text

from torchtop.tui.text.reasons import reasons, within


def test_a_reason_is_given_once() -> None:
    missing = [("parameters", "no optimizer"), ("loss", "not told"), ("gradients", "no optimizer")]
    assert [line.plain for line in reasons(missing, 40)] == [
        "parameters, gradients — no optimizer",
        "loss — not told",
    ]
    assert [line.plain for line in reasons(missing, 24)][:2] == ["parameters, gradients —", "no optimizer"]
    assert reasons([], 40) == []


def test_sentences_in_fewer_rows_than_they_need() -> None:
    lines = [Text("waits for a Python"), Text("safe point of its"), Text("main thread")]
    assert within(lines, 3, 20) == lines
    assert [line.plain for line in within(lines, 2, 20)] == ["waits for a Python", "safe point of its m…"]
    assert [line.plain for line in within(lines, 1, 30)] == ["waits for a Python safe point…"]
    assert within(lines, 0, 20) == []
