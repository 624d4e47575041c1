"""What a target knows of itself, written to a file for a test to compare with what torchtop said.

`FILE` is one JSON object, written whole when the target ends. `FILE.steps` has one JSON line per step from
the start: `step`, `t_end` (time.monotonic() at its end), `step_s`, `phases` (s; they sum to `step_s`),
`samples` (null where the program itself has no such number), `losses` (hash of all losses told before this line),
and any marks given. A step runs from the end of the one before, so it holds what the loop did between: data,
logging, the next batch. Standard library only, Python 3.9.

Imports what torch imports too (base64, ctypes, select, socket): in a target without torch the probe would have to, and
an import in a second thread takes seconds while the main thread keeps the GIL busy (measured: `import socket` 2-9 s).
"""

from __future__ import annotations

import base64  # noqa: F401
import ctypes  # noqa: F401
import hashlib
import json
import os
import select  # noqa: F401
import socket  # noqa: F401
import struct
import time
import traceback
from collections.abc import Callable
from types import TracebackType


def write_json(path: str, content: dict[str, object]) -> None:
    """Put it at `path` in one rename: a reader sees all of it or nothing."""
    with open(path + ".tmp", "w") as file:
        json.dump(content, file)
    os.replace(path + ".tmp", path)


def announce(path: str | None) -> None:
    """Make `path` appear, with this PID in it: from now on the target can be watched."""
    if path is None:
        return
    with open(path + ".tmp", "w") as file:
        file.write(f"{os.getpid()}\n")
    os.replace(path + ".tmp", path)


class Phase:
    """Adds the time inside its `with` block to one phase of the step. Costs under a microsecond."""

    __slots__ = ("_since", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def __enter__(self) -> None:
        self._since = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter() - self._since


class Around(Phase):
    """A phase that others run inside of, as the closure does in LBFGS: what those take is not its own."""

    __slots__ = ("_others", "_taken")

    def __init__(self, others: Callable[[], float]) -> None:
        super().__init__()
        self._others = others
        self._taken = 0.0

    def __enter__(self) -> None:
        self._taken = self._others()
        super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, where)
        self.seconds -= self._others() - self._taken


class Truth:
    """Steps, samples, seconds per phase and the hash of all losses of one run.

    `facts` go into the file as they are: model, batch size, module names.
    """

    def __init__(self, path: str, **facts: object) -> None:
        self.steps = 0
        self.samples: int | None = 0
        self.totals: dict[str, float] = {}
        self.facts = facts
        self.errors: list[str] = []
        self.path = path
        self._phases: dict[str, Phase] = {}
        self._losses = hashlib.sha256()
        # Line buffering: nothing is left in the buffer for a forked DataLoader worker to write again.
        self._log = open(path + ".steps", "w", buffering=1)  # noqa: SIM115
        self.begin()

    def begin(self) -> None:
        """The first step starts now, not when this object was made."""
        self.started = time.monotonic()
        self._since = time.perf_counter()

    def phase(self, name: str) -> Phase:
        """The part of this step called `name`: `with truth.phase("forward"):`. They must not be nested."""
        phase = self._phases.get(name)
        if phase is None:
            phase = self._phases[name] = Phase()
        return phase

    def around(self, name: str) -> Phase:
        """The same for a part that has other phases inside it."""
        if name not in self._phases:
            self._phases[name] = Around(
                lambda: sum(phase.seconds for other, phase in self._phases.items() if other != name)
            )
        return self._phases[name]

    def loss(self, value: float) -> None:
        """One more loss, in the order computed, as eight bytes into the hash."""
        self._losses.update(struct.pack("<d", value))

    def error(self) -> None:
        """Keep the traceback of the exception now being handled."""
        self.errors.append(traceback.format_exc())

    def step(self, samples: int | None, **marks: object) -> None:
        """A step of so many samples ends now; what no phase claimed of it is `other`."""
        now, t_end = time.perf_counter(), time.monotonic()
        step_s, self._since = now - self._since, now
        phases = {name: phase.seconds for name, phase in self._phases.items()}
        phases["other"] = step_s - sum(phases.values())
        for name, phase in self._phases.items():
            phase.seconds = 0.0
            self.totals[name] = self.totals.get(name, 0.0) + phases[name]
        self.totals["other"] = self.totals.get("other", 0.0) + phases["other"]
        line = {
            "step": self.steps,
            "t_end": t_end,
            "step_s": step_s,
            "phases": phases,
            "samples": samples,
            "losses": self._losses.hexdigest(),
            **marks,
        }
        self._log.write(json.dumps(line) + "\n")
        self.steps += 1
        self.samples = None if samples is None or self.samples is None else self.samples + samples

    def finish(self, **facts: object) -> None:
        """Write the file. `facts` are those only known now, such as the hash of the weights."""
        self._log.close()
        content: dict[str, object] = {
            **self.facts,
            "pid": os.getpid(),
            "started": self.started,
            "ended": time.monotonic(),
            "steps": self.steps,
            "samples": self.samples,
            "phases_s": self.totals,
            "losses_sha256": self._losses.hexdigest(),
            "errors": self.errors,
            **facts,
        }
        write_json(self.path, content)
