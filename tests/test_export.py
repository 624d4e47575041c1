"""The JSON that leaves torchtop: valid against its own schema, a line at a time, for several readers at once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import TORCHTOP, Start


@pytest.fixture(scope="module")
def schema() -> Any:
    done = subprocess.run([*TORCHTOP, "schema"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_every_line_is_a_valid_snapshot_and_a_cut_pipe_ends_it_well(start: Start, schema: Any) -> None:
    target = start("train.py", "--model", "transformer", "--steps", "100000", "--small").wait_ready()
    command = [*TORCHTOP, "export", str(target.pid), "--format", "jsonl", "--every", "300ms"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    counts = []
    for _ in range(4):
        snapshot = json.loads(process.stdout.readline())
        jsonschema.validate(snapshot, schema)
        counts.append(snapshot["steps"]["count"])
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
    assert counts == sorted(counts) and counts[-1] > counts[0]
    target.stop()


def test_several_clients_share_one_probe(start: Start, schema: Any, export: Callable[..., Any]) -> None:
    target = start("train.py", "--model", "mlp", "--steps", "100000").wait_ready()
    command = [*TORCHTOP, "export", str(target.pid), "--format", "jsonl", "--every", "300ms"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert first.stdout is not None
    while not json.loads(first.stdout.readline())["layers"]:
        pass
    second = export(target.pid, "--for", "2s")
    jsonschema.validate(second, schema)
    assert second["job"]["ranks"][0]["attach"]["method"] == "live-agent"
    assert second["steps"]["count"] > 10 and second["layers"]
    after = json.loads(first.stdout.readline())
    assert after["job"]["ranks"][0]["state"] == "attached", "the first client is served on when the second goes"
    first.terminate()
    first.communicate()
    again = export(target.pid, "--for", "1s")
    assert again["job"]["ranks"][0]["attach"]["method"] == "ptrace", "with the last client everything had gone"
    target.stop()


def test_file_and_target_that_ends(start: Start, schema: Any, tmp_path: Path, export: Callable[..., Any]) -> None:
    target = start("train.py", "--model", "mlp", "--steps", "200").wait_ready()
    file = tmp_path / "snapshot.json"
    assert export(target.pid, "--for", "60s", "-o", str(file)) == {}
    target.finish()
    snapshot = json.loads(file.read_text())
    jsonschema.validate(snapshot, schema)
    assert snapshot["job"]["ranks"][0]["state"] == "lost"
    assert snapshot["steps"]["count"] > 0
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["snapshot.json"]


def test_a_target_without_a_step_is_said(start: Start) -> None:
    target = start("sleeper.py", "--torch", "--seconds", "16")
    while not (target.folder / "ready").exists():
        assert target.process.poll() is None
    command = [*TORCHTOP, "export", str(target.pid), "--for", "1s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1 and "no complete step" in done.stderr
    target.finish()


def test_a_full_disk_is_one_sentence_and_the_job_runs_on(start: Start) -> None:
    target = start("train.py", "--model", "mlp", "--steps", "100000", "--small").wait_ready()
    command = [*TORCHTOP, "export", str(target.pid), "--format", "jsonl", "--every", "200ms", "-o", "/dev/full"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "torchtop: cannot write to /dev/full: No space left on device; the job runs on, detached\n"
    assert target.stop()["steps"] > 0
