"""The pending call made by gdb: slow, and as harmless."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Start, interpreters
from tests.cycle import cycle
from torchtop.attach import gdb
from torchtop.attach.c_api import Unsuited
from torchtop.attach.connect import attach

CYCLES = 2
WAYS = (gdb.METHOD,)


@pytest.fixture(scope="module", autouse=True)
def gdb_that_fits() -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")


@pytest.mark.parametrize("kind", ["malloc", "threads"])
def test_cycles(start: Start, kind: str) -> None:
    target = start("exact.py", "--kind", kind, "--seconds", "300").wait_ready()
    try:
        for _ in range(CYCLES):
            connection = cycle(target.pid, ways=WAYS)
            assert connection.method == "gdb" and connection.pause_s is not None
    except Unsuited as old:
        # It says so before it has touched anything, so the target has to be as good as new.
        assert target.stop()["wrong"] == 0
        pytest.skip(str(old))
    truth = target.stop()
    assert truth["wrong"] == 0, truth["errors"]
    assert truth["iterations"] > CYCLES


@pytest.mark.parametrize("python", [p for p in interpreters().items() if p[0] in ("3.9", "3.13")], ids=lambda p: p[0])
def test_other_interpreters(start: Start, python: tuple[str, str]) -> None:
    target = start("exact.py", "--kind", "matmul", "--seconds", "300", python=python[1]).wait_ready()
    try:
        assert cycle(target.pid, ways=WAYS).method == "gdb"
    except Unsuited as old:
        assert target.stop()["wrong"] == 0
        pytest.skip(str(old))
    assert target.stop()["wrong"] == 0


def test_without_gdb(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    target = start("exact.py", "--kind", "matmul", "--seconds", "60").wait_ready()
    with pytest.raises(Unsuited, match="gdb is not installed"):
        attach(target.pid, ways=WAYS)
    assert target.stop()["wrong"] == 0


def test_a_gdb_that_fails_leaves_the_target_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that ends at once, and one that answers nonsense."""
    target = start("exact.py", "--kind", "matmul", "--seconds", "60").wait_ready()
    fake = tmp_path / "gdb"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for body in ("exit 1", "while read line; do case $line in echo*) echo; echo torchtop-done;; esac; done"):
        fake.write_text(f"#!/bin/sh\n{body}\n")
        fake.chmod(0o755)
        with pytest.raises(Unsuited, match="gdb"):
            attach(target.pid, ways=WAYS)
    assert target.stop()["wrong"] == 0
