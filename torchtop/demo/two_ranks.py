"""Train a residual MLP on two ranks: DistributedDataParallel over gloo, on the CPU.

Started by hand it launches both ranks of itself and waits for them; with RANK in its environment
(as torchrun sets it) it is that rank.
"""

# mypy: allow-untyped-calls
# (Tensor.backward has no annotations)

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

WORLD_SIZE = 2
FEATURES = 64
WIDTH = 256
BLOCKS = 4
CLASSES = 10
SAMPLES = 8192
BATCH = 128  # per rank
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LAUNCHER = "TWO_RANKS_LAUNCHER"  # PID of the process that started this rank
GRACE_S = 5.0


class Residual(nn.Module):
    """(batch, WIDTH) -> the same, plus what two layers made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return x


class Classifier(nn.Module):
    """(batch, FEATURES) -> logits (batch, CLASSES)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, WIDTH)
        self.blocks = nn.Sequential(*(Residual() for _ in range(BLOCKS)))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits


def samples() -> TensorDataset:
    """Random points, labelled by a fixed random network: learnable, and the same on every rank."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, FEATURES, generator=source)
    hidden = torch.tanh(x @ torch.randn(FEATURES, 32, generator=source) / 4)
    return TensorDataset(x, (hidden @ torch.randn(32, CLASSES, generator=source)).argmax(dim=1))


def train(steps: int | None, seed: int) -> None:
    """Be one rank, as RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    dist.init_process_group("gloo")
    try:
        dataset = samples()
        sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(dataset, seed=seed, drop_last=True)
        loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler, drop_last=True)
        model = DistributedDataParallel(Classifier())
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
        step, epoch, since = 0, 0, time.monotonic()
        while step != steps:
            sampler.set_epoch(epoch)
            epoch += 1
            for x, y in loader:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                step += 1
                if step % 50 == 0 and dist.get_rank() == 0:
                    now = time.monotonic()
                    print(f"step {step} loss {loss.item():.3f} {1000 * (now - since) / 50:.0f} ms/step", flush=True)
                    since = now
                if step == steps:
                    break
    finally:
        dist.destroy_process_group()


def die_with_launcher() -> None:
    """Have the kernel end this rank when its launcher is gone, however that ended (prctl(2))."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(launcher):  # it ended before the line above
        sys.exit(1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def launch() -> int:
    """Start all ranks, wait, and end them all once one fails or a signal comes; the exit code."""
    ranks: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        for rank in ranks:
            rank.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    shared = {
        "WORLD_SIZE": str(WORLD_SIZE),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        LAUNCHER: str(os.getpid()),
    }
    try:
        for index in range(WORLD_SIZE):
            mine = {"RANK": str(index), "LOCAL_RANK": str(index)}
            command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:]]
            ranks.append(subprocess.Popen(command, env={**os.environ, **shared, **mine}))
        while not received:
            codes = [rank.poll() for rank in ranks]
            if any(codes) or None not in codes:
                failed = next((code for code in codes if code), 0)
                return failed if failed >= 0 else 128 - failed
            time.sleep(0.1)
        return 128 + received[0]
    finally:
        for rank in ranks:
            rank.terminate()
        deadline = time.monotonic() + GRACE_S
        for rank in ranks:
            try:
                rank.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                rank.kill()
                rank.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a residual MLP on two ranks over gloo, for ever.")
    parser.add_argument("--steps", type=int, help="stop after this many; for ever unless given")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if "RANK" not in os.environ:
        return launch()
    die_with_launcher()
    train(args.steps, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
