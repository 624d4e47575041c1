"""`torchtop ps` on real jobs."""

from __future__ import annotations

import inspect
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from torchtop import doctor, ps
from torchtop.ps_table import age

TIMEOUT_S = 90.0
FAMILY = Path(__file__).parent / "fixtures" / "family.py"
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NAMED = (
    "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'pt_elastic', 0, 0, 0); print('{}', flush=True); sys.stdin.read()"
)

Started = tuple[subprocess.Popen[str], dict[str, list[int]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Run a program in `tmp_path` until the test ends; returns it and the JSON that it prints first."""
    running: list[subprocess.Popen[str]] = []

    def run(*command: str, **environment: str) -> Started:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", **environment},
        )
        running.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    yield run
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


Start = Callable[..., Started]


def torchtop(*args: str, through: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*through, sys.executable, "-m", "torchtop", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)


def job_of(pid: int, through: tuple[str, ...] = ()) -> dict[str, Any]:
    """The job in `torchtop ps --json` that has `pid` as a rank."""
    listing = json.loads(torchtop("ps", "--json", through=through).stdout)
    jsonschema.validate(listing, msgspec.json.schema(ps.Listing))
    (job,) = [job for job in listing["jobs"] if pid in [rank["pid"] for rank in job["ranks"]]]
    found: dict[str, Any] = job
    return found


def test_a_job_of_several_processes(start: Start, tmp_path: Path) -> None:
    _, roles = start(sys.executable, str(FAMILY), "hogwild")
    job = job_of(roles["ranks"][0])
    assert [rank["pid"] for rank in job["ranks"]] == sorted(roles["ranks"])
    assert [job["launcher"]] == roles["launcher"]
    assert job["command"].endswith("family.py hogwild")
    for rank in job["ranks"]:
        assert (rank["script"], rank["cwd"]) == (str(FAMILY), str(tmp_path))
        assert rank["user"] == pwd.getpwuid(os.geteuid()).pw_name
        assert (rank["rank"], rank["attachable"], rank["why"]) == (None, True, None)
        assert 0 < rank["age_s"] < TIMEOUT_S
        assert rank["rss_bytes"] > 50 << 20
        assert 0 < rank["cpu_share"] <= (os.cpu_count() or 1) + 0.1
        assert (rank["gpu_memory_bytes"] is None) == bool(rank["gpu_reason"])


def test_workers_are_counted_and_a_stopped_job_says_so(start: Start) -> None:
    process, _ = start(sys.executable, str(FAMILY), "fork")
    (rank,) = job_of(process.pid)["ranks"]
    assert (rank["workers"], rank["attachable"]) == (2, True)
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        (rank,) = job_of(process.pid)["ranks"]
        assert (rank["attachable"], rank["state"], rank["fix"]) == (False, "T", f"kill -CONT {process.pid}")
        listed = torchtop("ps")
    finally:
        os.kill(process.pid, signal.SIGCONT)
    lines = [line for line in listed.stdout.splitlines() if line.split()[:1] == [str(process.pid)]]
    assert len(lines) == 1, listed.stdout
    assert lines[0].endswith("no")
    assert len(lines[0]) <= 80
    assert f"it is stopped: kill -CONT {process.pid}" in listed.stdout
    assert f"{FAMILY}  in " in listed.stdout
    assert "(2 DataLoader workers)" in listed.stdout


def test_gpu_memory_is_summed_over_devices_or_not_known(tmp_path: Path) -> None:
    """Against the stub of NVML: its device 0 is divided, and its instances do not list their processes."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("NVML STUB NOT TESTED: no C compiler (cc) to build tests/fixtures/nvml_stub.c")
    stub = FAMILY.with_name("nvml_stub.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(tmp_path / "libnvidia-ml.so.1"), str(stub)], check=True)
    asked = "from torchtop.ps import Gpus; g = Gpus(); print(g.of(4242), g.of(99), g.of(17)[0], g.of(5))"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert done.stdout.startswith(f"({1 << 30}, None) (4096, None) None (None, 'NVML lists no memory of this process")


def test_a_notebooks_kernel_is_marked(start: Start) -> None:
    loaded = "import torch, sys; print('{}', flush=True); sys.stdin.read()"
    command = (sys.executable, "-c", loaded, "ipykernel_launcher", "-f", "kernel.json")
    process, _ = start(*command, JPY_SESSION_NAME="/home/me/explore.ipynb")
    job = job_of(process.pid)
    assert job["kernel"]
    assert job["ranks"][0]["script"] == "/home/me/explore.ipynb"


def test_another_users_job_is_not_hidden(start: Start) -> None:
    """Its memory map may not be read; that it is PyTorch is told by the name that torch gives its processes."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs setpriv and root")
    process, _ = start(sys.executable, "-c", NAMED)
    plain, _ = start(sys.executable, "-c", "import sys; print('{}', flush=True); sys.stdin.read()")
    (rank,) = job_of(process.pid, AS_NOBODY)["ranks"]
    assert not rank["attachable"]
    assert "belongs to another user (root, uid 0)" in rank["why"]
    assert rank["fix"] == f"sudo $(command -v torchtop) attach {process.pid}"
    assert rank["cwd"] is None
    listed = torchtop("ps", through=AS_NOBODY)
    assert str(plain.pid) not in listed.stdout.split()
    assert "of other users cannot be looked into: sudo $(command -v torchtop) ps" in listed.stderr


def test_nothing_to_list_is_said() -> None:
    """In a PID namespace of its own torchtop sees nothing else."""
    alone = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--")
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs unshare and the right to use it")
    done = torchtop("ps", through=alone)
    assert done.stdout == ""
    assert done.stderr == "torchtop: no process with PyTorch in it was found on this machine\n"
    assert json.loads(torchtop("ps", "--json", through=alone).stdout)["jobs"] == []


def test_processes_that_come_and_go_do_no_harm() -> None:
    churn = subprocess.Popen(["sh", "-c", f"while :; do {sys.executable} -S -c pass; done"])
    try:
        for _ in range(5):
            torchtop("ps", "--json")
    finally:
        churn.kill()
        churn.wait(TIMEOUT_S)


@pytest.mark.parametrize("command", ["ps", "ps --json", "doctor", "doctor 1"])
def test_nothing_heavy_is_loaded(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "torchtop", *command.split()],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "torchtop" in loaded
    assert loaded & {"torch", "textual"} == set()


@pytest.mark.parametrize("module", [ps, doctor])
def test_every_field_says_what_it_is(module: Any) -> None:
    structs = [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
    ]
    assert structs
    for struct in structs:
        for name, hint in typing.get_type_hints(struct, include_extras=True).items():
            metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
            assert any(meta.description for meta in metas), f"{struct.__name__}.{name}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86399, "23h"), (200000, "2d")],
)
def test_age(seconds: float, text: str) -> None:
    assert age(seconds) == text
