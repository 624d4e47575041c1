"""Where one step ends and the next begins, and whether the next one is armed.

A step runs from one anchor to the next. The anchor is an optimizer's post-step hook; among several optimizers, the one
that steps least often, so that a step holds a whole cycle. In a loop without an optimizer it is the root module
(root_call.py), and in one without modules the end of backward. All methods but `take` run on the training thread.
"""

from __future__ import annotations

import time
from _thread import get_ident, get_native_id
from collections import deque

from ..wire import ARMED, COMPILED, IDLE, SKIPPED
from .anchor import NO, RESTART, Anchor
from .mark import Marks

_KEEP = 4096  # steps between two visits of the agent; older ones are dropped and counted
_CLOSER_LOOK = 16  # one armed step in this many also notes shapes and storages


class StepClock:
    """Counts steps, keeps their times, arms one in `budget.every`.

    restarts: how often everything handed out so far proved to be no steps. cell: says which notebook cell runs.
    at_rest: called at each boundary after which nothing is armed.
    """

    def __init__(self, budget, arm, disarm, compiled_frames, cell):
        self.trainer = None
        self.native_trainer = None
        self.marks = None
        self.dropped = 0
        self.begun = 0
        self.restarts = 0
        self.backward_seen = False
        self.backwards = 0
        self.at_rest = None
        self._budget = budget
        self._arm = arm
        self._disarm = disarm
        self._compiled_frames = compiled_frames
        self._frames = compiled_frames()
        self._cell = cell
        self._last_cell = cell()
        self._rows = deque(maxlen=_KEEP)
        self._closed = deque(maxlen=4)
        self._last = None
        self._until_armed = 1
        self._anchor = Anchor()
        self._stepped = False
        self._reset()

    def _reset(self):
        self._flags = 0
        self._micro = 0
        self._samples = None
        self._data_s = None
        self._backward_s = None
        self._backward_wait_s = None
        self._optimizer_s = None
        self._nested_s = 0.0

    def trainer_or(self, ident):
        """The training thread, or `ident` while none is known."""
        return self.trainer or ident

    def trained_by(self, ident):
        """The calling thread, `ident`, is the training thread from now on."""
        if ident != self.trainer:
            self.trainer, self.native_trainer = ident, get_native_id()

    @property
    def between_steps(self):
        """Whether the open step, if there is one, has had its backward pass."""
        return self._last is None or self._backward_s is not None

    # What resident hooks report

    def data(self, began, ended):
        """The training thread waited for a batch."""
        self._data_s = (self._data_s or 0.0) + ended - began

    def samples(self, count):
        """The loader handed out `count` samples."""
        self._samples = (self._samples or 0) + count

    def backward(self, began, ended, in_optimizer, computed, whole=True):
        """One backward pass went by. whole: it was no `torch.autograd.grad`, which is part of a larger pass mostly.

        in_optimizer: a closure that the optimizer calls made it; however often it does, that is one micro-step.
        computed: s of CPU that this thread used in it, None when it is another that computes.
        """
        self._backward_s = (self._backward_s or 0.0) + ended - began
        if computed is not None:
            self._backward_wait_s = (self._backward_wait_s or 0.0) + max(ended - began - computed, 0.0)
        self.backward_seen = True
        if whole and not (in_optimizer and self._nested_s):
            self._micro += 1
            self.backwards += 1
        if in_optimizer:
            self._nested_s += ended - began

    def optimizer(self, began, ended):
        """One optimizer step went by. With a forward pass inside it, its own time is not known here."""
        if not self._nested_s:
            self._optimizer_s = (self._optimizer_s or 0.0) + ended - began

    def tag(self, flag):
        """Something happened in this step that makes it unlike the others."""
        self._flags |= flag

    # Boundaries

    def optimizer_stepped(self, key, alive, now):
        """The post-step hook of optimizer `key` (its id): a boundary if it is the anchor. alive: ids of all known."""
        self._stepped = True
        answer = self._anchor.stepped(key, alive)
        if answer == RESTART:
            self.restart()
        if answer != NO:
            self.boundary(now)

    def restart(self):
        """Forget all steps so far: they were something else."""
        self.disarm_now()
        self._rows.clear()
        self._closed.clear()
        self._last, self.begun = None, 0
        self.restarts += 1

    def scaler_updated(self, now):
        """GradScaler.update: when no optimizer stepped, it left the step out, and the iteration is a step all the same."""
        stepped, self._stepped = self._stepped, False
        if not stepped and self._last is not None:
            self._flags |= SKIPPED
            self.boundary(now)

    def boundary(self, now):
        """A step ends at `now` and the next begins."""
        self.trained_by(get_ident())
        cell = self._cell()
        if cell != self._last_cell:
            # Between two cells of a notebook nothing runs: that is no step time.
            self._last_cell = cell
            self._flags |= IDLE
            self.disarm_now()
        marks = self.marks
        if marks is not None:
            self._flags |= ARMED
            self._finish(marks)
        if self._last is not None:
            step_s = now - self._last
            self.begun += 1
            self._add_row(now, step_s)
            if not self._flags & IDLE:
                self._budget.any_step(step_s, marks is not None)
            if marks is not None:
                self.armed_step(marks, self._last, now)
            # The budget may have come down since the last armed step: whoever asks for more need not wait for it.
            self._until_armed = min(self._until_armed, self._budget.every) - 1
        self._reset()
        self._last = now
        # Never before the first complete step: what is compiling now would be compiled with our hooks in it.
        if self.begun and self._until_armed <= 0:
            self.arm(self.trainer)
            self._last = time.perf_counter() if self.marks is not None else now
        if self.at_rest is not None and self.marks is None:
            self.at_rest()

    def _add_row(self, now, step_s):
        frames = self._compiled_frames()
        if frames != self._frames:
            self._frames = frames
            self._flags |= COMPILED
        if len(self._rows) == _KEEP:
            self.dropped += 1
        # A pass by `autograd.grad` alone (torch.func) is a micro-step, too.
        micro = self._micro or int(self._backward_s is not None)
        backward = (self._backward_s, self._optimizer_s, self._backward_wait_s)
        self._rows.append((now, step_s, self._flags, micro, self._samples, self._data_s, *backward))

    def arm(self, ident):
        """Look into what thread `ident` does from now on, if this process may be armed; `marks` is None if not."""
        self.marks = self._arm(Marks(ident), self._budget.armed % _CLOSER_LOOK == 0)

    def armed_step(self, marks, began, ended):
        """An armed step is over and its marks are closed."""
        marks.step = (began, ended, self.begun)
        self._budget.armed_step(marks, ended - began)
        self._closed.append(marks)
        self._until_armed = self._budget.every

    def disarm_now(self):
        """Give an armed step up without its numbers."""
        marks = self.marks
        if marks is not None:
            self._finish(marks)
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
