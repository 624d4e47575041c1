"""host-contended: other processes take the cores that the training needs.

Defining inequality: the training thread is ready but not running >= 0.10 of the time (critical: 0.30), by the low end
of its interval, while processes that are not the job's use >= 0.5 cores and more than its own loader workers do.

## What it does
Takes from schedstat how long the training thread waited for a core, and names who used the cores meanwhile.

## Why it matters
A step is as slow as its slowest thread. With several threads that spin at the end of each parallel part, one busy
neighbour costs far more than its share.

## When it is wrong
In a container others are not seen: then they are what the machine uses and this job does not. Waiting that the job's
own threads or workers cause is told by threads-misset and loader-oversubscribed. While a core of the machine is idle it
is a quota or pinning that holds the thread back, or a stranger on its core alone: which, cannot be told, and the rule
abstains. All processes of one session are a single competitor for the kernel (sched(7), autogrouping).

## Source
proc_pid_schedstat(5), second number. 10 % are TraceML 0.5.0's for time lost. Measured: libgomp that spins, two threads
on two cores with one busy neighbour, 20 to 30 times slower; passive waiting 1.1 times.
"""

from __future__ import annotations

from torchtop.advisor.cores import by_ranks, by_strangers, by_workers, free, run_delay
from torchtop.advisor.judgement import Abstain, Judgement, confidence, measured, number, severity
from torchtop.advisor.waiting import hidden
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Finding

CODE = "host-contended"
NEEDS = ("steps", "processes", "host")
REMEDIES: tuple[str, ...] = ()
MIN_STEPS = 3  # it is judged by readings of the machine, one a second
WARN = 0.10  # share of the time that the training thread waits for a core
CRITICAL = 0.30  # share of the time that the training thread waits for a core
_FREE = 1.0  # core of the machine that nobody uses: a thread that strangers hold up would run there
_OTHERS = 0.5  # cores: what less is used by strangers does not make a thread wait for a tenth of its time


def check(seen: Seen) -> Judgement:
    """Judge the slowest rank and whoever else was busy."""
    slow = seen.slow
    assert slow is not None
    delay = run_delay(slow)
    if delay is None:
        return Abstain("the kernel does not tell how long the training thread waits for a core")
    if (level := severity(delay.low, WARN, CRITICAL)) is None:
        return None
    if (unexposed := hidden(seen, slow)) is not False:
        return unexposed if isinstance(unexposed, Abstain) else None
    strangers = by_strangers(seen)
    if strangers is None:
        return Abstain("the training thread waits for a core, and who else uses them was not read")
    if strangers < _OTHERS or strangers <= by_workers(seen):
        return None
    if (unused := free(seen)) is not None and unused >= _FREE:
        return Abstain(
            f"the training thread waits for a core while {unused:.1f} are idle: a quota or pinning may be the reason"
        )
    spins = _spins(slow, seen, strangers)
    named = [one for one in seen.neighbours or () if one.cores >= 0.1 * strangers]
    most = max(named, key=lambda one: one.cores, default=None)
    who = (
        f"{most.name} (pid {most.pid})" + (f" and {len(named) - 1} more" if len(named) > 1 else "")
        if most is not None
        else "processes that cannot be seen from here"
    )
    return Finding(
        code=CODE,
        severity=level,
        confidence=confidence(delay.low, WARN, len(slow.processes) * 2),
        recoverable_s=delay.mean * seen.step_s if seen.step_s is not None else None,
        share=min(delay.mean, 1.0),
        evidence=(
            measured("training thread ready, without a core", delay, "of the time", seen.window_s),
            number("CPU of other processes", strangers, "cores", seen.window_s),
            number("CPU of the job", by_ranks(seen) + by_workers(seen), "cores", seen.window_s),
            *([number("threads that spin while they wait", slow.facts.threads or 0, "threads", 0.0)] if spins else ()),
        ),
        summary=f"{who} takes {strangers:.1f} cores, and the training waits {delay.mean:.0%} of its time for one"
        + ("; threads of libgomp that spin meanwhile make it far worse (OMP_WAIT_POLICY=passive)" if spins else ""),
        where={
            "rank": slow.rank,
            "pid": slow.pid,
            "process": most.name if most is not None else None,
            "process_pid": most.pid if most is not None else None,
            "cores": most.cores if most is not None else strangers,
        },
        remedies=REMEDIES,
    )


def _spins(slow: RankSeen, seen: Seen, strangers: float) -> bool:
    """Whether more threads than cores are left meet at barriers, awake: libgomp spins unless it is told not to."""
    threads, cores = slow.facts.threads or 1, seen.usable_cores
    passive = slow.facts.environment.get("OMP_WAIT_POLICY", "").lower() == "passive"
    return threads > 1 and not passive and not seen.on_gpu and cores is not None and threads + strangers > cores
