"""`torchtop rule`: what the docstring of each rule says, as text, with the thresholds that stand in its file."""

from __future__ import annotations

import ast
import inspect
import io
import re
import shutil
import tokenize
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from torchtop.advisor.groups import GROUPS
from torchtop.advisor.judgement import Rule
from torchtop.advisor.registry import RULES
from torchtop.errors import UsageError
from torchtop.tui.text.plain import wrapped
from torchtop.tui.watching import Section

NARROWEST, WIDEST = 40, 110  # columns of printed prose: beyond, eyes lose the line


class Threshold(NamedTuple):
    """A named number of a rule. reason: its unit and why it is what it is, '' where its file does not say."""

    name: str
    value: float
    reason: str


class Rulebook:
    """The rules of this version, as a screen wants them (tui/watching.py)."""

    def __len__(self) -> int:
        return len(RULES)

    def text(self, code: str) -> tuple[Section, ...]:
        rule = next((rule for rule in RULES if code == rule.CODE), None)
        return sections(rule) if rule is not None else ()


def rule(code: str | None) -> int:
    """Print one rule, or a line of each; the exit code. Raises `UsageError`."""
    width = columns()
    if code is None:
        print("\n".join(_listing(width)))
        return 0
    known = {rule.CODE: rule for rule in RULES}
    if code not in known:
        raise UsageError(f"there is no rule {code!r}{_nearest(code, list(known))} (`torchtop rule` lists all)")
    print("\n".join(_page(known[code], width)))
    return 0


def columns() -> int:
    """Of prose for whatever stdout goes to."""
    return min(max(shutil.get_terminal_size((100, 24)).columns, NARROWEST), WIDEST)


def pattern(rule: Rule) -> str:
    """The bad pattern in one line: the docstring's first line without the code."""
    first = _docstring(rule).partition("\n")[0]
    return first.removeprefix(f"{rule.CODE}:").strip()


def sections(rule: Rule) -> tuple[Section, ...]:
    """The docstring: what stands before its first heading, then each heading; then what the rule needs, and its numbers."""
    heading, found = "", []
    body: list[str] = []
    for line in _docstring(rule).split("\n")[1:]:
        if line.startswith("## "):
            found.append(Section(heading, _paragraphs(body)))
            heading, body = line.removeprefix("## ").strip(), []
        else:
            body.append(line)
    found.append(Section(heading, _paragraphs(body)))
    numbers = tuple(
        f"{one.name} = {_plain(one.value)}" + (f": {one.reason}" if one.reason else "") for one in thresholds(rule)
    )
    needs = (", ".join(rule.NEEDS),) if rule.NEEDS else ()
    cures = (", ".join(rule.REMEDIES),) if rule.REMEDIES else ()
    more = (Section("Thresholds", numbers), Section("Needs", needs), Section("May be cured by", cures))
    return tuple(section for section in (*found, *more) if section.paragraphs)


def thresholds(rule: Rule) -> list[Threshold]:
    """Its named numbers, in the order of its file; those that it imports are told where they are defined."""
    reasons = _reasons(rule)
    return [
        Threshold(name, value, reasons.get(name, ""))
        for name, value in vars(rule).items()
        if re.fullmatch(r"_?[A-Z][A-Z0-9_]*", name)
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
        and (name in reasons or not reasons)
    ]


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _docstring(rule: Rule) -> str:
    return inspect.cleandoc(rule.__doc__ or "")


def _paragraphs(lines: list[str]) -> tuple[str, ...]:
    """Lines that belong together as one; a blank line or a dash begins another."""
    found: list[str] = [""]
    for line in lines:
        text = line.strip()
        if not text or text.startswith("- "):
            found.append(text)
        else:
            found[-1] = f"{found[-1]} {text}".strip()
    return tuple(text for text in found if text)


def _reasons(rule: Rule) -> dict[str, str]:
    """Name -> the comment behind its line, or on those right above it. Empty where the source is not at hand."""
    try:
        source = inspect.getsource(rule)  # type: ignore[arg-type]
    except OSError:
        return {}
    tokens = [one for one in tokenize.generate_tokens(io.StringIO(source).readline) if one.type == tokenize.COMMENT]
    comments = {one.start[0]: one.string.lstrip("# ") for one in tokens}
    alone = {one.start[0]: one.string.lstrip("# ") for one in tokens if one.start[1] == 0}
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            names = [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            behind = [comments[line] for line in range(node.lineno, (node.end_lineno or 0) + 1) if line in comments]
            found |= dict.fromkeys(names, " ".join(behind or _above(node.lineno, alone)))
    return found


def _above(line: int, comments: Mapping[int, str]) -> list[str]:
    """Comments on the lines before `line`, up to the first line without one."""
    first = line
    while first - 1 in comments:
        first -= 1
    return [comments[at] for at in range(first, line)]


def _listing(width: int) -> Iterator[str]:
    """By group; a rule that is in none of them last."""
    known = {rule.CODE: rule for rule in RULES}
    longest = max(map(len, known), default=0)
    grouped = {code for codes in GROUPS.values() for code in codes}
    for group, codes in {**GROUPS, "other": tuple(code for code in known if code not in grouped)}.items():
        here = [known[code] for code in codes if code in known]
        if here:
            yield group
            for rule in here:
                yield from wrapped(f"  {rule.CODE:<{longest}}  ", pattern(rule).rstrip("."), width)


def _page(rule: Rule, width: int) -> Iterator[str]:
    yield from wrapped("", f"{rule.CODE}: {pattern(rule)}", width)
    for section in sections(rule):
        yield ""
        if section.heading:
            yield section.heading
        for paragraph in section.paragraphs:
            yield from wrapped("  " if section.heading else "", paragraph, width)


def _nearest(code: str, known: list[str]) -> str:
    near = get_close_matches(code.lower().replace("_", "-"), known, n=1)
    return f": did you mean {near[0]!r}?" if near else ""
