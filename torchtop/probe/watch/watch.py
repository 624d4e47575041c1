"""Everything that observes one process, put in and taken out as a whole."""

from __future__ import annotations

import sys
from collections import deque
from functools import partial

from . import compiled, facts
from .backward import patch_backward, patch_scaler, patch_tags
from .call_site import CallSites
from .clearing import Clearing
from .compiled import patch_compiled
from .device import cuda_timeline
from .forward import make_hooks
from .garbage import Garbage
from .hookdict import Hook
from .loader import patch_loader
from .loader_facts import Loaders
from .loss import LossCell
from .modes import looked_at
from .module_table import ModuleTable
from .no_optimizer import NoOptimizer
from .optimizers import Optimizers
from .passes import Passes
from .patch import give_back
from .program import Program, hand_on
from .saving import Saving
from .step import StepClock
from .stops import Stops
from .weights import WeightScan


class Watch:
    """Hooks and patches in `torch`, one flag that makes all of them inert, and what they have seen."""

    def __init__(self, torch, budget):
        self.torch = torch
        self.on = False
        self.errors = 0
        self.left_behind = []
        self.loaders = Loaders(torch)
        self.scaler = None
        self.optimizers = Optimizers(self)
        self.budget = budget
        self.table = ModuleTable()
        self.sites = CallSites(torch)
        self.program = Program(torch)
        self.garbage = Garbage(self)
        self.saving = Saving(self)
        self.clearing = Clearing(self)
        self.passes = Passes(torch, self)
        self.loss = LossCell(torch)
        self.timeline = cuda_timeline(torch)
        self.clock = StepClock(self.budget, self._arm, self._disarm, facts.compiled_frames, facts.notebook_cell)
        self._sees_compiled = False
        self.compiled = None
        self.compiles = False
        self._forward_hooks = []
        self._patches = []
        self._clearing_patches = []
        self._step_hooks = []
        self.stops = Stops()
        self.no_optimizer = NoOptimizer(torch, self)
        self.weights = WeightScan(self)
        self.clock.at_rest = self.weights.at_boundary
        patches = (patch_loader, patch_backward, patch_scaler, patch_tags, self.saving.patches)
        self._parts = deque(partial(self._install, each) for each in patches)
        self._parts += self._patch_clearing, self.garbage.add, self._hook_steps

    # Putting in and taking out: agent thread

    def attach(self):
        """Install what stays while attached. Returns True when all of it is in; call again until it is.

        A part that raises is left out: the next call goes on with the rest.
        """
        self.on = True
        while self._parts:
            self._parts.popleft()()
        added = [hook.add() for hook in self._step_hooks]
        return all(added)

    def _hook_steps(self):
        self._step_hooks = self.optimizers.hooks()

    def _patch_clearing(self):
        if not self.is_compiled():
            self._install(self.clearing.patches, self._clearing_patches)

    def _install(self, install, *also):
        # One by one: what is in is known, and comes out again, even if the next cannot be put in.
        for patch in install(self.torch, self):
            for patches in (self._patches, *also):
                patches.append(patch)

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
        self.garbage.remove()
        hooks = [*self._forward_hooks, *self._step_hooks]
        waiting = [hook.label for hook in hooks if not hook.remove()]
        wrapped = [patch.label for patch in reversed(self._patches) if not patch.undo()]
        held = [patch for patch in self._patches if patch.held()]
        if held:
            give_back(held)
        self.left_behind = [*self.no_optimizer.root_call.stop(), *wrapped, *waiting]
        return not waiting

    def tick(self):
        """What has to be looked at now and then."""
        if self.on and not self._sees_compiled:
            self._install(patch_compiled)
            self._sees_compiled = compiled.loaded()
            if self.is_compiled():  # it was quicker than we: nobody has told us of it
                self._undo_clearing()
        if self.on:
            self._install(self.saving.patches)
        self.garbage.tick()
        self.no_optimizer.tick()

    def _undo_clearing(self):
        for patch in list(self._clearing_patches):
            patch.undo()

    def is_compiled(self):
        """Whether anything in this process was compiled: then nothing is armed any more."""
        return self.compiles or self.compiled is not None or facts.compiled_frames() > 0

    def compilation_begins(self):
        """Any thread, before dynamo looks at what it is going to compile: it must not see a hook of ours."""
        try:
            self.compiles = True
            self._undo_clearing()
            self.clock.disarm_now()
            self.no_optimizer.root_call.stop()
        except Exception as error:
            hand_on(error)
            self.errors += 1

    def take(self):
        """(rows of finished steps, marks of armed ones, how often the count began anew)."""
        restarts = self.clock.restarts
        rows, closed = self.clock.take()
        rows += self.no_optimizer.rows()
        if self.torch.cuda.is_initialized():
            rows = [(*row[:-1], None) for row in rows]  # it waits for the device: see `backward` in backward.py
        rows, closed = self.stops.sort_out(rows, closed)
        return rows, closed, restarts

    def scale(self):
        """The GradScaler's factor in the loss at hand, as a tensor, or None."""
        return None if self.scaler is None else self.scaler._scale

    def _arm(self, marks, closer):
        """Put the forward hooks in for one step; None when this process must not be armed."""
        if not self.on or self.is_compiled() or compiled.loaded() > self._sees_compiled or looked_at(self.torch):
            return None
        if closer:
            marks.shapes, marks.storages = {}, set()
        marks._timeline = self.timeline
        self._forward_hooks = _forward_hooks(*make_hooks(self.torch, marks, self.table, self.sites, self.passes))
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


def _forward_hooks(before, after):
    modules = sys.modules["torch.nn.modules.module"]
    return [
        Hook(modules._global_forward_pre_hooks, before, "forward pre hook"),
        Hook(modules._global_forward_hooks, after, "forward hook"),
    ]
