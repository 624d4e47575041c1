"""The first and the last line of the screen."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from torchtop.snapshot import Snapshot
from torchtop.tui.keys import Key
from torchtop.tui.state import remarks, state
from torchtop.tui.text.glyphs import head
from torchtop.tui.text.plain import command_line
from torchtop.tui.text.units import percent, size

_GAP = "  "


def job_line(snapshot: Snapshot, width: int) -> Text:
    """What is watched: the command, and what kind of job it is."""
    job = snapshot.job
    pids = ",".join(str(rank.pid) for rank in job.ranks[:2]) + ("…" if len(job.ranks) > 2 else "")
    mode = job.mode or "not looked into"
    right = f"{mode}  pid {pids}  {snapshot.host.hostname}"
    left = head(command_line(job.command), max(width - cell_len(right) - 3, 10))
    return Text.assemble((" " + left, "strong"), _GAP, (right, "quiet"))


def state_line(snapshot: Snapshot, width: int, flags: tuple[str, ...]) -> Text:
    """How it is watched, what that costs, and what else must be known. flags: words of the screen itself."""
    now = state(snapshot)
    parts = [Text.assemble((f" {now.word}", now.kind or "strong"), (f" {now.text}" if now.text else "", "quiet"))]
    parts += [Text(flag, "warn") for flag in flags]
    parts += [Text(remark, "warn") for remark in remarks(snapshot)]
    probe, monitor = snapshot.health.probe, snapshot.health.monitor
    if probe is not None:
        every = f" 1 in {probe.every}" if probe.every else ""
        parts.append(Text(f"probe {percent(probe.cost_share)}{every}", "quiet"))
    parts.append(Text(f"late {monitor.late_ticks}", "warn" if monitor.late_ticks else "quiet"))
    parts.append(Text(f"torchtop {percent(monitor.cpu_share)} {size(monitor.rss_bytes)}", "quiet"))
    line = parts[0]
    for part in parts[1:]:
        if line.cell_len + len(_GAP) + part.cell_len <= width:
            line = Text.assemble(line, _GAP, part)
    line.truncate(width, overflow="ellipsis")
    return line


def key_line(keys: tuple[Key, ...], width: int) -> Text:
    """The keys that have a word, as many as there is room for; the last ones, help and quit, always."""
    named = [key for key in keys if key.label]
    last = [key for key in named if key.id in ("help", "quit")]
    rest = [key for key in named if key not in last]
    room = width - sum(_width(key) for key in last)
    shown = []
    for key in rest:
        if room >= _width(key):
            shown.append(key)
            room -= _width(key)
    line = Text()
    for key in [*shown, *last]:
        line.append(f" {key.cap} ", "cap").append(key.label, "quiet").append(" ")
    return line


def _width(key: Key) -> int:
    return cell_len(key.cap) + cell_len(key.label) + 3
