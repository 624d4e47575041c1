"""A session as a screen uses it, on real jobs: what it says while it waits, loses its socket, or its target ends."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Awaitable, Callable

import anyio
import pytest

from tests.conftest import PATIENCE_S, Start, Target, wait_for
from tests.test_ranks import rank_pids
from tests.wire_client import WireClient
from torchtop.attach import rendezvous
from torchtop.attach.job import find
from torchtop.lens import Lens
from torchtop.session import Options, Outcome, Session
from torchtop.snapshot import Rank, Snapshot, Steps

RARELY_S = 600.0  # s between two snapshots that nobody asked for: then each one was asked for


class Watched:
    """A session under way, and the snapshots that it hands out."""

    def __init__(self, pid: int, every_s: float) -> None:
        self.session = Session(find(str(pid)), Options(None, every_s, 60.0, live=True), self._take)
        self.latest: Snapshot | None = None
        self._more = anyio.Event()

    async def _take(self, seen: Snapshot) -> bool:
        self.latest = seen
        self._more.set()
        return True

    async def next(self) -> Snapshot:
        """The next snapshot."""
        self._more = anyio.Event()
        with anyio.fail_after(PATIENCE_S):
            await self._more.wait()
        assert self.latest is not None
        return self.latest

    async def until(self, true: Callable[[Snapshot], bool]) -> Snapshot:
        """The first snapshot from the next on for which `true`."""
        with anyio.fail_after(PATIENCE_S):
            while not true(seen := await self.next()):
                pass
        return seen

    async def look_until(self, lens: Lens, true: Callable[[Snapshot], bool]) -> Snapshot:
        """Ask for a snapshot again and again, until `true` of one: the only ones there are when they come rarely."""
        while True:
            self.session.look(lens)
            seen = await self.next()
            if true(seen):
                return seen
            await anyio.sleep(0.05)


def live(pid: int, check: Callable[[Watched], Awaitable[None]], every_s: float = 0.1) -> tuple[Outcome, Snapshot]:
    """Watch `pid` until `check` returns; how that ended, and the last snapshot."""

    async def run() -> tuple[Outcome, Snapshot]:
        watched = Watched(pid, every_s)
        outcomes: list[Outcome] = []

        async def watch() -> None:
            outcomes.append(await watched.session.run())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await check(watched)
            watched.session.stop()
        assert watched.latest is not None
        return outcomes[0], watched.latest

    return anyio.run(run)


def only_rank(seen: Snapshot) -> Rank:
    (rank,) = seen.job.ranks
    return rank


def has_layers(seen: Snapshot) -> bool:
    return bool(seen.layers)


def nothing_of_ours(target: Target) -> bool:
    """No socket to meet at, and no thread more than the program's own."""
    return not rendezvous.existing_meetings(target.pid) and len(os.listdir(f"/proc/{target.pid}/task")) == 1


def test_while_attaching_it_says_what_the_target_is_in(start: Start) -> None:
    target = start("bad_job.py", "--busy", "350_000_000").wait_ready()

    async def check(watched: Watched) -> None:
        seen = await watched.until(lambda seen: "bad_job.py:" in str(only_rank(seen).reason))
        rank = only_rank(seen)
        assert (rank.state, rank.stage, rank.attach) == ("outside", "attaching", None)
        assert "safe point of its main thread, which is in main (" in str(rank.reason)
        assert seen.host.cpus and rank.rss_bytes, "the machine and the process are shown meanwhile"

    outcome, _ = live(target.pid, check)
    assert (outcome.interrupted, outcome.outside, outcome.lost) == (True, True, None)
    assert not rendezvous.existing_meetings(target.pid)
    wait_for(target.steps_done, "the call to end, and the training to go on")
    assert nothing_of_ours(target)
    assert target.stop()["wrong"] == 0


def test_a_broken_socket_is_made_anew(start: Start) -> None:
    """The count goes on by what is seen, layers come again, and the budget that was asked for holds again."""
    target = start("bad_job.py").wait_ready()
    ends: list[Steps] = []

    async def check(watched: Watched) -> None:
        # So small a step cannot be armed one time in four within 1 %.
        await watched.until(lambda seen: has_layers(seen) and every(seen) > 4)
        watched.session.set_budget(1.0)
        await watched.until(lambda seen: every(seen) == 4)
        before = watched.latest
        assert before is not None and before.steps.total
        (probe,) = watched.session._ranks.probes.values()
        probe._socket.shutdown(socket.SHUT_RDWR)
        seen = await watched.until(lambda seen: only_rank(seen).stage == "reconnecting")
        rank = only_rank(seen)
        assert (rank.state, rank.reason) == ("lost", "the probe closed the connection without a goodbye")
        last = seen.steps.total or 0
        assert last >= before.steps.total
        assert [layer.name for layer in seen.layers] == [layer.name for layer in before.layers]
        seen = await watched.until(lambda seen: only_rank(seen).state == "attached")
        assert last <= (seen.steps.total or 0)
        seen = await watched.until(lambda seen: has_layers(seen) and every(seen) == 4)
        assert {layer.name for layer in seen.layers} == {layer.name for layer in before.layers}
        assert all(layer.called_at and layer.called_at[0].file.endswith("bad_job.py") for layer in seen.layers)
        assert last < (seen.steps.total or 0)
        ends.append(seen.steps)

    outcome, _ = live(target.pid, check)
    assert (outcome.interrupted, outcome.lost) == (True, None)
    wait_for(lambda: nothing_of_ours(target), "the probe to be gone")
    assert target.stop()["wrong"] == 0
    (steps,) = ends
    assert steps.began and steps.ended and steps.total
    done = sum(steps.began < step["t_end"] <= steps.ended for step in target.step_log())
    assert steps.total < done, "those made while nobody looked are not counted"


def every(seen: Snapshot) -> int:
    return (seen.health.probe.every if seen.health.probe else None) or 0


def test_the_agent_that_another_kept_is_found_again(start: Start) -> None:
    target = start("bad_job.py").wait_ready()

    async def check(watched: Watched) -> None:
        before = await watched.until(has_layers)
        (probe,) = watched.session._ranks.probes.values()
        probe._socket.shutdown(socket.SHUT_RDWR)
        await watched.until(lambda seen: only_rank(seen).stage == "reconnecting")
        seen = await watched.until(lambda seen: only_rank(seen).state == "attached" and has_layers(seen))
        attach = only_rank(seen).attach
        assert attach is not None and attach.method == "live-agent"
        assert {(layer.name, layer.called_at) for layer in seen.layers} == {
            (layer.name, layer.called_at) for layer in before.layers
        }

    with WireClient(target.pid) as other:
        live(target.pid, check)
        other.leave()
    assert target.stop()["wrong"] == 0


ENDS: dict[str, tuple[Callable[[Target], None], str]] = {
    "exit code": (lambda target: (target.folder / "stop").touch(), "the process has ended (exit code 3)"),
    "kill -9": (lambda target: os.kill(target.pid, signal.SIGKILL), "the process has ended (killed by SIGKILL)"),
}


@pytest.mark.parametrize("end", ENDS)
def test_how_the_target_ended(start: Start, end: str) -> None:
    target = start("bad_job.py", "--exit-code", "3").wait_ready()
    doing, reason = ENDS[end]

    async def check(watched: Watched) -> None:
        await watched.until(has_layers)
        doing(target)
        await watched.until(lambda seen: only_rank(seen).stage == "ended")

    outcome, last = live(target.pid, check)
    assert outcome.ended and outcome.lost is None
    assert (only_rank(last).state, only_rank(last).reason) == ("lost", reason)
    assert last.steps.count and last.layers, "what was seen stays"


def test_a_look_is_answered_at_once(start: Start) -> None:
    """At a layer, whose history comes with the next snapshot, and at another rank, whose layers do."""
    launcher = start("ranks.py", "--ranks", "2").wait_ready()
    pids = set(rank_pids(launcher.pid).values())

    async def check(watched: Watched) -> None:
        def whole(seen: Snapshot) -> bool:
            return (
                {rank.state for rank in seen.job.ranks} == {"attached"}
                and bool(seen.layers)
                and seen.layers_left_out == len(seen.layers)
            )

        for pid in pids:
            seen = await watched.look_until(Lens(pid), whole)
            (rank,) = {layer.rank for layer in seen.layers}
            assert [known.rank for known in seen.job.ranks if known.pid == pid] == [rank]
            assert seen.history is not None and seen.history.layer is None
            name = seen.layers[-1].name
            watched.session.look(Lens(pid, name))
            seen = await watched.next()
            assert seen.history is not None and seen.history.layer is not None
            assert (seen.history.layer.pid, seen.history.layer.name) == (pid, name)
            assert any(seen.history.layer.self_forward_s)
        watched.session.look(Lens(None, "no such layer"))
        seen = await watched.next()
        assert seen.history is not None and seen.history.layer is None

    live(launcher.pid, check, RARELY_S)
    (launcher.folder / "stop").touch()
    launcher.process.communicate(timeout=PATIENCE_S)
