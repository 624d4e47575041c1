"""GPUs, or the CPU where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.text import Text

from torchtop.snapshot import Device, Rank, Snapshot
from torchtop.tui.arrange import columns
from torchtop.tui.panels.base import Panel
from torchtop.tui.text.glyphs import bar, curve, head
from torchtop.tui.text.grid import flow, named
from torchtop.tui.text.plain import printable, wrapped
from torchtop.tui.text.reasons import within
from torchtop.tui.text.units import MISSING, amount, digits, percent, size
from torchtop.tui.view import View

_TALL = 30  # rows of the screen from which reasons are told in full
_LOW = 4  # lines on a lower one; more where there are more GPUs
_WIDE, _WIDER = 44, 70  # columns from which a GPU's line has power and units; its history and power limit
_FEW = 4  # GPUs that get a line more, for the history
_GIB = 2.0**30
# The clocks are where somebody set them, not held down by what happens (nvmlClocksEventReasons).
_CHOSEN = {"applications-clocks", "sync-boost", "display-clocks"}


class DevicesPanel(Panel):
    """GPUs, or the CPU where there is none."""

    KEY: ClassVar[str] = "1"
    TITLE: ClassVar[str] = "devices"
    LEAST: ClassVar[int] = 4

    def heading(self, view: View) -> str:
        names = sorted({device.name or MISSING for device in view.snapshot.devices})
        return printable(f"{len(view.snapshot.devices)} x {names[0]}" if len(names) == 1 else ", ".join(names))

    def wants(self, view: View) -> int:
        height = view.height if view.height >= _TALL else max(_LOW, len(view.snapshot.devices))
        return 1 + len(self.draw(view._replace(width=columns(view.width)[1], height=height)))

    def draw(self, view: View) -> Sequence[Text]:
        if not view.snapshot.devices:
            lines = [*_cpu(view), *(_host_details(view) if view.zoomed else [])][: max(view.height - 1, 0)]
            return [*lines, *_no_gpu(view, view.height - len(lines))]
        lines = _gpus_closely(view) if view.zoomed else _gpus(view)
        rest = [*_throttled(view), *_cpu(view)] if not view.zoomed else [Text(), *_cpu(view), *_host_details(view)]
        return [*lines, *rest][: view.height]


def _cpu(view: View) -> list[Text]:
    """What the machine's and the job's CPUs do, and the memory of its processes."""
    snapshot, history = view.snapshot, view.snapshot.history
    host, ranks = snapshot.host, _current(snapshot)
    used = _sum(value for rank in ranks for value in (rank.cpu_share, rank.workers_cpu_share))
    job = f"{MISSING if used is None else digits(used)} cores"
    cpus = float(host.cpus) if host.cpus else None
    return [
        _with_curve(
            "CPU", f"{percent(host.cpu_util)} of {_or(host.cpus)}", history.cpu_util if history else (), 1.0, view
        ),
        _with_curve("job", job, history.cores if history else (), cpus, view),
        *flow(_memory(snapshot, ranks, view.width), view.width),
    ]


def _memory(snapshot: Snapshot, ranks: Sequence[Rank], width: int) -> list[Text]:
    rss, host = _sum(rank.rss_bytes for rank in ranks), snapshot.host
    limits = [rank.cgroup_memory_limit_bytes for rank in ranks if rank.cgroup_memory_limit_bytes is not None]
    limit = "no cgroup limit"
    if limits:
        limit = f"of {size(min(limits))}" + (" cgroup limit" if width >= _WIDE else "")
    first = Text.assemble(("RSS   ", "quiet"), (f"{size(rss):<8}", "number"), (f" {limit}", "quiet"))
    load = MISSING if host.load1 is None else digits(host.load1)
    return [first, named("load", load), named("free", size(host.memory_available_bytes))]


def _with_curve(name: str, value: str, points: Sequence[float | None], top: float | None, view: View) -> Text:
    """A label, a number, and its history in what is left of the line. The number's place does not depend on it."""
    line = Text.assemble((f"{name:<6}", "quiet"), (f"{value:<15}", "number"))
    room = view.width - line.cell_len - 1
    if room > 0 and points:
        line.append(" ").append(curve(points, room, 1, top)[0], "bar")
    return line


def _host_details(view: View) -> list[Text]:
    host = view.snapshot.host
    parts = [
        named("CPU", host.cpu_model or MISSING),
        named("memory", f"{size(host.memory_available_bytes)} free of {size(host.memory_bytes)}"),
        named("swap", f"{size(host.swap_used_bytes)} used"),
        named("waiting for CPU", percent(host.cpu_pressure)),
        named("for memory", percent(host.memory_pressure)),
        named("for disks", percent(host.io_pressure)),
        named("disks read", f"{size(host.disk_read_bytes_per_s)}/s"),
        named("write", f"{size(host.disk_write_bytes_per_s)}/s"),
        named("network in", f"{size(host.net_receive_bytes_per_s)}/s"),
        named("out", f"{size(host.net_send_bytes_per_s)}/s"),
    ]
    machine = host.machine
    if machine is not None:
        peak = machine.float32_flops_per_s
        parts.append(named("float32 at best", f"{amount(peak)} FLOP/s" if peak is not None else MISSING))
    return flow(parts, view.width)


def _no_gpu(view: View, room: int) -> list[Text]:
    """Why there is no GPU to show, in at most `room` lines."""
    row = next((row for row in view.snapshot.health.collectors if row.name == "gpu"), None)
    reason = row.reason if row is not None and row.reason else "not looked for yet"
    lines = [Text(line, "quiet") for line in wrapped("no GPU: ", reason, view.width)]
    return within(lines, room, view.width)


def _gpus(view: View) -> list[Text]:
    """A line for each GPU; two where they are few and there is room for that."""
    devices = view.snapshot.devices
    shown = devices if len(devices) <= view.height else devices[: max(view.height - 1, 0)]
    two = len(devices) <= _FEW and 2 * len(devices) <= view.height and view.width < _WIDER
    lines: list[Text] = []
    for device in shown:
        lines.append(_gpu(device, view))
        if two:
            lines.append(Text("  " + curve(_utils(device, view.snapshot), view.width - 2, 1, 1.0)[0], "bar"))
    if len(shown) < len(devices):
        lines.append(Text(head(f"{len(devices) - len(shown)} more GPUs (zoom: 1, 1)", view.width), "quiet"))
    return lines


def _gpu(device: Device, view: View) -> Text:
    flag = "!" if _held_down(device) else " "
    number = f"{_index(device)}{flag}"
    temperature = MISSING if device.temperature_c is None else f"{device.temperature_c:.0f}"
    if view.width < _WIDE:
        numbers = f"{percent(device.util):>7} {_of(device):>9}G {temperature:>3}°"
    else:
        power = MISSING if device.power_w is None else f"{digits(device.power_w)}"
        if view.width >= _WIDER and device.power_limit_w is not None:
            power += f"/{digits(device.power_limit_w)}"
        places = 9 if view.width >= _WIDER else 4
        numbers = f"{percent(device.util):>7} {_of(device):>9} GiB {power:>{places}} W {temperature:>3} °C"
    room = max(view.width - len(number) - len(numbers), 0)
    history = _utils(device, view.snapshot)
    block = curve(history, room, 1, 1.0)[0] if view.width >= _WIDER and history else bar(device.util, room)
    return Text.assemble((number, "warn" if flag == "!" else "strong"), (block, "bar"), (numbers, "number"))


def _of(device: Device) -> str:
    """Memory in use and there is, in GiB."""
    used, total = device.memory_used_bytes, device.memory_total_bytes
    return "/".join(MISSING if count is None else digits(count / _GIB) for count in (used, total))


def _throttled(view: View) -> list[Text]:
    lines = []
    for device in view.snapshot.devices:
        if _held_down(device):
            text = wrapped(f"! GPU {_index(device)} ", ", ".join(device.throttle_reasons or ()), view.width)
            lines += [Text(line, "warn") for line in text]
    return lines


def _gpus_closely(view: View) -> list[Text]:
    """All that is known of each GPU; without the curves where there is no room for them."""
    blocks = [[_gpu(device, view), *_details(device, view)] for device in view.snapshot.devices]
    lines: list[Text] = []
    for index, block in enumerate(blocks):
        if len(lines) + len(block) + (index < len(blocks) - 1) > view.height:
            lines.append(Text(f"{len(blocks) - index} more GPUs: no room", "quiet"))
            break
        lines += block
    return lines


def _details(device: Device, view: View) -> list[Text]:
    limit, clock, best = device.power_limit_w, device.sm_clock_mhz, device.sm_clock_max_mhz
    parts = [
        named("memory busy", percent(device.memory_util)),
        named("SM", f"{_or(clock)} of {_or(best)} MHz"),
        named("memory", f"{_or(device.memory_clock_mhz)} MHz"),
        named("limit", MISSING if limit is None else f"{digits(limit)} W"),
        named("spent", MISSING if device.energy_j is None else f"{digits(device.energy_j / 1000)} kJ"),
    ]
    if len({other.name for other in view.snapshot.devices}) > 1:
        parts.insert(0, Text(head(device.name or MISSING, 24).rstrip(), "quiet"))
    if device.throttle_reasons:
        held = ", ".join(device.throttle_reasons)
        parts.append(Text(f"! held down by {held}" if _held_down(device) else f"clocks by {held}", "warn"))
    if device.processes is not None:
        held_by = ", ".join(f"{process.pid} {size(process.memory_bytes)}" for process in device.processes) or "none"
        parts.append(named("processes", held_by))
    lines = [Text.assemble("  ", line) for line in flow(parts, view.width - 2)]
    for field, reason in device.missing.items():
        lines += [Text(line, "quiet") for line in wrapped(f"  {field} {MISSING} ", reason, view.width)]
    return lines


def _held_down(device: Device) -> bool:
    return bool(set(device.throttle_reasons or ()) - _CHOSEN)


def _utils(device: Device, snapshot: Snapshot) -> Sequence[float | None]:
    known = snapshot.history.devices if snapshot.history is not None else ()
    wanted = (device.index, device.mig_index)
    return next((one.util for one in known if (one.index, one.mig_index) == wanted), ())


def _index(device: Device) -> str:
    return f"{device.index}" + (f".{device.mig_index}" if device.mig_index is not None else "")


def _current(snapshot: Snapshot) -> list[Rank]:
    return [rank for rank in snapshot.job.ranks if rank.stage not in ("ended", "replaced")]


def _or(value: int | None) -> str:
    return MISSING if value is None else str(value)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
