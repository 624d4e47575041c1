"""How often a step may be armed: the probe's own cost, measured, held under a share of step time.

The cost of an armed step is the time spent inside our hooks, measured by themselves, plus what torch and the
interpreter add around them: so much a module call and so much a graph node hook, as benchmarks/overhead.py --calibrate
measured them. Timing them here would mean calling modules, and a hook of the user's would see those calls.
"""

from __future__ import annotations

from collections import deque

DEFAULT_SHARE = 0.01  # of step time
_AIM = 0.7  # of the budget: what one step's cost varies by must fit in the rest
_CALL_S = 4e-6  # s around our two hooks at each module call: the slow path of Module.__call__ (measured 3.4 to 4.4)
_NODE_CALL_S = 4e-6  # s around one graph node hook: taking the GIL, making its arguments (measured 3.5 to 5.1)
_STEP_S = 12e-6  # s that stay on the training thread in every step: optimizer hooks and two patches (measured 12 to 23)
_MEDIAN_OF = 5  # armed steps
_OUTLIER = 4.0  # times the usual step at most count into what is usual
_LONGEST_S = 20.0  # s without an armed step at most: at that distance none costs anything that matters
FEWEST = 4  # at most one step in four is armed unless asked otherwise: the others are the statistics


class Budget:
    """Decides `every`: one step in `every` is armed."""

    def __init__(self, share=DEFAULT_SHARE):
        self.share = share
        self.fixed = None
        self.every = FEWEST
        self.armed = 0
        self.cost_s = 0.0
        self.watched_s = 0.0
        self._quiet_s = None
        self._recent = deque(maxlen=_MEDIAN_OF)

    @property
    def usual_s(self):
        """s that a step usually takes, None before the first."""
        return self._quiet_s

    def fix(self, every):
        """Arm one step in `every`, whatever it costs; None to follow the budget again."""
        self.fixed = every
        self.every = every or max(self.every, FEWEST)

    def cost_of(self, marks):
        """(s in forward, s in backward, s in no phase) that the armed step behind `marks` took longer, by our account."""
        roots = sum(marks.roots.values())
        forward_s = marks.spent_s + (marks.calls - roots) * _CALL_S
        return forward_s, marks.taps * _NODE_CALL_S, marks.outside_s + roots * _CALL_S

    def armed_step(self, marks, step_s):
        """Account for an armed step and adapt."""
        cost = sum(self.cost_of(marks))
        self.armed += 1
        self.cost_s += cost
        if self.fixed is not None:
            self.every = self.fixed
            return
        # The median of a few: one hook that was descheduled in the middle says nothing about the next step.
        self._recent.append(cost)
        typical = sorted(self._recent)[len(self._recent) // 2]
        quiet = self._quiet_s or max(step_s - cost, 1e-4)
        room = max(self.share * _AIM * quiet - _STEP_S, 0.1 * self.share * quiet)
        rarest = max(FEWEST, int(_LONGEST_S / quiet))
        self.every = min(max(FEWEST, int(typical / room) + 1), rarest)

    def any_step(self, step_s, armed):
        """Account for the resident part of any step, and learn how long an unarmed one takes."""
        self.cost_s += _STEP_S
        self.watched_s += step_s
        if not armed:
            # One step with an evaluation in it, or a stop of the process, says little of the next.
            usual = self._quiet_s
            self._quiet_s = step_s if usual is None else 0.9 * usual + 0.1 * min(step_s, _OUTLIER * usual)

    def cost_share(self):
        """Share of watched time that went into the probe, None before the first step."""
        return self.cost_s / self.watched_s if self.watched_s else None
