"""Where one step ends and the next begins, and whether the next one is armed.

A step runs from one anchor to the next. The anchor is an optimizer's post-step hook; among several optimizers, the
one that steps least often, so that a step holds a whole cycle. In a loop without an optimizer it is the root module.
All methods but `take` run on the training thread.
"""

from __future__ import annotations

import time
from _thread import get_ident
from collections import deque

from ..wire import ARMED, COMPILED, SKIPPED
from .mark import Marks

_KEEP = 4096  # steps between two visits of the agent; older ones are dropped and counted
_FAVOUR_AFTER = 12  # optimizer steps after which the anchor is chosen again
_CLOSER_LOOK = 16  # one armed step in this many also notes shapes and storages


class StepClock:
    """Counts steps, keeps their times, arms one in `budget.every`."""

    def __init__(self, budget, arm, disarm, compiled_frames):
        self.trainer = None
        self.marks = None
        self.dropped = 0
        self.begun = 0
        self.backward_seen = False
        self._budget = budget
        self._arm = arm
        self._disarm = disarm
        self._compiled_frames = compiled_frames
        self._frames = compiled_frames()
        self._rows = deque(maxlen=_KEEP)
        self._closed = deque(maxlen=4)
        self._last = None
        self._until_armed = 1
        self._anchor = None
        self._posts = {}
        self._cycle = set()
        self._stepped = False
        self._reset()

    def _reset(self):
        self._flags = 0
        self._micro = 0
        self._samples = None
        self._data_s = None
        self._backward_s = None
        self._optimizer_s = None

    def trainer_or(self, ident):
        """The training thread, or `ident` while none is known."""
        return self.trainer or ident

    # What resident hooks report

    def data(self, began, ended):
        """The training thread waited for a batch."""
        self._data_s = (self._data_s or 0.0) + ended - began

    def samples(self, count):
        """The loader handed out `count` samples."""
        self._samples = (self._samples or 0) + count

    def backward(self, began, ended):
        """One backward pass went by."""
        self._backward_s = (self._backward_s or 0.0) + ended - began
        self._micro += 1
        self.backward_seen = True

    def optimizer(self, began, ended):
        """One optimizer step went by, whatever ran inside it."""
        self._optimizer_s = (self._optimizer_s or 0.0) + ended - began

    def tag(self, flag):
        """Something happened in this step that makes it unlike the others."""
        self._flags |= flag

    # Boundaries

    def optimizer_stepped(self, key, now):
        """The post-step hook of optimizer `key` (its id): a boundary if it is the anchor."""
        self._stepped = True
        self._cycle.add(key)
        self._posts[key] = self._posts.get(key, 0) + 1
        if self._anchor is None:
            self._anchor = key
            # Until now the root's calls may have been taken for steps: a long first step looks like a loop without
            # an optimizer.
            self.disarm_now()
            self._rows.clear()
            self._last, self.begun = None, 0
        elif sum(self._posts.values()) >= _FAVOUR_AFTER * len(self._posts):
            rarest = min(self._posts, key=self._posts.get)
            # Half as often or less: two optimizers in turn must not change places at every odd count.
            if self._anchor not in self._posts or 2 * self._posts[rarest] <= self._posts[self._anchor]:
                self._anchor = rarest
                self._last = None
            self._posts.clear()
        if key == self._anchor:
            self.boundary(now)

    def scaler_updated(self, now):
        """GradScaler.update: when no optimizer stepped, it left the step out, and the iteration is a step all the same."""
        stepped, self._stepped = self._stepped, False
        if not stepped and self._last is not None:
            self._flags |= SKIPPED
            self.boundary(now)

    def boundary(self, now):
        """A step ends at `now` and the next begins."""
        self.trainer = get_ident()
        marks = self.marks
        if marks is not None:
            self._flags |= ARMED
            self._finish(marks)
        if self._last is not None:
            step_s = now - self._last
            frames = self._compiled_frames()
            if frames != self._frames:
                self._frames = frames
                self._flags |= COMPILED
            if len(self._rows) == _KEEP:
                self.dropped += 1
            self._rows.append(
                (
                    now,
                    step_s,
                    self._flags,
                    self._micro,
                    self._samples,
                    self._data_s,
                    self._backward_s,
                    self._optimizer_s,
                )
            )
            self.begun += 1
            self._budget.any_step(step_s, marks is not None)
            if marks is not None:
                marks.step = (self._last, now, self.begun, len(self._cycle) or 1)
                self._budget.armed_step(marks, step_s)
                self._closed.append(marks)
                self._until_armed = self._budget.every
            # The budget may have come down since the last armed step: whoever asks for more need not wait for it.
            self._until_armed = min(self._until_armed, self._budget.every) - 1
        self._reset()
        self._cycle.clear()
        self._last = now
        # Never before the first complete step: what is compiling now would be compiled with our hooks in it.
        if self.begun and self._until_armed <= 0:
            closer = self._budget.armed % _CLOSER_LOOK == 0
            self.marks = self._arm(Marks(self.trainer), closer)
            self._last = time.perf_counter() if self.marks is not None else now

    def disarm_now(self):
        """Give an armed step up without its numbers."""
        marks, self.marks = self.marks, None
        if marks is not None:
            marks.close()
            self._disarm()
            self._until_armed = 2

    def _finish(self, marks):
        self.marks = None
        marks.close()
        self._disarm()

    # The agent's side

    def take(self):
        """(rows of finished steps, marks of armed ones), each handed out once. Called by the agent thread."""
        rows, closed = [], []
        while self._rows:
            rows.append(self._rows.popleft())
        while self._closed:
            closed.append(self._closed.popleft())
        return rows, closed
