"""What the parameters hold, and which of them get gradients: read on request, a piece at a time between two steps.

On the training thread, at boundaries of steps that are not armed, under a part of the budget. Between two pieces only
numbers of ours and weak references are kept. Weights on a device are not read yet; gradients are looked for there, too.
"""

from __future__ import annotations

import contextlib
import time
from _thread import get_ident
from collections import deque

from .gradients import Gradients
from .modes import compiling, rerouted
from .pace import Pace
from .program import hand_on
from .weight_plan import MOST, Plan
from .weight_reading import NotReadable, Reading

_PART = 0.2  # of the budget
_RATE = 1e8  # elements a second, until it is measured: a tenth of what is usual
_FEWEST = 1 << 14  # elements of a piece: fewer take hardly less time
_TRIES = 5  # to go through the modules
_MOST_ELEMENTS = 1 << 20  # read of all parameters together, about, in 2 to 4 ms; of larger models some channels
_LOOKS = 10  # at gradients before anything is told; then again whenever there were twice as many
_ENOUGH_LOOKS = 1_000
_PATIENCE_S = 8.0  # s after which it is told with fewer looks, or why there is nothing to tell
_STALE_S = 60.0  # s after which a scan is done anew for who asks for one
_NO_PLAN = "the modules of the model could not be gone through: %s: %s"
_AGAIN = 500  # parameters without a gradient that are looked at again, whether they changed all the same


class WeightScan:
    """Does nothing until `want`."""

    def __init__(self, watch):
        self._watch = watch
        self.pace = Pace(watch.budget, _PART)
        self.gradients = Gradients(watch.budget)
        self.wanted = False
        self._since = None
        self._plan = None
        self._tries = 0
        self._queue = None
        self._limit = 0
        self._again = None
        self._read_at = None
        self._told = None
        self._reason = None
        self._reader = None
        self._last = None
        self._step_s = 0.0
        self._rate = _RATE

    # The agent's side

    def want(self):
        """Read all weights once. A scan that is going on, or that has just been told, will do."""
        self.wanted = True
        self._tries = 0
        self._reader = None  # a program may train in another thread by now
        if self._told is not None and not self._again and time.monotonic() - self._since > _STALE_S:
            self._plan = self._queue = self._read_at = self._told = self._since = None

    def news(self, roots):
        """What to tell now: None, or (plan, what is known of the whole), or a reason why there is nothing.

        roots: the modules that the program calls itself, as far as they are known.
        """
        now = time.monotonic()
        if not self.wanted:
            return None
        self._since = self._since or now
        if self._plan is None:
            if roots:
                try:
                    plan = Plan(roots)
                except Exception as problem:
                    # They are being changed, maybe: next time.
                    self._tries += 1
                    self.wanted = self._tries < _TRIES
                    return None if self.wanted else _NO_PLAN % (type(problem).__name__, problem)
                wide = deque(known for known in plan.parameters if known.wide)
                self._limit = max(_MOST_ELEMENTS // max(len(wide), 1), 1)
                self._plan, self._queue = plan, wide
                return None
            return self._silent(now, "no module that the program calls is known%s")
        if self._queue:
            return self._silent(now, "no moment between two steps was seen in which they could be read%s")
        if self._read_at is None:
            self._read_at, self._since = time.perf_counter(), now
        return self._whole(now)

    def _silent(self, now, reason):
        if self.pace.pieces or now - self._since < _PATIENCE_S:
            return None
        reason = reason % (": the model is compiled" if self._watch.is_compiled() else "")
        told, self._reason = self._reason, reason
        return reason if told != reason else None

    def _whole(self, now):
        looks = self.gradients.looks()
        if self._told is None:
            early = looks < _LOOKS and (self._watch.optimizers or self._watch.clock.backward_seen)
            if early and now - self._since < _PATIENCE_S:
                return None
        elif looks < (_LOOKS if self._told < _LOOKS else 2 * self._told) or self._told >= _ENOUGH_LOOKS:
            return None
        never = self.gradients.never()
        if self._again is None:
            self._again = deque(self._unchanged(never))
        if self._again and now - self._since < 2 * _PATIENCE_S:
            return None
        self._again, self._told = None, looks
        held, held_elements = self.gradients.held()
        elsewhere = list(never.keys() - {known.key for known in self._plan.parameters})[:MOST]
        return self._plan, {
            "t": self._read_at,
            "boundaries": looks,
            "elements": self._plan.elements,
            "optimized_elements": held_elements if held else None,
            "left_out": self._plan.left_out,
            "rows": list(_rows(self._plan.parameters, held, never)),
            "loose": [list(never[key]) for key in elsewhere],
        }

    def _unchanged(self, never):
        without = [known for known in self._plan.parameters if known.key in never and not known.changed]
        return [known for known in without if known.reading is not None and known.reading.first is not None][:_AGAIN]

    # The training thread

    def before_step(self, optimizer):
        """An optimizer is about to step, in a step that is not armed."""
        try:
            if self.gradients.looks() < _ENOUGH_LOOKS and not rerouted(self._watch.torch):
                self.gradients.before_step(optimizer)
        except Exception as error:
            hand_on(error)
            self._watch.errors += 1

    def after_step(self, optimizer):
        """It has."""
        try:
            self.gradients.after_step(optimizer)
        except Exception as error:
            hand_on(error)
            self._watch.errors += 1

    def at_boundary(self):
        """A step has ended and the next one is not armed."""
        queue = self._queue or self._again
        if not queue or not self._watch.on:
            return
        try:
            self._read_some(queue)
        except Exception as error:
            hand_on(error)
            self._watch.errors += 1

    def _read_some(self, queue):
        began = time.perf_counter()
        # The shorter of two: what follows a validation or a pause is a step like all others.
        step_s, self._step_s = self._step_s, began - (self._last or began)
        step_s, self._last = min(step_s, self._step_s), began
        if not self.pace.due(began) or _would_be_seen(self._watch.torch):
            return
        if self._reader is None:
            self._reader = get_ident()
        elif self._reader != get_ident():
            return
        cpu_began, until = time.thread_time(), began + self.pace.piece_s(step_s)
        with _out_of_autograd(self._watch.torch):
            before = began
            while queue:
                read = self._read_piece(queue, max(int((until - before) * self._rate), _FEWEST))
                after = time.perf_counter()
                if read and before > began:  # the first finds the caches cold
                    self._rate = read / (after - before)
                if after + _FEWEST / self._rate > until:
                    break
                before = after
        self.pace.worked(began, cpu_began)

    def _read_piece(self, queue, elements):
        """Elements read, about as many as told; 0 where nothing was read that tells how long so many take."""
        known = queue[0]
        done, module, read = True, known.module(), 0
        try:
            if module is None:
                raise NotReadable("gone before they were read")
            if queue is not self._queue:
                known.changed = known.reading.changed(module)
            else:
                done = False
                if known.reading is None:
                    known.reading = Reading(self._watch.torch, module, known.name, self._limit)
                read = known.reading.step(module, elements)
                done = known.reading.done
        except NotReadable as problem:
            done, known.reading = True, None
            self._plan.leave_out(str(problem))
        except Exception as error:
            hand_on(error)
            done, known.reading = True, None
            self._plan.leave_out("that could not be read: a bug in torchtop")
            raise
        finally:
            if done:
                queue.popleft()
        return read


def _rows(parameters, held, never):
    """[module, name, elements, bytes, trainable, had a gradient, channels, those looked at, those of them near zero,
    elements looked at, those near zero, norm, changed] of each parameter of two or more dimensions, and of any that never
    had a gradient.
    """
    for known in parameters:
        if not known.wide and known.key not in never:
            continue
        row = [known.at, known.name, known.elements, known.bytes, known.trainable]
        row.append(known.key not in never if known.key in held else None)
        read = known.reading
        if read is None:
            row += [None] * 6
        else:
            row += [read.channels, read.channels_looked if read.has_channels else None, read.channels_near_zero]
            row += [read.elements_looked or None, read.elements_near_zero, read.norm]
        row.append(known.changed)
        yield row


@contextlib.contextmanager
def _out_of_autograd(torch):
    # What is made in inference mode could not be written outside of it.
    inference = getattr(torch, "inference_mode", None)  # since torch 1.9
    with torch.no_grad() if inference is None else inference(False), torch.no_grad():
        yield


def _would_be_seen(torch):
    return rerouted(torch) or torch.autograd._profiler_enabled() or compiling(torch)()
