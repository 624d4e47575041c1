"""A hundred attaches and detaches for each interpreter and kind of program: nobody dies, no result is wrong."""

from __future__ import annotations

import pytest

from tests.conftest import Start, interpreters
from tests.cycle import cycle

CYCLES = {"matmul": 100, "malloc": 100, "threads": 40}


@pytest.mark.parametrize("kind", ["matmul", "malloc", "threads"])
@pytest.mark.parametrize("python", interpreters().items(), ids=lambda item: item[0])
def test_attach_detach_cycles(start: Start, python: tuple[str, str], kind: str) -> None:
    target = start("exact.py", "--kind", kind, "--seconds", "600", python=python[1]).wait_ready()
    for _ in range(CYCLES[kind]):
        cycle(target.pid)
    truth = target.stop()
    assert truth["wrong"] == 0, truth["errors"]
    assert truth["iterations"] > CYCLES[kind]
