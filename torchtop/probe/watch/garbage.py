"""Runs of Python's cyclic garbage collector on the training thread: how long, and which line set them off.

The trap: an exception in a gc callback is printed and lost, and a signal that arrives during a collection has its handler
run in the next Python function there is, which would be our callback. A job that collects for a tenth of its time would
lose a tenth of all Ctrl-C (measured: 300 of 300 when it does nothing else). So what the collector calls is no Python
function. At the start of a run only C notes the time. At its stop C resumes a generator that waits in `yield from`,
where the interpreter looks for no signals, and inside a `try`. What was raised in there is not ours; the agent raises it
again, in the thread it was meant for. A forked child has copies of all this and no agent: they see nothing there.
"""

from __future__ import annotations

import _thread
import gc
import itertools
import os
import signal
import sys
import time
from _thread import get_ident
from collections import deque
from functools import partial

from .program import is_ours

WORTH_S = 1e-4  # s; a run that is shorter only adds to the sum: of a step of 1 ms, a tenth
_KEEP = 1000  # runs between two visits of the agent; older ones are dropped
_AWAY_S = 1.0  # s for which nothing is seen after an exception that was not ours
_NEARLY = 0.95  # of the threshold: what may be left of it by the time of a run that an allocation set off
_DEPTH = 1  # frames between the generator and the program: what calls it is no Python function


class Garbage:
    """What stands in `gc.callbacks` while attached, and what it saw.

    seconds: s in all runs on the training thread. runs: (t, s, generation, explicit, line or None) of those of
    generation 1 and 2 that took WORTH_S or more, each handed out once.
    """

    def __init__(self, watch):
        self.seconds = 0.0
        self.runs = deque(maxlen=_KEEP)
        self._watch = watch
        self._lost = deque()
        self._back_at = None
        self._callbacks = ()

    def add(self):
        """Put the callbacks in, last: the collector goes through the list by number."""
        began, told = [None], {}
        stops = self._stops(began, told)
        next(stops)
        now = zip(iter(time.perf_counter, None), iter(gc.get_count, None))
        starts = map(began.__setitem__, itertools.repeat(0), now)
        # getattr() reads the attribute that the phase is called, and that advances one of the two iterators; all in C.
        phases = {"start": property(partial(next, starts)), "stop": property(partial(next, stops))}
        runs = type("runs", (), {"__slots__": (), **phases})()
        self._callbacks = (told.__setitem__, partial(getattr, runs))
        gc.callbacks.extend(self._callbacks)
        self._back_at = None

    def remove(self):
        """Take them out again. Taking one out while the collector calls another at worst hides one run from us."""
        self._take_out()
        self._raise_again()
        self._back_at = None

    def tick(self):
        """Agent thread: what a handler of the program's raised in our generator goes where it was meant to go.

        We are out of the way meanwhile: a job that only collects would have it land with us again.
        """
        if self._lost:
            self._take_out()
            self._raise_again()
            self._back_at = time.monotonic() + _AWAY_S
        elif self._back_at is not None and time.monotonic() >= self._back_at and self._watch.on:
            self.add()

    def _take_out(self):
        callbacks, self._callbacks = self._callbacks, ()
        for callback in reversed(callbacks):
            if callback in gc.callbacks:
                gc.callbacks.remove(callback)

    def _raise_again(self):
        while self._lost:
            ident, error = self._lost.popleft()
            if type(error) is KeyboardInterrupt and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.pthread_kill(ident, signal.SIGINT)  # ends a sleep, too
                continue
            ctypes = sys.modules.get("ctypes")  # torch imports it
            if ctypes is None:
                _thread.interrupt_main()
                continue
            # Only a class can be raised in another thread: one whose only instance is this one.
            again = type(type(error).__name__, (type(error),), {"__new__": _giving(error.with_traceback(None))})
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(again))

    def _stops(self, began, told):
        """Resumed at the end of each run. began: (s, counts) of its start; told: phase -> what the collector says."""
        watch, now, once = self._watch, time.perf_counter, (True,)
        process, pid = os.getpid, os.getpid()
        while True:
            try:
                while True:
                    yield from once
                    ended = now()
                    if process() != pid:
                        return
                    start, began[0] = began[0], None
                    if start is None or not watch.on or get_ident() != watch.clock.trainer:
                        continue
                    took = ended - start[0]
                    self.seconds += took
                    generation = told["stop"]["generation"]
                    if generation > 0 and took >= WORTH_S:
                        line = watch.program.line(sys._getframe(_DEPTH))
                        self.runs.append((ended, took, generation, _was_asked_for(generation, start[1]), line))
            except GeneratorExit:
                return
            except BaseException as error:
                lost = get_ident(), error
                if isinstance(error, Exception) and is_ours(error):
                    watch.errors += 1
                elif process() == pid:
                    self._lost.append(lost)
                else:
                    # In here it would be lost again.
                    self._lost = deque([lost])
                    _thread.start_new_thread(self._raise_again, ())
                    return


def _was_asked_for(generation, counts):
    """Whether gc.collect() was called: when nothing else could have set the run off. counts: at its start.

    An allocation sets it off once the counts of generation 0 and of this one are over their thresholds. Python 3.12 and
    newer run it a few instructions later, when some of what was counted may be gone again.
    """
    thresholds = gc.get_threshold()
    due = counts[generation] > thresholds[generation] and counts[0] > _NEARLY * thresholds[0]
    return not (due and thresholds[0] and gc.isenabled())


def _giving(error):
    return lambda _kind: error
