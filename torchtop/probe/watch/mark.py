"""Marks of one armed step: when what happened, in two flat arrays that cost the training thread the least."""

from __future__ import annotations

import time
from array import array

from ..wire import mark

LIMIT = 400_000  # marks; more are dropped and counted, so that a runaway loop cannot fill the memory


class Marks:
    """What one armed step left behind. Written by the training thread until `close`, then read by the agent.

    spent_s, outside_s: s that our hooks took, inside forward passes and between phases.
    times: float64 seconds of CLOCK_MONOTONIC; codes: int64, see wire.mark. They have the same length.
    """

    def __init__(self, trainer, timeline=None):
        self.trainer = trainer
        self.times = array("d")
        self.codes = array("q")
        self.open = True
        self.errors = 0
        self.dropped = 0
        self.spent_s = 0.0
        self.outside_s = 0.0
        self.calls = 0
        self.taps = 0
        self.depth = 0
        self.loss_s = 0.0
        self._root_ended = None
        self.roots = {}
        self.batch = None
        self.micro_batch = None
        self.batch_open = True
        self.loaded = None
        self.batch_root = None
        self.recalled = False
        self.stepped = False
        self.single_call = False
        self.tokens = None
        self.grad_roots = 0
        self.eval_roots = 0
        self.autocast = None
        self.passes = 0
        self.synced = None
        self.shapes = None
        self.storages = None
        self.step = None
        self._others = {}
        self._timeline = timeline

    def note(self, kind, t=None, index=0, thread=0):
        """Add one mark; never raises."""
        if not self.open:
            return
        if len(self.times) >= LIMIT:
            self.dropped += 1
            return
        if self._timeline is not None:
            self._timeline.mark(len(self.times))
        # Times first: whoever reads while we write sees at most one time without its code, and cuts it off.
        self.times.append(time.perf_counter() if t is None else t)
        self.codes.append(mark(kind, index, thread))

    def root_ended(self):
        """The program's own call of a module returned: from here to backward, what the thread computes is the loss."""
        self._root_ended = time.thread_time()

    def backward_begins(self, in_optimizer):
        """CPU time since then counts as forward; waiting (a logger, a sleep) does not. Returns whether it was running.

        in_optimizer: a closure of the optimizer runs this; there the monitor tells by the marks what is forward.
        """
        since, self._root_ended = self._root_ended, None
        if since is not None and not in_optimizer:
            self.loss_s += time.thread_time() - since
        return since is not None

    def backward_ended(self, in_optimizer):
        """What is called next is of another micro-step, unless it is a closure, which sees the same samples again."""
        self.batch_open = self.batch_open or not in_optimizer
        self.depth = 0

    def optimizer_stepped(self):
        """The samples so far went into that step; the next forward pass begins with new ones."""
        self.stepped = True

    def thread_of(self, ident):
        """0 for the training thread, 1..15 for others (backward on CUDA runs on one of its own)."""
        if ident == self.trainer:
            return 0
        return self._others.setdefault(ident, min(len(self._others) + 1, 15))

    def close(self):
        """No more marks: hooks on graph nodes that outlive the step find it closed."""
        self.open = False
