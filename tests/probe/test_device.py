"""Device timelines with events that behave as CUDA's may: late, out of order, too many, never."""

# mypy: allow-untyped-calls

from __future__ import annotations

from torchtop.probe.watch import device


class Gpu:
    """A clock and the events recorded on it; an event is done once `done_until` has passed it."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.done: set[int] = set()
        self.made: list[Event] = []
        self.capturing = False

    def new_event(self) -> Event:
        self.made.append(Event(self, len(self.made)))
        return self.made[-1]


class Event:
    def __init__(self, gpu: Gpu, number: int) -> None:
        self.gpu, self.number, self.at_ms = gpu, number, -1.0

    def record(self) -> None:
        self.at_ms = self.gpu.now_ms
        self.gpu.done.discard(self.number)

    def query(self) -> bool:
        return self.number in self.gpu.done

    def elapsed_time(self, other: Event) -> float:
        return other.at_ms - self.at_ms


def timeline(gpu: Gpu, pool: int = 16, give_up_s: float = 30.0) -> device.Timeline:
    return device.Timeline(gpu.new_event, lambda: gpu.capturing, pool, give_up_s)


def step(line: device.Timeline, gpu: Gpu, number: int, marks: int) -> list[int]:
    """Record one step, 2 ms between marks, and return the numbers of its events."""
    before = [event.at_ms for event in gpu.made]
    for position in range(marks):
        line.mark(position)
        gpu.now_ms += 2.0
    line.close(number)
    return [event.number for i, event in enumerate(gpu.made) if i >= len(before) or event.at_ms != before[i]]


def test_times_are_read_when_done_and_not_before() -> None:
    gpu = Gpu()
    line = timeline(gpu)
    events = step(line, gpu, 1, 3)
    assert line.collect() == []
    gpu.done.update(events[:2])
    assert line.collect() == []
    gpu.done.update(events)
    assert line.collect() == [(1, [(0, 0.0), (1, 0.002), (2, 0.004)])]
    assert line.collect() == []


def test_steps_that_complete_out_of_order() -> None:
    gpu = Gpu()
    line = timeline(gpu)
    first, second = step(line, gpu, 1, 2), step(line, gpu, 2, 2)
    gpu.done.update(second)
    assert [number for number, _ in line.collect()] == [2]
    gpu.done.update(first)
    assert [number for number, _ in line.collect()] == [1]


def test_exhausted_pool_is_counted_and_recovers() -> None:
    gpu = Gpu()
    line = timeline(gpu, pool=3)
    events = step(line, gpu, 1, 5)
    assert (line.exhausted, len(gpu.made)) == (2, 3)
    gpu.done.update(events)
    assert line.collect() == [(1, [(0, 0.0), (1, 0.002), (2, 0.004)])]
    step(line, gpu, 2, 3)
    assert (line.exhausted, len(gpu.made)) == (2, 3), "events of a finished step are used again"


def test_nothing_is_recorded_while_a_graph_is_captured() -> None:
    gpu = Gpu()
    gpu.capturing = True
    line = timeline(gpu)
    step(line, gpu, 1, 4)
    assert (line.captured, gpu.made, line.collect()) == (4, [], [])


def test_an_event_that_never_completes_is_given_up_and_never_used_again() -> None:
    gpu = Gpu()
    line = timeline(gpu, pool=4, give_up_s=-1.0)
    stuck = step(line, gpu, 1, 2)
    assert line.collect() == []
    assert line.lost == 1
    gpu.done.update(stuck)
    assert line.collect() == []
    again = step(line, gpu, 2, 4)
    assert not set(again) & set(stuck)
    assert line.exhausted == 0, "lost events leave room in the pool for new ones"
