"""A snapshot as one printed page: what the job does, where its steps go, and what watching it cost.

Nothing here asks or measures. What is missing is a dash with the reason in a footnote, never a zero.
"""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from torchtop.snapshot import Device, Health, Layer, Memory, Phases, Rank, Snapshot, Steps
from torchtop.tui.text.findings import MARKS, gain, place
from torchtop.tui.text.glyphs import bar, head, tail
from torchtop.tui.text.plain import command_line, wrapped
from torchtop.tui.text.units import MISSING, amount, digits, duration, percent, size

NARROWEST, WIDEST = 78, 120  # columns: the tables need the first, eyes lose the line beyond the second
LAYERS = 12  # rows

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_INDENT = 9  # columns that the section's name takes
_MEMORY = 27  # columns of the memory table
_GAP = 4  # columns between the phases and the memory table
_PHASES = ("data", "transfer", "forward", "backward", "optimizer", "communication", "other")
_NEAREST = ("function", "file", "line", "layer")  # of where a finding is: the process stands in the header
_NUMBER = 8  # columns: "-999 ms" and one to spare


class Notes:
    """Footnotes: one mark for each reason, however often it is given."""

    def __init__(self) -> None:
        self._reasons: list[str] = []

    def mark(self, reason: str | None) -> str:
        """The dash for a missing value, marked if there is a reason to tell."""
        if not reason:
            return MISSING
        if reason not in self._reasons:
            self._reasons.append(reason)
        return f"{MISSING} {self._superscript(self._reasons.index(reason))}"

    def lines(self, width: int) -> list[Text]:
        """The reasons, each after its mark."""
        found = []
        for index, reason in enumerate(self._reasons):
            mark = self._superscript(index)
            found += [Text(line, "dim") for line in wrapped(f"{mark} ", reason, width)]
        return found

    @staticmethod
    def _superscript(index: int) -> str:
        return str(index + 1).translate(_SUPERSCRIPTS)


def summary(snapshot: Snapshot, width: int) -> Text:
    """The last snapshot of a watch as text of at most `width` columns."""
    notes = Notes()
    blocks = (
        _header(snapshot, width),
        _ranks(snapshot, notes),
        _steps(snapshot.steps, width),
        _advice(snapshot, width),
        _phases_and_memory(snapshot, notes, width),
        _layers(snapshot, width),
        _machine(snapshot, width),
        _cost(snapshot, width),
        notes.lines(width),
    )
    return Text("\n\n").join(Text("\n").join(block) for block in blocks if block)


class Summary:
    """`summary` in the columns that the console has."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = summary(self._snapshot, min(max(options.max_width, NARROWEST), WIDEST))
        text.no_wrap, text.overflow = True, "crop"
        yield text


def render(snapshot: Snapshot) -> RenderableType:
    """The last snapshot of a watch, for a console to print."""
    return Summary(snapshot)


def _title(name: str, rest: str) -> Text:
    return Text.assemble((name.ljust(_INDENT), "bold"), rest)


def _section(name: str, text: str, width: int) -> list[Text]:
    """Text beside its section's name, folded."""
    lines = wrapped(" " * _INDENT, text, width)
    return [_title(name, lines[0][_INDENT:]), *(Text(line) for line in lines[1:])]


def _header(snapshot: Snapshot, width: int) -> list[Text]:
    job = snapshot.job
    right = f"{job.mode or 'not attached'}, watched for {duration(snapshot.window_s)}"
    known = [rank for rank in job.ranks if rank.python or rank.torch]
    versions = sorted({f"python {rank.python or MISSING}   torch {rank.torch or MISSING}" for rank in known})
    world = "1 rank" if job.world_size == 1 else f"{len(job.ranks)} of {job.world_size or MISSING} ranks"
    second = "   ".join([*(versions or [f"python {MISSING}   torch {MISSING}"]), world])
    left = head(command_line(job.command), width - cell_len(right) - 2)
    return [Text.assemble((left, "bold"), "  ", right), Text(second)]


def _ranks(snapshot: Snapshot, notes: Notes) -> list[Text]:
    medians = {rank.pid: rank.median_s for rank in snapshot.steps.by_rank}
    lines = [
        _title("RANK", f"{'pid':<9}{'state':<12}{'on':<6}{'by':<14}{'hello':>8}{'paused':>10}{'step':>10}"),
    ]
    for rank in snapshot.job.ranks:
        lines.append(_rank(rank, medians.get(rank.pid), notes))
    if snapshot.job.ranks_left_out:
        lines.append(Text(f"{snapshot.job.ranks_left_out} more ranks are not shown"))
    return lines


def _rank(rank: Rank, median_s: float | None, notes: Notes) -> Text:
    # The dash that notes.mark puts before its number is for values; a state has a word of its own.
    state = rank.state + (notes.mark(rank.reason).removeprefix(MISSING) if rank.reason else "")
    attach = rank.attach
    method = attach.method if attach is not None else MISSING
    hello, pause = (attach.hello_s, attach.pause_s) if attach is not None else (None, None)
    return Text(
        f"{MISSING if rank.rank is None else rank.rank:<{_INDENT}}{rank.pid:<9}{state:<12}"
        f"{head(rank.device or MISSING, 5)} {head(method, 13)} {duration(hello):>8}{duration(pause):>10}"
        f"{duration(median_s):>10}"
    )


def _steps(steps: Steps, width: int) -> list[Text]:
    count = MISSING if steps.count is None else steps.count
    times = f"median {duration(steps.median_s)}   mean {duration(steps.mean_s)}   p95 {duration(steps.p95_s)}"
    loss = MISSING if steps.loss is None else digits(steps.loss)
    if steps.loss_finite is False:
        loss = "not finite"
    batch = amount(steps.batch_size)
    if steps.micro_steps is not None and steps.micro_steps > 1:
        batch += f" ({digits(steps.micro_steps)} micro-steps of {amount(steps.micro_batch_size)})"
    rates = [f"{amount(steps.samples_per_s)} samples/s"]
    if steps.tokens_per_s is not None:
        rates.append(f"{amount(steps.tokens_per_s)} tokens/s")
    lines = _section("STEP", f"{times}   {count} steps", width)
    lines += _section("", "   ".join([*rates, f"batch {batch}", f"loss {loss}"]), width)
    if steps.excluded:
        why = ", ".join(f"{number} {reason}" for reason, number in steps.excluded.items())
        lines += _section("", f"kept out of median and mean: {why}", width)
    return lines


def _advice(snapshot: Snapshot, width: int) -> list[Text]:
    """What holds the job back, worst first; the numbers are for `torchtop advise`."""
    lines: list[Text] = []
    for finding in snapshot.findings:
        name = f"{MARKS[finding.severity]} {finding.code}"
        lines += _section("" if lines else "ADVICE", f"{name}   {gain(finding)}", width)
        nearest = {name: finding.where.get(name) for name in _NEAREST}
        told = "; ".join([finding.summary, *place(nearest)])
        lines += [Text(line) for line in wrapped(" " * (_INDENT + 3), told, width)]
    abstained = len(snapshot.abstained)
    if not snapshot.findings:
        return _section(
            "ADVICE", "nothing found" + (f"; {abstained} rules could not judge" if abstained else ""), width
        )
    return lines + (_section("", f"{abstained} more rules could not judge", width) if abstained else [])


def _phases_and_memory(snapshot: Snapshot, notes: Notes, width: int) -> list[Text]:
    """Two tables side by side."""
    steps = snapshot.steps
    left = _phases(steps, notes, width - _MEMORY - _GAP)
    right = _memory(snapshot.memory, notes)
    left += [" " * (width - _MEMORY - _GAP)] * (len(right) - len(left))
    right += [""] * (len(left) - len(right))
    rank = _slowest(snapshot)
    of = f" of rank {rank}" if rank is not None else ""
    sampled = f"{duration(steps.sampled_mean_s)}, {steps.sampled} sampled steps{of}"
    title = _title("PHASES", head(sampled, width - _MEMORY - _GAP - _INDENT) + " " * _GAP)
    title.append_text(Text("MEMORY", "bold"))
    return [title, *(Text((one + " " * _GAP + other).rstrip()) for one, other in zip(left, right, strict=True))]


def _phases(steps: Steps, notes: Notes, width: int) -> list[str]:
    """One line for each phase: its share of the step as a bar and a number, and its time."""
    lines = []
    for name in _PHASES:
        seconds = _phase(steps.phases_s, name)
        share = seconds / steps.sampled_mean_s if seconds is not None and steps.sampled_mean_s else None
        if seconds is None:
            lines.append(f"{name:<14}{notes.mark(_why(steps, name))}".ljust(width))
            continue
        block = bar(share, width - 14 - 1 - 2 * _NUMBER - 1)
        lines.append(f"{name:<14}{block} {percent(share):>{_NUMBER}} {duration(seconds):>{_NUMBER}}")
    return lines


def _phase(phases: Phases | None, name: str) -> float | None:
    value: float | None = getattr(phases, name) if phases is not None else None
    return value


def _why(steps: Steps, phase: str) -> str | None:
    reason = steps.phase_reasons.get(phase)
    return reason or ("no step was sampled" if not steps.sampled else None)


def _memory(memory: Memory, notes: Notes) -> list[str]:
    rows = [("parameters", memory.parameters_bytes, "parameters_bytes")]
    rows += [("gradients", memory.gradients_bytes, "gradients_bytes")]
    rows += [("optimizer", memory.optimizer_bytes, "optimizer_bytes")]
    rows += [("activations", memory.activations_bytes, "activations_bytes")]
    rows += [("other", memory.other_bytes, "other_bytes")]
    rows += [("in use", memory.used_bytes, "used_bytes")]
    if memory.reserved_bytes is not None:
        rows += [("reserved", memory.reserved_bytes, "reserved_bytes")]
    rows += [("peak", memory.peak_bytes, "peak_bytes")]
    rows += [("limit", memory.limit_bytes, "limit_bytes")]
    lines = []
    for name, count, field in rows:
        number = notes.mark(memory.reasons.get(field)) if count is None else size(count)
        lines.append(f"{name:<12}{number:>{_MEMORY - 12}}")
    return lines


def _slowest(snapshot: Snapshot) -> int | None:
    """The rank that `steps` and `memory` are of; None where there is only one."""
    ranks = snapshot.steps.by_rank
    return next((rank.rank for rank in ranks if rank.pid == snapshot.steps.pid), None) if len(ranks) > 1 else None


def _layers(snapshot: Snapshot, width: int) -> list[Text]:
    """The layers that take most of a step, of the slowest rank."""
    rank = _slowest(snapshot)
    layers = [layer for layer in snapshot.layers if rank is None or layer.rank == rank]
    timed = [layer for layer in layers if layer.share is not None]
    if not timed:
        return [_title("LAYERS", "none was timed: no sampled step ran a module")]
    shown = sorted(timed, key=lambda layer: -(layer.share or 0.0))[:LAYERS]
    largest = shown[0].share or 1.0
    spare = width - NARROWEST
    name_width, type_width, bar_width = 19 + spare // 2, 12 + spare // 4, 7 + spare - spare // 2 - spare // 4
    of = f" of rank {rank}" if rank is not None else ""
    total = len(layers) + (snapshot.layers_left_out if rank is None else 0)
    heading = (
        f"{'name':<{name_width}} {'type':<{type_width}} {'calls':>5} {'forward':>7} {'backward':>8} "
        f"{'share':>{bar_width + _NUMBER}} {'params':>6}"
    )
    return [
        _title("LAYERS", f"top {len(shown)} of the {total}{of}, times without their children"),
        Text(heading, "dim"),
        *(Text(_layer(layer, largest, name_width, type_width, bar_width)) for layer in shown),
    ]


def _layer(layer: Layer, largest: float, name_width: int, type_width: int, bar_width: int) -> str:
    block = bar((layer.share or 0.0) / largest, bar_width)
    return (
        f"{tail(layer.name or '(root)', name_width)} {head(layer.type, type_width)} {amount(layer.calls):>5} "
        f"{duration(layer.self_forward_s):>7} {duration(layer.self_backward_s):>8} "
        f"{block}{percent(layer.share):>{_NUMBER}} {amount(layer.parameters):>6}"
    )


def _machine(snapshot: Snapshot, width: int) -> list[Text]:
    host = snapshot.host
    cpus = MISSING if host.cpus is None else host.cpus
    text = (
        f"{cpus} CPUs, {percent(host.cpu_util)} busy   "
        f"memory {size(host.memory_available_bytes)} free of {size(host.memory_bytes)}"
    )
    lines = _section("HOST", text, width)
    for device in snapshot.devices:
        lines += _section(_device_name(device), _device(device), width)
    return lines if snapshot.devices else lines + _section("GPU", _no_device(snapshot.health), width)


def _device_name(device: Device) -> str:
    return f"GPU {device.index}" + (f".{device.mig_index}" if device.mig_index is not None else "")


def _device(device: Device) -> str:
    power = MISSING if device.power_w is None else f"{digits(device.power_w)} W"
    if device.power_limit_w is not None:
        power += f" of {digits(device.power_limit_w)} W"
    clock = MISSING if device.sm_clock_mhz is None else f"{device.sm_clock_mhz} MHz"
    parts = [
        device.name or MISSING,
        f"{percent(device.util)} busy",
        f"memory {size(device.memory_used_bytes)} of {size(device.memory_total_bytes)}",
        power,
        MISSING if device.temperature_c is None else f"{digits(device.temperature_c)} °C",
        f"SM {clock}",
    ]
    if device.throttle_reasons:
        parts.append(f"held down by {', '.join(device.throttle_reasons)}")
    return "   ".join(parts)


def _no_device(health: Health) -> str:
    """Why there is no GPU to show."""
    row = next((row for row in health.collectors if row.name == "gpu"), None)
    return f"{MISSING} {row.reason}" if row is not None and row.reason else MISSING


def _cost(snapshot: Snapshot, width: int) -> list[Text]:
    """What watching took from the job and the machine, and what it left in the job."""
    probe, monitor = snapshot.health.probe, snapshot.health.monitor
    watcher = f"torchtop {percent(monitor.cpu_share)} of a core, {size(monitor.rss_bytes)} of memory"
    if probe is None:
        return [*_section("COST", watcher, width), *_section("", "no probe was in the job", width)]
    every = MISSING if probe.every is None else probe.every
    text = f"probe {percent(probe.cost_share)} of step time, {probe.sampled_steps} steps sampled, now 1 in {every}"
    lines = _section("COST", text, width) + _section("", watcher, width)
    if probe.dropped or probe.errors:
        lines += _section("", f"{probe.dropped} messages dropped, {probe.errors} errors in the probe", width)
    for what in probe.left_behind:
        lines += _section("", f"left behind: {what}", width)
    if not probe.left_behind:
        lost = [rank for rank in snapshot.job.ranks if rank.state == "lost"]
        ended = f"not detached: {lost[0].reason or 'the probe is gone'}" if lost else "detached: nothing left behind"
        lines += _section("", ended, width)
    return lines
