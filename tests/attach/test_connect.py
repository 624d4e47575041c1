"""The chain of ways in: what it prefers, what it refuses, and that several may come at once."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TORCHTOP, Start
from tests.cycle import cycle, messages_until_closed
from torchtop.attach import clock
from torchtop.attach.connect import Connection, attach
from torchtop.attach.elf import machine
from torchtop.errors import NoTarget, ProbeImpossible

Waiter = Callable[[Callable[[], Any], str], Any]
AT_ONCE = 4
ROUNDS = 5
UNSHARE = shutil.which("unshare")
AHEAD_S = 100_000


def test_several_at_once(start: Start) -> None:
    """Whoever comes while another holds the target stopped waits a little, and is served by the same agent."""
    target = start("exact.py", "--kind", "malloc", "--seconds", "120").wait_ready()
    for _ in range(ROUNDS):
        barrier = threading.Barrier(AT_ONCE)
        connections: list[Connection] = []
        failed: list[BaseException] = []

        def come() -> None:
            barrier.wait()  # noqa: B023
            try:
                connections.append(attach(target.pid, timeout_s=30.0))  # noqa: B023
            except BaseException as error:  # noqa: BLE001  # whatever it was, the main thread reports it
                failed.append(error)  # noqa: B023

        threads = [threading.Thread(target=come) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        for connection in connections:
            connection.channel.socket.sendall(b'{"type": "detach"}\n')
        for connection in connections:
            told = messages_until_closed(connection)
            assert told[0]["type"] == "hello" and told[-1]["type"] == "bye"
            connection.channel.socket.close()
    assert target.stop()["wrong"] == 0


@pytest.mark.skipif(os.geteuid() != 0 or UNSHARE is None, reason="needs root and unshare")
def test_another_time_namespace(start: Start, tmp_path: Path) -> None:
    """Its CLOCK_MONOTONIC is ahead: what expires in some seconds here has expired there since long."""
    wrapper = tmp_path / "python-ahead"
    wrapper.write_text(f'#!/bin/sh\nexec {UNSHARE} --time --monotonic {AHEAD_S} --fork python3 "$@"\n')
    wrapper.chmod(0o755)
    probe = subprocess.run([wrapper, "-c", ""], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no time namespaces here: {probe.stderr.strip()}")
    target = start("exact.py", "--kind", "matmul", "--seconds", "60", python=str(wrapper)).wait_ready()
    with open(f"/proc/{target.pid}/task/{target.pid}/children") as children:
        (inner,) = (int(pid) for pid in children.read().split())
    assert clock.shift_s(inner) == AHEAD_S
    assert clock.shift_s(os.getpid()) == 0
    connection = cycle(inner)
    assert connection.method == "ptrace"
    assert target.stop()["wrong"] == 0


def i386_program() -> bytes:
    """An ELF file for 32-bit x86 that sleeps in pause(2)."""
    text = b"\xb8\x1d\x00\x00\x00\xcd\x80\xeb\xf7"  # mov eax, 29; int 0x80; jmp back
    base, size = 0x08048000, 52 + 32 + len(text)
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, base + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return header + struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 4096) + text


def test_another_architecture(tmp_path: Path, wait_for: Waiter) -> None:
    program = tmp_path / "program"
    program.write_bytes(i386_program())
    program.chmod(0o755)
    try:
        process = subprocess.Popen([program])
    except OSError as error:
        pytest.skip(f"this kernel runs no 32-bit program: {error}")
    try:
        with pytest.raises(ProbeImpossible, match=r"32-bit x86.*torchtop run"):
            attach(process.pid)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_an_architecture_is_read_from_the_file(tmp_path: Path) -> None:
    for number, name in ((183, b"<"), (22, b">")):
        header = bytearray(b"\x7fELF\x02\x01\x01".ljust(64, b"\0"))
        header[5] = 1 if name == b"<" else 2
        header[18:20] = struct.pack(name.decode() + "H", number)
        (tmp_path / "file").write_bytes(header)
        assert machine(tmp_path / "file") == number
    (tmp_path / "file").write_bytes(b"#!/bin/sh\n")
    assert machine(tmp_path / "file") is None


def test_a_target_that_ends_meanwhile(start: Start) -> None:
    """At any moment: one line, exit code 3 (or 0 and 5, when it had been attached to before)."""
    for delay_ms in (0, 100, 200, 250, 300, 400):
        target = start("exact.py", "--kind", "matmul", "--seconds", "60").wait_ready()
        watching = subprocess.Popen(
            [*TORCHTOP, "export", str(target.pid), "--for", "1s"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Event().wait(delay_ms / 1000)  # not a wait: spreads the ends over all moments of an attach
        os.kill(target.pid, 9)
        _, err = watching.communicate(timeout=60)
        assert watching.returncode in (0, 3, 5), err
        assert err.count("\n") <= 1 and "Traceback" not in err
        if delay_ms == 0:
            assert watching.returncode == 3 and err.startswith("torchtop: ")


def test_no_such_process() -> None:
    with pytest.raises(NoTarget, match="there is no process"):
        attach(999_999_999)
