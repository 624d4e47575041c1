"""unused-parameters: the optimizer holds parameters that never get a gradient.

Defining inequality: elements of parameters with requires_grad that an optimizer which steps holds, and of which no
gradient was seen at any of >= 10 optimizer steps, >= 1 % (info) or >= 25 % (warn) of the elements of all parameters with
requires_grad that optimizers hold. Warn only after 20 optimizer steps; parameters whose like in a sibling (experts.3
beside experts.5) had a gradient count for it only after 100.

## What it does
Looks right before the optimizer steps whether each of its parameters has a gradient, at many steps.

## Why it matters
What gets no gradient is not trained: a head that nothing calls, a branch cut off by detach() or no_grad(). It takes
memory and room in every checkpoint, DistributedDataParallel has to search for it in every step
(find_unused_parameters=True) or fails, and often nobody meant it so.

## When it is wrong
Experts that were not chosen, dropped layers and heads of a task that did not come up get a gradient later: where siblings
do, it takes more steps to warn. A backbone frozen by requires_grad_(False) is not counted. What no optimizer holds (a
target network, an average of the weights) is not counted, and neither is a parameter whose values change all the same,
as an average that the program keeps in the model does.

## Source
PyTorch documentation of DistributedDataParallel, find_unused_parameters; PyTorch transfer learning tutorial, on freezing
by requires_grad. No tool ships a threshold for the share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from torchtop.advisor import place
from torchtop.advisor.judgement import Abstain, Confidence, Judgement, Severity, number
from torchtop.seen import Seen, WeightRow, Weights
from torchtop.snapshot import Evidence, Finding

CODE = "unused-parameters"
NEEDS = ("training", "weights")
REMEDIES = ()
MIN_STEPS = 0  # optimizer steps at which it was looked are counted by the scan
LOOKS = 10  # optimizer steps: a layer that is dropped in half of them is missed in one of 1,000 jobs
LOOKS_TO_WARN = 20  # optimizer steps: one that is dropped in four of five is missed in one of 100
LOOKS_OF_SIBLINGS = 100  # optimizer steps: a task that comes up in 3 % of them is missed in one of 20 jobs
INFO = 0.01  # share of trained elements: below it is the pooler of a BERT
WARN = 0.25  # share of trained elements: a head or an adapter has less, a backbone or half a model more


def check(seen: Seen) -> Judgement:
    """Judge what the slowest rank's optimizers hold: with data parallelism all hold the same."""
    slow = seen.slow
    assert slow is not None and slow.weights is not None
    weights = slow.weights
    total = weights.optimized_elements
    if not total:
        return Abstain("no optimizer was seen stepping since the scan of the weights began")
    if weights.boundaries < LOOKS:
        return Abstain(f"gradients were looked for at {weights.boundaries} of {LOOKS} steps")
    unused = [row for row in weights.rows if _is_unused(row)]
    if unused and (moved := _modules_that_change(weights)):
        unused = [row for row in unused if not row.called or row.module not in moved]
    share = min(sum(row.elements for row in unused) / total, 1.0)
    if share < INFO:
        return None
    by_turns = _with_siblings(unused, weights.rows)
    sure = [row for row in unused if weights.boundaries >= LOOKS_OF_SIBLINGS or row not in by_turns]
    places = _places(unused, weights.rows)
    level: Severity = "info"
    if weights.boundaries >= LOOKS_TO_WARN and sum(row.elements for row in sure) >= WARN * total:
        level = "warn"
    return Finding(
        code=CODE,
        severity=level,
        confidence=_confidence(weights.boundaries, bool(by_turns)),
        recoverable_s=None,
        share=share,
        evidence=_evidence(weights, unused, total, slow.watched_s),
        summary=_summary(share, places, weights.boundaries, bool(by_turns)),
        where=place.of(slow) | place.of_layers(places),
        remedies=REMEDIES,
    )


def _is_unused(row: WeightRow) -> bool:
    return row.trainable and row.had_gradient is False and not row.changed


def _modules_that_change(weights: Weights) -> set[str]:
    """Modules whose weight the program sets itself: their biases, which are not read, go with it."""
    return {row.module for row in weights.rows if row.changed}


def _with_siblings(unused: Iterable[WeightRow], rows: Iterable[WeightRow]) -> set[WeightRow]:
    """Of those, the ones that had a gradient are alike but for a number in their name: they may take turns."""
    trained = {_pattern(row) for row in rows if row.had_gradient}
    return {row for row in unused if re.search(r"\d", row.module) and _pattern(row) in trained}


def _pattern(row: WeightRow) -> tuple[str, str, str]:
    return re.sub(r"\d+", "#", row.module), row.type, row.name


def _places(unused: Sequence[WeightRow], rows: Iterable[WeightRow]) -> list[str]:
    """The outermost modules in which nothing had a gradient, largest first."""
    alive = {prefix for row in rows if row.had_gradient for prefix in _prefixes(row.module)}
    found: dict[str, int] = {}
    for row in unused:
        name = "no module that is called"
        if row.called:
            outermost = (prefix for prefix in _prefixes(row.module) if prefix and prefix not in alive)
            name = next(outermost, row.module or row.name)
        found[name] = found.get(name, 0) + row.elements
    return sorted(found, key=lambda name: -found[name])


def _prefixes(module: str) -> list[str]:
    """The module's ancestors, outermost first, and itself."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _confidence(looks: int, by_turns: bool) -> Confidence:
    if by_turns and looks < LOOKS_OF_SIBLINGS:
        return "low"
    return "high" if looks >= LOOKS_OF_SIBLINGS else "medium"


def _evidence(weights: Weights, unused: Sequence[WeightRow], total: int, span: float) -> tuple[Evidence, ...]:
    elements = sum(row.elements for row in unused)
    return (
        number("elements without a gradient", elements, "elements", span),
        number("of those that optimizers train", min(elements / total, 1.0), "of the elements", span),
        number("bytes of them", sum(row.bytes for row in unused), "bytes", span),
        number("optimizer steps looked at", weights.boundaries, "steps", span),
    )


def _summary(share: float, places: Sequence[str], looks: int, by_turns: bool) -> str:
    first = places[0]
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    turns = ", though modules like it do" if by_turns else ""
    return (
        f"{share:.0%} of the parameters that the optimizer holds had no gradient at any of {looks} steps: "
        f"{first}{more}{turns}"
    )
