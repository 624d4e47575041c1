"""What the session shows of the advisor, and that a bug in it takes down nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from torchtop.advisor.registry import RULES
from torchtop.judging import Judging
from torchtop.report import Context, RankInfo, snapshot
from torchtop.snapshot import Attach, CollectorHealth, MonitorHealth, Snapshot
from torchtop.window import Window

PID = 7
PROBE = CollectorHealth(name="probe", state="on", reason=None, failures=0, mean_s=0.001)


def look(judging: Judging, window: Window) -> Snapshot:
    rank = RankInfo(PID, 0, 0, "attached", None, Attach(method="ptrace", hello_s=0.1, pause_s=0.1))
    monitor = MonitorHealth(cpu_share=0.0, rss_bytes=1, late_ticks=0, dropped=0)
    context = Context("job", "python train.py", 1, (rank,), (PROBE,), monitor, None)
    return judging.advise(window, context, snapshot(window, context, "2026-01-02T03:04:05Z", 20.0), 20.0)


def broken() -> Window:
    """As a bug of ours could leave it: what the report reads is sound, what is frozen for the rules is not."""
    window = Window([PID], 0.0)
    nothing: Any = None
    window.ranks[PID].pauses = nothing
    return window


@pytest.mark.parametrize("steady", [False, True])
def test_a_bug_in_it_is_a_row_and_every_rule_says_why_it_was_not_judged(steady: bool) -> None:
    judging = Judging(steady)
    seen = look(judging, broken())
    probe, advisor = seen.health.collectors
    assert probe == PROBE
    assert (advisor.name, advisor.state, advisor.failures) == ("advisor", "off", 1)
    assert advisor.reason is not None and "a bug in torchtop: AttributeError" in advisor.reason
    assert "frozen.py:" in advisor.reason
    assert seen.findings == ()
    assert [one.code for one in seen.abstained] == [rule.CODE for rule in RULES]
    assert {one.reason for one in seen.abstained} == {advisor.reason}
    assert judging.wanted() == ()

    again = look(judging, Window([PID], 0.0)).health.collectors[-1]
    assert (again.state, again.reason, again.failures) == ("on", None, 1), "it may be over"
    assert again.mean_s is not None and again.mean_s > 0
