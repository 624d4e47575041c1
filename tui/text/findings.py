"""Findings and rules that could not judge, in words: the same on the screen, on its page, and printed by `advise`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torchtop.snapshot import Abstention, Evidence, Finding
from torchtop.tui.text.plain import printable, wrapped
from torchtop.tui.text.units import amount, digits, duration, percent, size

MARKS = {"critical": "!!", "warn": "! ", "info": "  "}
KINDS = {"critical": "critical", "warn": "warn", "info": "number"}
_INDENT = 3  # columns below the code
_SAME_WINDOW = 1.1  # times: sources that begin and end together differ by a reading
_LAST = ("rank", "pid")  # of where a finding is
_LABEL = 12  # columns of what a line is about
_WAITS = re.compile(r"^(\d+) of (\d+) steps\b")  # as advisor/engine.py, needs.py and the rules themselves say it


class Line(NamedTuple):
    """kind: of the text, as in themes.py."""

    text: str
    kind: str = ""


class Group(NamedTuple):
    """Rules that could not judge for the same reason."""

    reason: str
    codes: tuple[str, ...]


class Waiting(NamedTuple):
    """Rules that will judge once there are more steps. seen, needed: of the one that needs most of them."""

    seen: int
    needed: int
    rules: int


def in_full(finding: Finding, width: int) -> list[Line]:
    """Everything that is known of it, but for its rule's text, in `width` columns."""
    kind, gained = KINDS[finding.severity], gain(finding)
    name = f"{MARKS[finding.severity]} {printable(finding.code)}"
    room = width - len(name) - len(gained)
    if room >= 2:
        return [Line(f"{name}{' ' * room}{gained}".rstrip(), kind), *details(finding, width)]
    return [Line(name, kind), Line(f"{' ' * _INDENT}{gained}"), *details(finding, width)]


def details(finding: Finding, width: int, indent: int = _INDENT) -> list[Line]:
    """Its sentence, where it is, its numbers, how sure it is, and what may cure it."""
    first = " " * indent
    lines = wrapped(first, finding.summary, width)
    lines += _labelled(first, "at", ", ".join(place(finding.where)), width)
    for index, text in enumerate(_numbers(finding.evidence)):
        lines += _labelled(first, "" if index else "measured", text, width)
    lines += _labelled(first, "confidence", finding.confidence, width)
    lines += _labelled(first, "cured by", ", ".join(finding.remedies), width)
    return [Line(line) for line in lines]


def gain(finding: Finding) -> str:
    """`up to 66.1 ms/step (60.0 %)`; '' where neither is known."""
    share = percent(finding.share) if finding.share is not None else ""
    if finding.recoverable_s is None:
        return share
    return f"up to {duration(finding.recoverable_s)}/step" + (f" ({share})" if share else "")


def number(one: Evidence) -> str:
    """`60.2 % of the step (58.1 % to 62.3 %)`."""
    value, rest = _split(one.value, one.unit)
    if one.low is not None and one.high is not None:
        rest += f" ({_split(one.low, one.unit)[0]} to {_split(one.high, one.unit)[0]})"
    return printable(f"{value}{rest}")


def place(where: Mapping[str, Any]) -> list[str]:
    """Where it is, the nearest first: `__getitem__ (data.py:57)`, `layer blocks.3`, `rank 0`, `process 4711`."""
    known = {name: value for name, value in where.items() if value is not None}
    found = []
    file, line, function = known.pop("file", None), known.pop("line", None), known.pop("function", None)
    if file is not None:
        spot = f"{file}:{line}" if line is not None else str(file)
        found.append(f"{function} ({spot})" if function is not None else spot)
    elif function is not None:
        found.append(str(function))
    others = [name for name in known if name not in _LAST]
    for name in (*others, *(name for name in _LAST if name in known)):
        word = "process" if name == "pid" else name.replace("_", " ")
        found.append(f"{word} {_said(name, known[name])}")
    return [printable(one) for one in found]


def groups(abstained: Iterable[Abstention]) -> list[Group]:
    """By reason, the most rules first."""
    found: dict[str, list[str]] = {}
    for one in abstained:
        found.setdefault(one.reason, []).append(one.code)
    largest_first = sorted(found.items(), key=lambda item: -len(item[1]))
    return [Group(reason, tuple(codes)) for reason, codes in largest_first]


def not_judged(abstained: Sequence[Abstention], width: int) -> list[str]:
    """One paragraph for each reason."""
    lines = []
    for group in groups(abstained):
        lines += wrapped(f"{len(group.codes):>4}  ", f"{group.reason}: {', '.join(group.codes)}", width)
    return lines


def waiting(abstained: Iterable[Abstention]) -> Waiting | None:
    """How far those rules are that only lack steps; None when there is none."""
    found = [match for one in abstained if (match := _WAITS.match(one.reason)) is not None]
    if not found:
        return None
    most = max(found, key=lambda match: int(match[2]))
    return Waiting(int(most[1]), int(most[2]), len(found))


def _numbers(evidence: Sequence[Evidence]) -> Iterator[str]:
    """Over how long they were measured, once where that is about the same for all; then a text for each."""
    shortest, longest = (end((one.window_s for one in evidence), default=0.0) for end in (min, max))
    together = longest <= _SAME_WINDOW * shortest
    if together:
        span = dict.fromkeys((duration(shortest), duration(longest)))
        yield f"over {' to '.join(span)}"
    for one in evidence:
        yield f"{one.name}: {number(one)}" + ("" if together else f", over {duration(one.window_s)}")


def _labelled(first: str, label: str, text: str, width: int) -> list[str]:
    return wrapped(f"{first}{label:<{_LABEL}}", text, width) if text else []


def _split(value: float, unit: str) -> tuple[str, str]:
    """(value with the part of its unit that depends on its size, rest of the unit)."""
    if unit.startswith("of ") or unit == "share":
        return percent(value), f" {unit}" if unit != "share" else ""
    for base, scaled in (("s", duration), ("bytes", size)):
        if unit == base or unit.startswith((f"{base}/", f"{base} ")):
            return scaled(value), unit[len(base) :]
    return amount(value), f" {unit}" if unit else ""


def _said(name: str, value: object) -> str:
    if name == "layer" and value == "":
        return "(root)"
    if isinstance(value, (list, tuple)):
        return ", ".join(_said("", one) for one in value)
    if isinstance(value, float):
        return digits(value)
    return str(value)
