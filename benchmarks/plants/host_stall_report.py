"""Each step waits for a metrics server to say thanks; cured, nothing is reported."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import torch
from data import batches
from job import Job
from models import mlp
from torch import Tensor, nn

ANSWER_S = 0.02


def server(listening: socket.socket) -> None:
    """Elsewhere in the network, in truth; it takes its time."""
    connection = listening.accept()[0]
    while connection.recv(4096):
        time.sleep(ANSWER_S)
        connection.sendall(b"thanks")


def reporter() -> Callable[[float], None]:
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=server, args=(listening,), daemon=True).start()
    connection = socket.create_connection(listening.getsockname())

    def report(loss: float) -> None:
        connection.sendall(f"loss={loss}".encode())
        connection.recv(64)  # planted

    return report


def train(job: Job) -> None:
    model = mlp(64, 384, 4, 10)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    report = reporter()

    def step(x: Tensor, y: Tensor) -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    while True:
        for x, y in batches(6400, 64, 64):
            loss = step(x, y)
            if not job.cured:
                report(loss)
            job.step(len(x))


if __name__ == "__main__":
    train(Job("host-stall", __file__))
