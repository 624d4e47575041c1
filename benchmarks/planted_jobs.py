"""The jobs of plants/: what is planted in each, how bad that is measured to be, and running them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from memory_limits import limited

PLANTS = Path(__file__).parent / "plants"
PATIENCE_S = 120.0  # s until a job has made its first steps
MIB, GIB = 2**20, 2**30
FRAMEWORKS = Path(__file__).parents[1] / ".venv-frameworks/bin/python"

Measure = Literal["time", "tail", "memory", "growth", "spread", "fact"]
"""What a plant makes worse: s per sample; p95 over median of s per sample; peak memory; memory per second; memory of the
largest rank over that of the smallest; or nothing that has to be: what is planted is a fact."""


class Plant(NamedTuple):
    """One job. code: what is planted, None where it is healthy; period: steps after which it repeats itself."""

    code: str | None
    style: str
    measure: Measure = "time"
    period: int = 1
    ranks: int = 1
    neighbours: int = 0
    limit_bytes: int = 0
    swap_bytes: int = 0
    environment: tuple[tuple[str, str], ...] = ()
    python: Path = Path(sys.executable)

    @property
    def name(self) -> str:
        return f"{self.code or 'healthy'}/{self.style}"

    @property
    def command(self) -> list[str]:
        if self.code is None:
            own = PLANTS / f"healthy_{self.style}.py"
            script = [str(own)] if own.exists() else [str(PLANTS / "healthy.py"), self.style]
        else:
            script = [str(PLANTS / f"{self.code.replace('-', '_')}_{self.style}.py")]
        return [str(self.python), *script]


SPINNING = (("OMP_WAIT_POLICY", "active"),)
PLANTED = (
    Plant("input-bound", "getitem"),
    Plant("input-bound", "collate"),
    Plant("input-bound", "remote"),
    Plant("loader-oversubscribed", "threads", period=12, environment=SPINNING),
    Plant("loader-oversubscribed", "stream", period=12),
    Plant("worker-imbalance", "shard", period=3),
    Plant("worker-imbalance", "mount", period=2),
    Plant("host-stall", "metrics"),
    Plant("host-stall", "callback", period=5),
    Plant("host-stall", "report"),
    Plant("host-stall", "between"),
    Plant("checkpoint-stall", "inline", period=10),
    Plant("checkpoint-stall", "helper", period=8),
    Plant("gc-pauses", "collect"),
    Plant("gc-pauses", "cycles", period=12),
    Plant("threads-misset", "many"),
    Plant("threads-misset", "one"),
    Plant("step-jitter", "lengths", "tail"),
    Plant("step-jitter", "depth", "tail"),
    Plant("small-batch", "rows"),
    Plant("small-batch", "text"),
    Plant("unfused-optimizer", "deep"),
    Plant("unfused-optimizer", "wide"),
    Plant("grads-kept", "flag"),
    Plant("grads-kept", "model"),
    Plant("memory-pressure", "cache", "memory", limit_bytes=1344 * MIB),
    Plant("memory-pressure", "activations", "memory", limit_bytes=568 * MIB),
    Plant("memory-growth", "losses", "growth", period=4),
    Plant("memory-growth", "cache", "growth"),
    Plant("activation-heavy", "attention", "memory"),
    Plant("activation-heavy", "rays", "memory"),
    Plant("optimizer-state-heavy", "wide", "memory"),
    Plant("optimizer-state-heavy", "text", "memory"),
    Plant("hot-layer", "loop"),
    Plant("hot-layer", "unfold"),
    Plant("prunable-layers", "mlp", "fact"),
    Plant("prunable-layers", "conv", "fact"),
    Plant("quantizable-inference", "mlp", "fact"),
    Plant("quantizable-inference", "text", "fact"),
    Plant("oversized-model", "mlp", "fact"),
    Plant("oversized-model", "conv", "fact"),
    Plant("unused-parameters", "heads", "fact"),
    Plant("unused-parameters", "branch", "fact"),
    Plant("recompile-storm", "lengths"),
    Plant("recompile-storm", "counter"),
    Plant("straggler-rank", "length", ranks=2),
    Plant("straggler-rank", "disk", ranks=2),
    Plant("comm-bound", "wide", ranks=2),
    Plant("comm-bound", "words", ranks=2),
    Plant("unsynced-accumulation", "plain", ranks=2),
    Plant("unsynced-accumulation", "trainer", ranks=2),
    Plant("replicated-state", "plain", "memory", ranks=2),
    Plant("replicated-state", "text", "memory", ranks=2),
    Plant("rank-memory-imbalance", "cache", "spread", ranks=2),
    Plant("rank-memory-imbalance", "pictures", "spread", ranks=2),
    Plant("host-contended", "mlp", neighbours=4),
    Plant("host-contended", "text", neighbours=3),
    Plant("swapping", "cache", limit_bytes=GIB, swap_bytes=2 * GIB),
    Plant("swapping", "weights", limit_bytes=GIB, swap_bytes=2 * GIB),
)
_SHAPES = "mlp gpt conv rnn accumulation workers finetune validation checkpoints inference tiny epochs long-steps"
HEALTHY = (
    *(Plant(None, shape) for shape in _SHAPES.split()),
    Plant(None, "two-ranks", ranks=2),
    *((Plant(None, "lightning", python=FRAMEWORKS),) if FRAMEWORKS.exists() else ()),
)


class Step(NamedTuple):
    """One line of a job's own log."""

    t: float
    seconds: float
    samples: int

    @property
    def per_sample(self) -> float:
        return self.seconds / self.samples


class Running:
    """A job that runs, with the neighbours that it was given."""

    def __init__(self, plant: Plant, folder: Path, groups: list[subprocess.Popen[bytes]]) -> None:
        self.plant, self.folder, self._groups = plant, folder, groups
        self.pid = groups[0].pid

    def steps(self) -> list[Step]:
        """Complete lines of the first rank's log."""
        log = self.folder / "steps-0"
        lines = log.read_text().split("\n")[:-1] if log.exists() else []
        return [Step(float(t), float(seconds), int(samples)) for t, seconds, samples in map(str.split, lines)]

    def truth(self, rank: int = 0) -> dict[str, Any]:
        """What the job says is planted in it, and its pid."""
        said: dict[str, Any] = json.loads((self.folder / f"truth-{rank}.json").read_text())
        return said

    def wait_for(self, happened: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        while not happened():
            if self._groups[0].poll() is not None:
                raise RuntimeError(f"{self.plant.name} ended: {(self.folder / 'output').read_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.plant.name}: waited {patience_s:g} s in vain for {what}")
            time.sleep(0.02)

    def wait_begun(self, steps: int = 5) -> None:
        """Until that many steps are done: workers run, memory is had."""
        self.wait_for(lambda: len(self.steps()) >= steps, f"{steps} steps")

    def memory(self, field: str) -> list[int]:
        """bytes, `field` of /proc/PID/status of each rank."""
        pids = [self.truth(rank)["pid"] for rank in range(self.plant.ranks)]
        lines = [Path(f"/proc/{pid}/status").read_text().split(f"{field}:")[1] for pid in pids]
        return [1024 * int(line.split()[0]) for line in lines]

    def signal(self, number: signal.Signals) -> None:
        for group in self._groups:
            os.killpg(group.pid, number)


@contextmanager
def running(
    plant: Plant, cured: bool = False, wrap: Callable[[list[str]], list[str]] | None = None
) -> Iterator[Running]:
    """The job, until the block is left. Raises `NotHere` where this machine cannot have it.

    wrap: makes another command of the job's, to run it under another tool.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plant-", ignore_cleanup_errors=True)))
        first = stack.enter_context(limited(plant.limit_bytes, plant.swap_bytes, folder)) if plant.limit_bytes else []
        output = stack.enter_context(open(folder / "output", "wb"))
        command = [*plant.command, "--log", str(folder), *(["--cured"] if cured else [])]
        commands = [[*first, *(wrap(command) if wrap else command)]]
        if not cured:
            # Each in a session of its own: all of one session are a single competitor (sched(7), autogrouping).
            commands += [[sys.executable, str(PLANTS / "neighbour.py")]] * plant.neighbours
        groups: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, groups)
        for words in commands:
            environment = {
                **os.environ,
                "OMP_WAIT_POLICY": "passive",
                "OMP_NUM_THREADS": "1",
                "TMPDIR": str(folder),
                "PYTHONPATH": str(PLANTS),
                **dict(plant.environment),
            }
            groups.append(
                subprocess.Popen(
                    words, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
                )
            )
        yield Running(plant, folder, groups)


def _end(groups: list[subprocess.Popen[bytes]]) -> None:
    """Kill what was started, and all that it started: they are in sessions of their own."""
    for group in groups:
        try:
            os.killpg(group.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        group.wait()
