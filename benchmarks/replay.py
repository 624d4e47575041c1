"""Does the monitor's memory grow with the hours? 24 of them, made up and replayed as fast as they can be drawn.

Every simulated second two ranks send 20 steps and now and then an armed one, host and processes are read, and a snapshot
is made of the real window and drawn by the real screen on a pseudo-terminal, whose reader presses keys all the while.
Not simulated: sockets, /proc, py-spy. The memory of that process is read at each full hour; the slope is that of a line
through all hours after the first. Exit codes: 0 within the bar, 1 not, 2 too few hours to tell.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
from ratios import FAIL, NOT_RESOLVED, PASS, exit_code, table
from terminal import Terminal

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import many_layers
from tests.endurance import fitted
from torchtop.lens import Lens
from torchtop.live import HORIZON_S
from torchtop.record import HostSample, ProbeMessage, ProcessSample, Sample
from torchtop.report import Context, RankInfo, snapshot
from torchtop.snapshot import Attach, MonitorHealth, Snapshot
from torchtop.tui.app import TorchtopApp
from torchtop.tui.messages import Seen
from torchtop.tui.watching import Ending
from torchtop.window import Window

COLUMNS, ROWS = 120, 40
SLOPE_BYTES = 1 << 20  # an hour, after the first; issue "The live screen"
HOUR_S = 3600
RANKS = (101, 102)
LAYERS = 60
STEPS_PER_S = 20
ARMED_EVERY_S = 5
FEWEST = 4  # hours through which a line can be drawn
# Panels, focus, zoom, help and back, filter and back, sort, fold, summary and back, themes: nothing that writes a file.
KEYS = (b"1", b"2", b"3", b"4", b"5", b"\t", b"z", b"\x1b", b"]", b"v", b"s", b"f", b"_", b"c", b"\x1b[B", b"\r", b"?")
PRESS_S = 0.25  # of real time between two keys


def readings(second: int, chance: random.Random) -> Iterator[Sample]:
    """What comes in one second."""
    model = many_layers.model(LAYERS)
    t = float(second)
    for rank, pid in enumerate(RANKS):
        step_s = (1 + 0.1 * rank + chance.uniform(-0.2, 0.2)) / STEPS_PER_S
        bodies = [many_layers.steps(t, step_s, STEPS_PER_S)]
        if second % ARMED_EVERY_S == 0:
            bodies += [many_layers.armed(model, second, t, step_s), many_layers.health(STEPS_PER_S * ARMED_EVERY_S)]
        if second == 0:
            bodies = [*many_layers.modules(model), many_layers.facts(), *bodies]
        for body in bodies:
            yield ProbeMessage(t=t, rank_pid=pid, type=body["type"], body=body)
        cores, rss = chance.uniform(0.8, 1.0), 400_000_000 + chance.randrange(10_000_000)
        yield ProcessSample(t, pid, pid, "R", cores, rss, 8, 0.0, 0.0, 10.0, None, None)
    util, free = chance.random(), 10_000_000_000 + chance.randrange(10_000_000)
    yield HostSample(t, 8, util, 2.0, 16_000_000_000, free, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Replayed:
    """A job of so many hours (torchtop/tui/watching.py). Each snapshot waits until the one before is on screen."""

    def __init__(self, hours: int, told: Path) -> None:
        self.painted = anyio.Event()
        self._seconds = hours * HOUR_S
        self._told = told
        self._lens = Lens()
        self._over = False

    async def run(self, take: Callable[[Snapshot], Awaitable[bool]]) -> Ending:
        chance = random.Random(0)
        window = Window(RANKS, 0.0)
        attach = Attach(method="replay", hello_s=0.01, pause_s=0.001)
        ranks = tuple(RankInfo(pid, number, number, "attached", None, attach) for number, pid in enumerate(RANKS))
        with self._told.open("a") as told:
            for second in range(self._seconds + 1):
                for reading in readings(second, chance):
                    window.take(reading)
                window.forget_before(second - HORIZON_S)
                monitor = MonitorHealth(cpu_share=0.02, rss_bytes=rss_bytes(), late_ticks=0, dropped=0)
                context = Context("101-1", "python train.py", len(RANKS), ranks, (), monitor, None)
                self.painted = anyio.Event()
                await take(snapshot(window, context, f"{second}", min(float(second), HORIZON_S), self._lens))
                with anyio.move_on_after(1.0):  # another screen lies over it: then it is not painted
                    await self.painted.wait()
                if second % HOUR_S == 0:
                    print(second // HOUR_S, rss_bytes(), f"{time.monotonic():.1f}", file=told, flush=True)
                if self._over:
                    break
        return Ending(ended=True)

    def stop(self) -> None:
        self._over = True

    def look(self, lens: Lens) -> None:
        self._lens = lens

    def set_budget(self, share: float) -> None:
        pass


class ReplayApp(TorchtopApp):
    """Says when a snapshot is drawn. Textual calls this `on_seen` and that of the base class."""

    def __init__(self, replayed: Replayed) -> None:
        super().__init__(replayed)
        self._replayed = replayed

    def on_seen(self, message: Seen) -> None:
        self.call_after_refresh(self._replayed.painted.set)


def rss_bytes() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def watched(hours: int, told: Path) -> list[list[float]]:
    """(hour, bytes, s) at each full hour, from a screen in a process of its own."""
    command = [sys.executable, __file__, "--hours", str(hours), "--tell", str(told)]
    terminal = Terminal(command, COLUMNS, ROWS, {**os.environ, "TEXTUAL_FPS": "1000"})
    chance = random.Random(0)
    try:
        while not terminal.ended:
            lines = told.read_text().splitlines()
            if len(lines) > hours:
                break
            terminal.press(chance.choice(KEYS))
            time.sleep(PRESS_S)
            # What a key opened is closed again: the panels are what is to be seen.
            terminal.press(b"\x1b")
            time.sleep(PRESS_S)
            terminal.chunks.clear()
        if len(told.read_text().splitlines()) <= hours:
            raise SystemExit(f"the screen has ended: {terminal.text()[-2000:]}")
    finally:
        terminal.close()
    return [[float(value) for value in line.split()] for line in told.read_text().splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=24, help="simulated")
    parser.add_argument("--tell", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tell is not None:
        replayed = Replayed(args.hours, args.tell)
        ReplayApp(replayed).run(mouse=False)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        told.touch()
        found = watched(args.hours, told)
    began = found[0][2]
    print(table(["hour", "MiB", "took"], [[f"{h:g}", f"{b / 2**20:.1f}", f"{t - began:.0f} s"] for h, b, t in found]))
    after = [(hour, size) for hour, size, _ in found if hour >= 1]
    if len(after) < FEWEST:
        print(f"\n{NOT_RESOLVED}: {args.hours} hours are too few")
        return exit_code([NOT_RESOLVED])
    slope = fitted(after)
    said = PASS if slope < SLOPE_BYTES else FAIL
    print(f"\n{slope / 1024:+.0f} KiB an hour after the first, bar {SLOPE_BYTES // 1024}: {said}")
    return exit_code([said])


if __name__ == "__main__":
    sys.exit(main())
