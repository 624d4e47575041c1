"""Starting programs to watch, and watching them with the real command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TARGETS = Path(__file__).parent / "targets"
PATIENCE_S = 90.0
TORCHTOP = (sys.executable, "-m", "torchtop")


def wait_for(happened: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Poll until `happened()` is true and return it; fail with `what` when it never is."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        result = happened()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError(f"waited {patience_s:g} s in vain for {what}")


class Target:
    """A program of tests/targets, running."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.folder = folder

    def wait_ready(self) -> Target:
        """Until the program says that it is in its loop."""

        def ready() -> bool:
            assert self.process.poll() is None, f"the target ended early: {self.process.communicate()[1]}"
            return (self.folder / "ready").exists()

        wait_for(ready, "the target to be ready")
        return self

    def steps_done(self) -> int:
        """Lines of its step log so far."""
        log = self.folder / "truth.json.steps"
        return log.read_text().count("\n") if log.exists() else 0

    def step_log(self) -> list[dict[str, Any]]:
        """Its own account of each step."""
        lines = (self.folder / "truth.json.steps").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def stop(self) -> dict[str, Any]:
        """Ask it to end, and return its truth file."""
        (self.folder / "stop").touch()
        return self.finish()

    def finish(self) -> dict[str, Any]:
        """Wait for its end, insist that it ended well and silently, and return its truth file."""
        out, err = self.process.communicate(timeout=PATIENCE_S * 2)
        assert self.process.returncode == 0, f"the target died ({self.process.returncode}): {err}"
        assert "torchtop" not in (out + err).lower()
        truth: dict[str, Any] = json.loads((self.folder / "truth.json").read_text())
        return truth


Start = Callable[..., Target]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start("train.py", "--model", "mlp", ...)`: run a target until the test ends."""
    running: list[subprocess.Popen[str]] = []

    def run(
        script: str, *args: str, python: str = sys.executable, env: dict[str, str] | None = None, **popen: Any
    ) -> Target:
        folder = tmp_path / f"target-{len(running)}"
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        files = ["--truth", "truth.json", "--ready", "ready", "--stop", "stop"]
        process = subprocess.Popen(
            [python, str(TARGETS / script), *args, *files],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", **(env or {})},
            **popen,
        )
        running.append(process)
        return Target(process, folder)

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def export(pid: int, *args: str, expect: int = 0) -> dict[str, Any]:
    """The snapshot that `torchtop export PID` prints."""
    done = subprocess.run(
        [*TORCHTOP, "export", str(pid), *args], capture_output=True, text=True, timeout=PATIENCE_S * 2, check=False
    )
    assert done.returncode == expect, f"exit code {done.returncode}: {done.stderr}"
    snapshot: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return snapshot


@pytest.fixture(name="export")
def export_fixture() -> Callable[..., dict[str, Any]]:
    """See `export`."""
    return export


@pytest.fixture(name="wait_for")
def wait_for_fixture() -> Callable[..., Any]:
    """See `wait_for`."""
    return wait_for


def interpreters() -> dict[str, str]:
    """Every CPython 3.9-3.13 on this machine, by "3.9" and so on; "3.11-static" for one without a libpython."""
    found: dict[str, str] = {}
    candidates = [sys.executable, "/usr/bin/python3"]
    for minor in range(9, 14):
        candidates += sorted(str(path) for path in Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3"))
        on_path = shutil.which(f"python3.{minor}")
        candidates += [on_path] if on_path else []
    ask = "import sys; print('%d.%d' % sys.version_info[:2], 'libpython' in open('/proc/self/maps').read())"
    for candidate in candidates:
        done = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False)
        if done.returncode:
            continue
        version, shared = done.stdout.split()
        if (3, 9) <= tuple(int(part) for part in version.split(".")) <= (3, 13):
            found.setdefault(version if shared == "True" else f"{version}-static", os.path.realpath(candidate))
    return found
