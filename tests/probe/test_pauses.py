"""What the training thread does beside its steps, on real jobs: compared with what the job itself knows of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import TARGETS, Start
from tests.wire_client import Message, WireClient
from torchtop.frozen import freeze
from torchtop.probe import wire
from torchtop.record import ProbeMessage
from torchtop.seen import RankSeen
from torchtop.window import Window
from torchtop.wire_message import check

SIGNALS = 20


def watched(pid: int, enough: Callable[[RankSeen], object], what: str) -> RankSeen:
    """What is seen of a job in which every step is armed, once it is enough."""
    window = Window([pid], time.monotonic())
    seen: list[RankSeen] = []

    def take(message: Message) -> bool:
        check(message)
        window.take(ProbeMessage(t=0.0, rank_pid=pid, type=message["type"], body=message))
        if message["type"] not in (wire.PAUSES, wire.FACTS, wire.STEP):
            return False
        seen[:] = freeze(window, [(pid, 0)], 1.0, time.monotonic()).ranks
        return bool(enough(seen[0]))

    with WireClient(pid) as client:
        client.send(wire.ARM, every=1)
        client.until(take, what)
        client.leave()
    return seen[0]


def line_of(file: Path, text: str) -> int:
    return 1 + next(number for number, line in enumerate(file.read_text().splitlines()) if line.strip() == text)


def test_each_pause_has_its_time_and_its_line(start: Start) -> None:
    target = start("pauses.py").wait_ready()

    def enough(rank: RankSeen) -> bool:
        asked_for = [pause for pause in rank.gc_pauses if pause.explicit]
        return len(asked_for) > 2 and len(rank.saves) > 2 and rank.zero_grad is not None and rank.facts.autocast_seen

    rank = watched(target.pid, enough, "three collections and three checkpoints")
    truth = target.stop()
    file = TARGETS / "pauses.py"

    asked_for = [pause for pause in rank.gc_pauses if pause.explicit]
    assert {pause.generation for pause in asked_for} == {2}
    assert {(pause.at.file, pause.at.line) for pause in asked_for if pause.at} == {
        (str(file), line_of(file, "gc.collect()"))
    }
    _the_same(asked_for, truth["collections"])
    allocating = line_of(
        file, 'rows: list[dict[str, object]] = [{"number": number, "row": [number]} for number in range(9_000)]'
    )
    rest = [pause.at.line for pause in rank.gc_pauses if not pause.explicit and pause.at is not None]
    assert rest.count(allocating) > 0.8 * len(rest) > 0
    assert rank.gc_seconds is not None
    assert rank.gc_seconds > sum(pause.seconds for pause in asked_for[:-1])

    assert {save.function for save in rank.saves} == {"torch.save"}
    saving = line_of(file, 'torch.save(model.state_dict(), "model.pt")')
    assert {(save.at.function, save.at.line) for save in rank.saves if save.at} == {("save", saving)}
    _the_same(rank.saves, truth["saves"])

    cleared = rank.zero_grad
    assert cleared is not None and cleared.at is not None
    assert cleared.kept == cleared.calls <= len(rank.steps) + 2
    assert cleared.at.line == line_of(file, "optimizer.zero_grad(set_to_none=False)")
    facts = rank.facts
    assert facts.grads_kept is True
    assert facts.autocast == "bfloat16"
    assert facts.training_tid == target.pid
    (optimizer,) = facts.optimizers
    assert (optimizer.module, optimizer.foreach, optimizer.fused) == ("torch.optim.adamw", False, None)
    assert optimizer.elements == 64 * 512 + 512 + 512 * 512 + 512 + 512 * 8 + 8
    loader = facts.loader
    assert loader is not None and loader.dataset_at is not None and loader.collate_at is not None
    assert (loader.dataset_at.file, loader.collate_at.file) == (str(file), str(file))
    assert loader.dataset_at.line == line_of(file, "def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:")
    assert loader.collate_at.function == "collate"


def _the_same(seen: Any, truth: list[list[float]]) -> None:
    """Each of the job's own events has one of ours inside it, and nothing lies between."""
    assert seen
    known = [(t, seconds) for t, seconds in truth if seen[0].t - 1e-3 <= t <= seen[-1].t + 1e-3 + seconds]
    assert len(seen) == len(known)
    for ours, (t, seconds) in zip(seen, known, strict=True):
        assert t - seconds <= ours.t - ours.seconds <= ours.t <= t
        assert ours.seconds > 0.5 * seconds


def test_passes_that_all_reduce_and_who_waits(start: Start, wait_for: Callable[..., Any]) -> None:
    target = start("accumulating_ranks.py").wait_ready()
    other = int((target.folder / "other").read_text())
    every = watched(other, lambda rank: rank.facts.synced_passes == 2.0, "both passes to be synchronised")
    assert every.facts.find_unused_parameters is False
    assert every.facts.grads_kept is False
    assert every.micro_steps == 2.0
    (target.folder / "no_sync").touch()
    last = watched(other, lambda rank: len(rank.steps) > 20 and rank.facts.synced_passes == 1.0, "one of two")
    late = watched(target.pid, lambda rank: len(rank.steps) > 20, "steps of the late rank")
    target.stop()
    assert _wait_s(last) > 0.5 * 0.01 > _wait_s(late)


def _wait_s(rank: RankSeen) -> float:
    waits = sorted(row.backward_wait_s for row in rank.steps if row.backward_wait_s is not None)
    assert len(waits) == len(rank.steps)
    return waits[len(waits) // 2]


def test_a_handler_that_raises_while_garbage_is_collected_is_heard(start: Start) -> None:
    """Whatever is raised in a callback of the collector is lost to the program, were it left at that."""
    target = start("collecting.py").wait_ready()
    out = target.process.stdout
    assert out is not None
    assert out.readline() == "0 0\n"
    with WireClient(target.pid) as client:
        client.until(lambda m: m["type"] == wire.PAUSES and m["gc_s"] > 0, "a collection that was seen")
        for number in range(SIGNALS):
            os.kill(target.pid, signal.SIGINT)
            assert out.readline() == f"{number + 1} {number}\n"
            os.kill(target.pid, signal.SIGUSR1)
            assert out.readline() == f"{number + 1} {number + 1}\n"
        client.leave()
    assert target.stop() == {"interrupts": SIGNALS, "stops": SIGNALS}
