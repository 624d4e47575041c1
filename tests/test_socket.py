"""Hostile and broken input on the socket, from either side, with a real job in between.

Towards the probe: the job computes what it would have computed, and the good client is served on. Towards the monitor:
one sentence, an exit code, no traceback, and an end.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import TORCHTOP, Start, Target, wait_for
from tests.wire_client import WireClient
from torchtop.attach import rendezvous
from torchtop.attach.rendezvous import Meeting
from torchtop.layer_report import layers
from torchtop.probe import client as probe_client
from torchtop.probe import wire
from torchtop.record import ProbeMessage
from torchtop.window import RankWindow
from torchtop.wire_message import check, decode

Client: Any = probe_client.Client  # what runs in the target has no annotations
HUGE = b"9" * 5000
DEEP = b"[" * 10_000 + b"]" * 10_000

# Towards the probe

RUDE = {
    "garbage": b"\0\xff\x80 who is there?\n",
    "binary": bytes(range(256)) * 8 + b"\n",
    "half a line": b'{"type": "arm", "ev',
    "a line of 10 MB": b'{"type": "' + b"x" * (10 << 20) + b'"}\n',
    "10 MB without an end": b"x" * (10 << 20),
    "a flood": b'{"type": "ping"}\n' * 200_000,
    "no object": b"17\n",
    "no type": b"{}\n",
    "a list as type": b'{"type": ["arm"]}\n',
    "a number as type": b'{"type": 1e400}\n',
    "text as number": b'{"type": "arm", "every": "3"}\n',
    "a bool as number": b'{"type": "arm", "every": true}\n',
    "minus one": b'{"type": "arm", "every": -1}\n',
    "a fraction": b'{"type": "arm", "every": 1.5}\n',
    "a huge number": b'{"type": "arm", "every": ' + HUGE[:40] + b"}\n",
    "a number of 5,000 digits": b'{"type": "arm", "every": ' + HUGE + b"}\n",
    "NaN": b'{"type": "budget", "share": NaN}\n',
    "infinite": b'{"type": "budget", "share": Infinity}\n',
    "minus": b'{"type": "budget", "share": -0.5}\n',
    "null": b'{"type": "budget", "share": null}\n',
    "10,000 deep": b'{"type": "arm", "every": ' + DEEP[:8000] + DEEP[-8000:] + b"}\n",
    "deep and unfinished": b"[" * 12_000 + b"\n",
    "a lease of another kind": b'{"type": "lease", "want": {"a": 1}}\n',
    "an unknown type": b'{"type": "fly"}\n',
}


def said(sock: socket.socket, words: bytes) -> None:
    """Say it, or as much of it as the other side takes before it hangs up."""
    sock.settimeout(20.0)
    try:
        sock.sendall(words)
    except OSError:
        return  # it has hung up in the middle: its good right


def test_the_probe_and_rude_clients(start: Start) -> None:
    target = start("bad_job.py").wait_ready()
    command = [*TORCHTOP, "export", str(target.pid), "--format", "jsonl", "--every", "300ms"]
    good = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert good.stdout is not None
    while not json.loads(good.stdout.readline())["steps"]["count"]:
        pass
    (meeting,) = rendezvous.existing_meetings(target.pid)
    for words in RUDE.values():
        sock = rendezvous.connect(meeting)
        assert sock is not None
        with sock:
            channel = rendezvous.shake_hands(sock, meeting)
            assert channel is not None and channel.live
            said(sock, words)
    mute_clients(meeting)
    with WireClient(target.pid) as after:
        assert after.connection.method == "live-agent"
        health = after.until(lambda m: m["type"] == wire.HEALTH, "a sign of health")
        assert (health["errors"], health["last_error"]) == (0, None)
        after.leave()
    counts = [json.loads(good.stdout.readline())["steps"]["count"] for _ in range(5)]
    assert counts[-1] > counts[0]
    good.terminate()
    assert good.communicate()[1] == b""
    assert target.stop()["wrong"] == 0


def mute_clients(meeting: Meeting) -> None:
    """More than the door holds connect and say nothing, or the wrong thing; a good one still comes in."""
    socks = [rendezvous.connect(meeting) for _ in range(40)]
    for index, sock in enumerate(socks):
        assert sock is not None
        if index % 2:
            said(sock, b"0" * wire.TOKEN + b"\n" if index % 4 == 1 else b"half")
    sock = rendezvous.connect(meeting)
    assert sock is not None
    with sock:
        assert rendezvous.shake_hands(sock, meeting) is not None
    for sock in socks:
        assert sock is not None
        sock.close()


def test_a_reader_too_slow_costs_the_job_no_memory(start: Start) -> None:
    """It pings and never reads, while every step is armed: the oldest messages go, and are counted."""
    target = start("bad_job.py").wait_ready()
    with WireClient(target.pid) as reader:
        meeting = rendezvous.existing_meetings(target.pid)[0]
        sock = rendezvous.connect(meeting)
        assert sock is not None
        with sock:
            assert rendezvous.shake_hands(sock, meeting) is not None
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

            def dropping() -> int:
                sock.sendall(b'{"type": "ping"}\n')
                health = reader.until(lambda m: m["type"] == wire.HEALTH, "a sign of health")
                return int(health["dropped"])

            sock.sendall(b'{"type": "arm", "every": 1}\n')
            wait_for(lambda: dropping() > 20, "messages to be dropped")
            before = rss_bytes(target)
            first = dropping()
            wait_for(lambda: dropping() > first + 150, "more messages to be dropped")
            assert rss_bytes(target) - before < 2 * probe_client._QUEUE_BYTES
        reader.leave()
    assert target.stop()["wrong"] == 0


def rss_bytes(target: Target) -> int:
    return int(Path(f"/proc/{target.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@given(st.lists(st.binary(max_size=200) | st.sampled_from([words[:300] for words in RUDE.values()]), max_size=8))
def test_a_client_takes_any_bytes(parts: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = Client(ours)
        for part in parts:
            theirs.sendall(part)
            if part and not client.gone:
                assert all(isinstance(message, dict) for message in client.receive())


def test_a_client_keeps_what_matters_and_says_what_is_gone() -> None:
    """What a slow reader must know to make sense of the rest is told again; what is too long is not sent at all."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = Client(ours)
        client.send(wire.STEP, {"text": "x" * wire.LINE_LIMIT})
        assert (client.dropped, client.wants_to_write()) == (1, False)
        client.send(wire.MODULES, {})
        while not client.missed:
            client.send(wire.STEP, {"text": "x" * (wire.LINE_LIMIT // 2)})
        assert client.dropped >= 2
        assert len(client.unsent()) <= probe_client._QUEUE_BYTES


# Towards the monitor: any message that passes the check can be shown

NUMBERS = st.none() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
JSON = st.recursive(
    NUMBERS | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
TIMES = base64.b64encode(struct.pack("4d", 1.0, 1.1, 1.2, 1.3)).decode()
CODES = base64.b64encode(struct.pack("4q", *(wire.mark(kind) for kind in range(4)))).decode()
MARKS = {
    "step": 3,
    "part": 0,
    "parts": 1,
    "times": TIMES,
    "codes": CODES,
    "t0": 1.0,
    "t1": 2.0,
    "cost_s": [0.0, 0.0, 0.0],
    "calls": 2,
    "taps": 1,
    "loss_s": 0.0,
    "batch": 4,
    "micro_batch": 4,
    "recalled": False,
    "tokens": None,
    "training": True,
    "evaluating": False,
    "shapes": [[0, [4, 8], "float32", 32, 128]],
}
GOOD: list[dict[str, Any]] = [
    {"type": wire.HELLO, "pid": 1, "uid": 0, "python": "3.11.7", "torch": None, "t": 1.0},
    {"type": wire.STEP, "rows": [[2.0, 0.1, 0, 1, 4.0, None, 0.02, 0.01, 0.001]]},
    {"type": wire.LAYERS, "loss": 0.5, "loss_finite": True},
    {
        "type": wire.PAUSES,
        "t": 3.0,
        "gc": [[2.0, 0.1, 2, True, ["main", "train.py", 7]], [2.5, 0.01, 1, False, None]],
        "saves": [[2.2, 0.5, "torch.save", ["save", "train.py", 9]]],
        "gc_s": 0.12,
        "zero_grad": [3, 0.01, 3, ["main", "train.py", 8]],
    },
    {
        "type": wire.ALLOCATOR,
        "t": 3.0,
        "allocated_bytes": 8,
        "reserved_bytes": 16,
        "peak_bytes": 12,
        "retries": 1,
    },
    {"type": wire.LAYERS, **MARKS},
    {"type": wire.MODULES, "root": 0, "class": "M", "parameters": 2, "rows": [[0, 0, "", "M", 8, 32, None, True]]},
    {
        "type": wire.SITES,
        "first": 0,
        "frames": [[-1, "main", "train.py", 7], [0, "M.forward", "m.py", 3]],
        "calls": [[0, 1]],
    },
    {"type": wire.FACTS, "facts": {"devices": ["cpu"], "threads": 1}},
    {"type": wire.MEMORY, "parameters_bytes": 8, "gradients_bytes": 8, "optimizer_bytes": 0},
    {"type": wire.HEALTH, "errors": 0, "dropped": 0, "left_behind": [], "cost_share": None, "every": 4},
    {"type": wire.BYE, "left_behind": [], "reason": None},
    {"type": wire.LEASE, "held": False, "pid": None, "uid": None},
    {"type": "of tomorrow", "anything": [1, {"a": None}]},
]


@pytest.mark.parametrize("message", GOOD, ids=lambda m: str(m["type"]))
def test_what_the_probe_says_passes(message: dict[str, Any]) -> None:
    check({"v": wire.VERSION, "seq": 1, **message})


@st.composite
def distorted(draw: st.DrawFn) -> dict[str, Any]:
    """A good message with some of it missing, replaced, or replaced inside."""
    body: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(GOOD))))
    for key in draw(st.lists(st.sampled_from([key for key in body if key != "type"]), max_size=2, unique=True)):
        how = draw(st.sampled_from(("missing", "other", "inside")))
        if how == "missing":
            del body[key]
        elif how == "inside" and isinstance(body[key], list) and body[key]:
            holder = body[key][0] if isinstance(body[key][0], list) and body[key][0] else body[key]
            holder[draw(st.integers(0, len(holder) - 1))] = draw(JSON)
        else:
            body[key] = draw(JSON | st.sampled_from([TIMES, CODES, TIMES[:-4], "=", "AAAA" * 10]))
    return {"v": wire.VERSION, "seq": 1, **body}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(distorted(), max_size=4))
def test_what_passes_can_be_taken_in_and_shown(bodies: list[dict[str, Any]]) -> None:
    window = RankWindow(1)
    for body in bodies:
        try:
            check(body)
        except ValueError:
            continue
        window.take(ProbeMessage(t=1.0, rank_pid=1, type=body["type"], body=body))
    rows, left_out = layers(window, 0)
    assert left_out == 0 and all(row.name is not None for row in rows)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300)
def test_any_line_is_a_message_or_a_value_error(line: bytes) -> None:
    try:
        body = decode(line)
    except ValueError:
        return
    assert type(body["v"]) is int and isinstance(body["type"], str)


@pytest.mark.parametrize("line", [DEEP, b'{"v": 1, "type": "x", "a": ' + DEEP + b"}", b'{"v": 1e999, "type": "x"}'])
def test_lines_that_no_generator_finds(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line)


def test_facts_that_json_cannot_hold_are_refused() -> None:
    for value in (2**64, {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}):
        with pytest.raises(ValueError):
            check({"v": 1, "type": wire.FACTS, "facts": {"x": value}})


# Towards the monitor: the real command, and something that only claims to be a probe


class FakeProbe:
    """A socket where the probe of `pid` would have it, served by the test."""

    def __init__(self, pid: int, folder: Path) -> None:
        meeting = rendezvous.new_meeting(pid)
        self.tokens = meeting.tokens
        place = Path(meeting.folders[0])
        assert place.is_relative_to(folder), "the target's TMPDIR comes first"
        place.mkdir(mode=0o700, exist_ok=True)
        self.path = place / meeting.file
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(60.0)
        self.listener.bind(str(self.path))
        self.listener.listen(4)

    def close(self) -> None:
        self.listener.close()
        self.path.unlink()

    def serve(self, state: bytes, words: bytes, stays: bool) -> None:
        """One monitor: end the handshake with `state`, say `words`; hang up then, or when it does."""
        sock = self.listener.accept()[0]
        with sock:
            sock.settimeout(60.0)
            assert sock.recv(99) == self.tokens[0].encode() + b"\n"
            said(sock, state.replace(b"TOKEN", self.tokens[1].encode()))
            said(sock, words)
            while stays:
                try:
                    if not sock.recv(1 << 16):
                        break
                except OSError:
                    break


@pytest.fixture(scope="module")
def idle_job() -> Iterator[tuple[int, Path]]:
    """A job that is never attached to: the fake probe stands before its door."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        script = "import torch; print('ready', flush=True); input()"
        job = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": folder},
        )
        assert job.stdout is not None and job.stdout.readline() == b"ready\n"
        yield job.pid, Path(folder)
        job.communicate(b"\n", timeout=60)


def line(kind: str, **body: Any) -> bytes:
    return json.dumps({"v": wire.VERSION, "type": kind, "seq": 1, **body}).encode() + b"\n"


LIVE = b"TOKEN 3.11.7 %d live\n" % wire.VERSION
STEPS = b"".join(line(wire.STEP, rows=[[10.0 + n, 0.9, 0, 1, 4.0, None, 0.1, 0.1, 0.0]]) for n in range(4))

# What the fake probe says -> (handshake, then, hangs up, exit code, what stderr says)
CLAIMS: dict[str, tuple[bytes, bytes, bool, int, str]] = {
    "another secret": (b"0000000000000000 3.11.7 1 live\n", b"", False, 4, "is no torchtop probe"),
    "no handshake": (b"HTTP/1.1 400 Bad Request\r\n", b"", False, 4, "is no torchtop probe"),
    "an endless handshake": (b"x" * 5000, b"", False, 4, "is no torchtop probe"),
    "a newer probe": (b"TOKEN 3.11.7 7 live\n", b"", False, 4, "speaks wire version 7, this torchtop speaks 1"),
    "an older probe": (b"TOKEN 3.11.7 0 live\n", b"", False, 4, "speaks wire version 0, this torchtop speaks 1"),
    "full": (b"TOKEN 3.11.7 77:0,0:0 full\n", b"", True, 4, "process 77 (root), a process outside its PID namespace"),
    "full of nobody": (b"TOKEN 3.11.7 x:y full\n", b"", True, 4, "is no torchtop probe"),
    "a newer message": (LIVE, b'{"v": 2, "type": "hello"}\n', False, 4, "speaks wire version 2"),
    "garbage": (LIVE, b"\xff\xfe\0garbage\n", False, 4, "no torchtop message"),
    "no version": (LIVE, b'{"type": "hello"}\n', False, 4, "no torchtop message"),
    "a list": (LIVE, b"[1, 2, 3]\n", False, 4, "no torchtop message"),
    "deep": (LIVE, b'{"v": 1, "type": "facts", "facts": ' + DEEP + b"}\n", False, 4, "no torchtop message"),
    "a line of 10 MB": (LIVE, b'{"v": 1, "type": "' + b"x" * (10 << 20) + b'"}\n', False, 4, "bytes"),
    "half a line, and gone": (LIVE, b'{"v": 1, "type": "hel', True, 4, "without a goodbye"),
    "NaN": (LIVE, b'{"v": 1, "type": "layers", "loss": NaN, "loss_finite": true}\n', False, 4, "no torchtop message"),
    "a short row": (LIVE, line(wire.STEP, rows=[[1.0, 2.0]]), False, 4, "no torchtop message"),
    "numbers as text": (LIVE, line(wire.STEP, rows=[["1"] * 9]), False, 4, "no torchtop message"),
    "a negative count": (LIVE, line(wire.HEALTH, errors=-1, dropped=0), False, 4, "no torchtop message"),
    "a caller that comes later": (
        LIVE,
        line(wire.SITES, first=0, frames=[[0, "f", "f.py", 1]], calls=[]),
        False,
        4,
        "no torch",
    ),
    "more frames than there may be": (
        LIVE,
        line(wire.SITES, first=wire.SITE_LIMIT, frames=[[-1, "f", "f.py", 1]], calls=[]),
        False,
        4,
        "no torchtop message",
    ),
    "no base64": (LIVE, line(wire.LAYERS, **{**MARKS, "times": "?"}), False, 4, "no torchtop message"),
    "times without codes": (LIVE, line(wire.LAYERS, **{**MARKS, "codes": ""}), False, 4, "no torchtop message"),
    "no probe after all": (LIVE, line(wire.BYE, error="OSError: no"), True, 4, "there is no probe: OSError: no"),
    "steps, then garbage": (LIVE, STEPS + b"garbage\n", False, 4, "no torchtop message"),
    "a flood": (LIVE, line("of tomorrow", a="x" * 1000) * 5000 + b"x\n", False, 4, "no torchtop message"),
    "a flood of one part": (LIVE, line(wire.LAYERS, **{**MARKS, "parts": 9}) * 9000 + b"x\n", False, 4, "no torchtop"),
    "marks of unknown kinds": (
        LIVE,
        STEPS + line(wire.LAYERS, **{**MARKS, "codes": base64.b64encode(struct.pack("4q", 15, 14, 255, 13)).decode()}),
        False,
        0,
        "",
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_monitor_and_a_false_probe(idle_job: tuple[int, Path], claim: str) -> None:
    pid, folder = idle_job
    handshake, words, hangs_up, code, phrase = CLAIMS[claim]
    fake = FakeProbe(pid, folder)
    try:
        command = [*TORCHTOP, "export", str(pid), "--for", "2s" if code == 0 else "60s"]
        began = time.monotonic()
        monitor = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        fake.serve(handshake, words, stays=not hangs_up)
        out, err = monitor.communicate(timeout=120)
    finally:
        fake.close()
    assert monitor.returncode == code, err
    assert time.monotonic() - began < 60, "it did not wait for its time to be up"
    assert err.count("\n") == (0 if code == 0 else 1) and "Traceback" not in out + err
    assert phrase in err
    if out:
        rank = json.loads(out)["job"]["ranks"][0]
        assert rank["state"] == ("lost" if code else "attached")
        assert code == 0 or phrase in rank["reason"]


def test_folders_and_leftovers_of_others(start: Start, export: Callable[..., Any], tmp_path: Path) -> None:
    """A folder that another user planted is passed over; a socket that nobody serves is no obstacle."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        target = start("bad_job.py", env={"TMPDIR": short}).wait_ready()
        meeting = rendezvous.new_meeting(target.pid)
        place = Path(meeting.folders[0])
        place.mkdir(mode=0o700)
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(place / meeting.file))
        left.close()
        assert export(target.pid, "--for", "1s")["steps"]["count"] > 0
        assert (place / meeting.file).exists(), "what is not known to be ours is left where it is"
        (place / meeting.file).unlink()
        if os.geteuid() == 0:
            os.chown(place, 65534, 65534)
            assert export(target.pid, "--for", "1s")["steps"]["count"] > 0
            assert list(place.iterdir()) == []
        assert target.stop()["wrong"] == 0
