"""Everything that observes one process, put in and taken out as a whole."""

from __future__ import annotations

import sys
import time
import weakref

from ..wire import IDLE, OPTIMIZER_BEGIN, OPTIMIZER_END
from . import compiled, facts
from .backward import patch_backward, patch_scaler, patch_tags
from .call_site import CallSites
from .compiled import patch_compiled
from .device import cuda_timeline
from .forward import make_hooks
from .hookdict import Hook
from .loader import patch_loader
from .loss import LossCell
from .module_table import ModuleTable
from .no_optimizer import NoOptimizer
from .step import StepClock

_STEP_FILE, _STEP_NAME = "torch/optim/optimizer.py", "wrapper"
_MEMORY_S = 30.0  # s between two looks at what memory is made of


class Watch:
    """Hooks and patches in `torch`, one flag that makes all of them inert, and what they have seen."""

    def __init__(self, torch, budget):
        self.torch = torch
        self.on = False
        self.errors = 0
        self.left_behind = []
        self.loader = None
        self.scaler = None
        self.optimizers = {}
        self.memory = None
        self.budget = budget
        self.table = ModuleTable()
        self.sites = CallSites(torch)
        self.roots = {}
        self.loss = LossCell(torch)
        self.timeline = cuda_timeline(torch)
        self.clock = StepClock(self.budget, self._arm, self._disarm, facts.compiled_frames, facts.notebook_cell)
        self._memory_due = 0.0
        self._optimizer_began = None
        self._sees_compiled = False
        self.compiled = None
        self.compiles = False
        self._forward_hooks = []
        self._patches = []
        self._step_hooks = []
        self._stops = []
        self.no_optimizer = NoOptimizer(torch, self)

    # Putting in and taking out: agent thread

    def attach(self):
        """Install what stays while attached. Returns True when all of it is in; call again until it is."""
        if not self.on:
            self.on = True
            for install in (patch_loader, patch_backward, patch_scaler, patch_tags):
                self._install(install)
            optimizer = sys.modules["torch.optim.optimizer"]
            where = (_STEP_FILE, _STEP_NAME)
            self._step_hooks = [
                Hook(optimizer._global_optimizer_pre_hooks, self._before_step, "optimizer pre hook", *where),
                Hook(optimizer._global_optimizer_post_hooks, self._after_step, "optimizer post hook", *where),
            ]
        added = [hook.add() for hook in self._step_hooks]
        return all(added)

    def _install(self, install):
        # One by one: what is in is known, and comes out again, even if the next cannot be put in.
        for patch in install(self.torch, self):
            self._patches.append(patch)

    def silence(self):
        """Make everything inert at once; removal may follow when it is safe."""
        self.on = False
        marks = self.clock.marks
        if marks is not None:
            marks.close()

    def detach(self):
        """Take out what can be taken out now. Returns True when nothing is left to try again.

        What the program has wrapped meanwhile stays, passing through, and is listed in `left_behind`.
        """
        self.silence()
        hooks = [*self._forward_hooks, *self._step_hooks]
        waiting = [hook.label for hook in hooks if not hook.remove()]
        wrapped = [patch.label for patch in reversed(self._patches) if not patch.undo()]
        self.left_behind = [*self.no_optimizer.root_call.stop(), *wrapped, *waiting]
        return not waiting

    def tick(self):
        """What has to be looked at now and then."""
        if self.on and not self._sees_compiled:
            self._install(patch_compiled)
            self._sees_compiled = compiled.loaded()
        self.no_optimizer.tick()

    def is_compiled(self):
        """Whether anything in this process was compiled: then nothing is armed any more."""
        return self.compiles or self.compiled is not None or facts.compiled_frames() > 0

    def compilation_begins(self):
        """Any thread, before dynamo looks at what it is going to compile: it must not see a hook of ours."""
        try:
            self.compiles = True
            self.clock.disarm_now()
            self.no_optimizer.root_call.stop()
        except Exception:
            self.errors += 1

    def suspended(self, began, ended):
        """The whole process stood still in between: the step that was going on says nothing of the job's speed."""
        self._stops.append((began, ended))

    def take(self):
        """(rows of finished steps, marks of armed ones, how often the count began anew)."""
        restarts = self.clock.restarts
        rows, closed = self.clock.take()
        rows += self.no_optimizer.rows()
        for stop in self._stops:
            rows = [
                (*row[:2], row[2] | IDLE, *row[3:]) if _holds(row[0] - row[1], row[0], stop) else row for row in rows
            ]
            closed = [marks for marks in closed if not _holds(marks.step[0], marks.step[1], stop)]
        if rows:
            self._stops = [stop for stop in self._stops if stop[1] > rows[-1][0]]
        return rows, closed, restarts

    # Hooks: training thread

    def _before_step(self, optimizer, _args, _kwargs):
        if self.on:
            self._optimizer_began = time.perf_counter()

    def _after_step(self, optimizer, _args, _kwargs):
        if not self.on:
            return
        try:
            now = time.perf_counter()
            began, self._optimizer_began = self._optimizer_began, None
            clock = self.clock
            if began is not None:
                clock.optimizer(began, now)
                if clock.marks is not None:
                    clock.marks.note(OPTIMIZER_BEGIN, began)
                    clock.marks.note(OPTIMIZER_END, now)
                    clock.marks.optimizer_stepped()
            key = id(optimizer)
            if key not in self.optimizers:
                self.optimizers[key] = weakref.ref(optimizer, lambda _, key=key: self.optimizers.pop(key, None))
            if now > self._memory_due and clock.begun:
                self._look_at_memory(now)
            marks = clock.marks
            clock.optimizer_stepped(key, self.optimizers, now)
            if marks is not None and marks.open:
                marks.outside_s += time.perf_counter() - now
        except Exception:
            self.errors += 1

    @property
    def in_optimizer(self):
        """Whether an optimizer's step is under way: a closure runs inside it."""
        return self._optimizer_began is not None

    def scale(self):
        """The GradScaler's factor in the loss at hand, as a tensor, or None."""
        return None if self.scaler is None else self.scaler._scale

    def _look_at_memory(self, now):
        self._memory_due = now + _MEMORY_S
        alive = [optimizer for optimizer in (ref() for ref in list(self.optimizers.values())) if optimizer is not None]
        self.memory = facts.memory_made_of(alive)

    def _arm(self, marks, closer):
        """Put the forward hooks in for one step; None when this process must not be armed."""
        if not self.on or self.is_compiled() or compiled.loaded() > self._sees_compiled:
            return None
        if closer:
            marks.shapes, marks.storages = {}, set()
        marks._timeline = self.timeline
        modules = sys.modules["torch.nn.modules.module"]
        before, after = make_hooks(self.torch, marks, self.table, self.sites)
        self._forward_hooks = [
            Hook(modules._global_forward_pre_hooks, before, "forward pre hook"),
            Hook(modules._global_forward_hooks, after, "forward hook"),
        ]
        for hook in self._forward_hooks:
            hook.add()
        if not self.on:  # a detach came between: it may have missed these
            self._disarm()
            return None
        return marks

    def _disarm(self):
        for hook in self._forward_hooks:
            hook.remove()
        self._forward_hooks = []
        if self.timeline is not None:
            self.timeline.close(self.clock.begun)


def _holds(began, ended, stop):
    """Whether most of a stop lies in this step."""
    return min(ended, stop[1]) - max(began, stop[0]) > 0.5 * (stop[1] - stop[0])
