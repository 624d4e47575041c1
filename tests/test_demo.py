"""Each demo is a real job: started, attached to, watched and ended by the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jsonschema
import pytest

from tests.conftest import PATIENCE_S, TORCHTOP, wait_for
from torchtop.attach import proc
from torchtop.demo import DEMOS


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHTOP, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def alive(pid: int) -> bool:
    try:
        return proc.status(pid).state != "Z"
    except OSError:
        return False


def watched(*args: str) -> dict[str, Any]:
    """The snapshot that `torchtop demo ARGS --headless` prints, after the demo has ended with all its ranks."""
    done = run("demo", *args, "--headless")
    assert done.returncode == 0, done.stderr
    snapshot: dict[str, Any] = json.loads(done.stdout)
    assert done.stderr.startswith(f"starting {args[0]}: ")
    assert not [rank["pid"] for rank in snapshot["job"]["ranks"] if alive(rank["pid"])]
    return snapshot


def test_the_list_has_every_demo() -> None:
    done = run("demo", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(maxsplit=1) for line in done.stdout.splitlines()] == [[d.name, d.summary] for d in DEMOS]


def test_an_unknown_demo_is_a_usage_error() -> None:
    done = run("demo", "transformers")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert all(word in line for word in ["'transformers'", *(demo.name for demo in DEMOS)])


def test_without_pytorch_the_fix_is_named() -> None:
    # None in sys.modules is how Python says that a module must not be found.
    script = "import sys; sys.modules['torch'] = None; from torchtop.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "demo"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "make demo" in done.stderr


def test_transformer() -> None:
    snapshot = watched("transformer", "--for", "4s")
    jsonschema.Draft202012Validator(json.loads(run("schema").stdout)).validate(snapshot)
    assert snapshot["job"]["mode"] == "training"
    assert snapshot["steps"]["count"] >= 1
    assert {layer["type"] for layer in snapshot["layers"]} >= {"GPT", "Block", "Attention", "Linear"}
    assert snapshot["health"]["probe"]["left_behind"] == []


def test_slow_loader_waits_for_data() -> None:
    phases = watched("slow-loader", "--for", "4s")["steps"]["phases_s"]
    assert max(phases, key=lambda name: phases[name] or 0.0) == "data"


def test_two_ranks() -> None:
    snapshot = watched("two-ranks", "--for", "6s")
    ranks = snapshot["job"]["ranks"]
    assert [(rank["rank"], rank["state"]) for rank in ranks] == [(0, "attached"), (1, "attached")]
    assert [rank["rank"] for rank in snapshot["steps"]["by_rank"]] == [0, 1]
    assert all(rank["count"] >= 1 for rank in snapshot["steps"]["by_rank"])


@contextmanager
def starting() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A `torchtop demo` that has just started its program, and the pid of that."""
    # Where the tests run in the background, SIGINT is ignored, and children inherit that.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"{heed}; from torchtop.cli import main; main()"
    shown = subprocess.Popen(
        [sys.executable, "-c", script, "demo"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        (demo,) = wait_for(lambda: proc.children(shown.pid), "the demo to be started")
        yield shown, demo
    finally:
        if shown.poll() is None:
            shown.kill()
        shown.wait(PATIENCE_S)
    if alive(demo):
        os.kill(demo, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_demo_ends_with_torchtop(number: signal.Signals) -> None:
    with starting() as (shown, demo):
        shown.send_signal(number)
        code = shown.wait(PATIENCE_S)
        assert code == {signal.SIGINT: 130}.get(number, -number)
        wait_for(lambda: not alive(demo), "the demo to end")
