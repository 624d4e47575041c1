"""One rank of a job that does not exist: a process with PyTorch in it, and a socket that says what a busy probe would.

python benchmarks/false_rank.py --layers 2000: a step every 50 ms, and every second an armed step of so many modules. All
ranks send theirs at the same moment, as those of one job do. Ends on SIGTERM, or when nobody has come for a minute.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import time
from pathlib import Path

import msgspec
import torch  # noqa: F401  # what has no PyTorch is no rank

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import many_layers
from torchtop.attach import rendezvous
from torchtop.probe import wire

STEP_S = 0.05
TELL_S = 0.1  # between two messages with steps (probe/agent.py)
ARM_S = 1.0  # between two armed steps
PATIENCE_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2000)
    model = many_layers.model(parser.parse_args().layers)
    meeting = rendezvous.new_meeting(os.getpid())
    folder = Path(meeting.folders[0])
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / meeting.file
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(PATIENCE_S)
        listener.bind(str(path))
        listener.listen(1)
        print("ready", flush=True)
        try:
            client = listener.accept()[0]
        finally:
            path.unlink()
    with client:
        ours, theirs = meeting.tokens
        if client.recv(99) != ours.encode() + b"\n":
            raise SystemExit("that was no torchtop")
        python = ".".join(map(str, sys.version_info[:3]))
        client.sendall(f"{theirs} {python} {wire.VERSION} live\n".encode())
        serve(client, model)


def serve(client: socket.socket, model: many_layers.Model) -> None:
    """Talk until the other side wants no more."""

    def say(*messages: many_layers.Message) -> None:
        client.sendall(b"".join(msgspec.json.encode(message) + b"\n" for message in messages))

    say(*many_layers.modules(model), many_layers.facts())
    now = time.monotonic()
    tell_at, arm_at, number = now, now // ARM_S * ARM_S + ARM_S, 0
    while True:
        ready, _, _ = select.select([client], [], [], max(min(tell_at, arm_at) - time.monotonic(), 0.0))
        if ready:
            asked = client.recv(1 << 16)
            if not asked or b'"detach"' in asked:
                say(many_layers.goodbye())
                return
        now = time.monotonic()
        if now >= tell_at:
            say(many_layers.steps(now, STEP_S, round(TELL_S / STEP_S)))
            tell_at += TELL_S
        if now >= arm_at:
            number += 1
            say(many_layers.armed(model, number, now, STEP_S), many_layers.health(round(ARM_S / STEP_S)))
            arm_at += ARM_S


if __name__ == "__main__":
    main()
