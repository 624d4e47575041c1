"""Arguments and exit codes. Everything else is imported inside the command that needs it: `--help` has to be quick."""

from __future__ import annotations

import re
import sys
from enum import Enum
from typing import Annotated

import typer

from torchtop import __version__
from torchtop.errors import TorchtopError, UsageError

app = typer.Typer(
    name="torchtop",
    help="Watch a running PyTorch job: steps, phases, layers, devices. The job is not restarted and not changed.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h)?$")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}

Target = Annotated[str, typer.Argument(help="PID, PID:RANK, or a unique part of the command line.")]

ReadOnly = Annotated[bool, typer.Option("--read-only", help="Without the keys that change anything in the job.")]


class Format(str, Enum):
    """Shapes of the headless output."""

    json = "json"
    jsonl = "jsonl"


class FailOn(str, Enum):
    """Severities that a script may ask for."""

    warn = "warn"
    critical = "critical"


def seconds(text: str, option: str) -> float:
    """Read a duration: `10`, `10s`, `2m`. Raises `UsageError`."""
    match = _DURATION.match(text.strip())
    if match is None or float(match.group(1)) == 0:
        raise UsageError(f"{option} {text!r} is not a duration: write 10s, 500ms or 2m")
    return float(match.group(1)) * _SECONDS[match.group(2)]


def share(text: str, option: str) -> float:
    """Read a share of step time: `1%` or `0.01`. Raises `UsageError`."""
    try:
        value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise UsageError(f"{option} {text!r} is not a share of step time: write 1% or 0.01")
    return value


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    read_only: ReadOnly = False,
) -> None:
    """Without a command: choose a job of this machine, and watch it."""
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        from torchtop.live import live_options, pick

        raise typer.Exit(pick(live_options(None, False), read_only))


@app.command()
def attach(
    target: Target,
    rank: Annotated[int | None, typer.Option(min=0, help="Only this rank.")] = None,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Put nothing into the job: devices, host, processes and stacks only.")
    ] = False,
    read_only: ReadOnly = False,
    budget: Annotated[str | None, typer.Option(help="Share of step time the probe may cost (1%).")] = None,
) -> None:
    """Watch TARGET live, on a screen."""
    from torchtop.live import attach as run
    from torchtop.live import live_options

    options = live_options(share(budget, "--budget") if budget else None, no_probe)
    raise typer.Exit(run(target, rank, options, read_only))


@app.command()
def export(
    target: Target,
    for_: Annotated[
        str | None, typer.Option("--for", help="How long to watch; json: 10s, jsonl: until it ends.")
    ] = None,
    every: Annotated[str, typer.Option("--every", help="Time between two lines of jsonl.")] = "1s",
    format_: Annotated[Format, typer.Option("--format", help="One document, or one snapshot a line.")] = Format.json,
    output: Annotated[str | None, typer.Option("-o", "--output", help="Write to this file, not to stdout.")] = None,
    budget: Annotated[str | None, typer.Option(help="Share of step time the probe may cost (1%).")] = None,
    sample_every: Annotated[
        int | None, typer.Option(min=1, help="Look into one step in N, instead of as often as the budget allows.")
    ] = None,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Put nothing into the job: devices, host, processes and stacks only.")
    ] = False,
) -> None:
    """Attach, watch, and print what was seen as JSON; then detach and leave nothing behind."""
    from torchtop.export import export as run
    from torchtop.session import Options

    lines = format_ is Format.jsonl
    duration = seconds(for_, "--for") if for_ is not None else None if lines else 10.0
    options = Options(
        duration_s=duration,
        every_s=seconds(every, "--every") if lines else None,
        sample_every=sample_every,
        budget=share(budget, "--budget") if budget is not None else None,
        no_probe=no_probe,
    )
    raise typer.Exit(run(target, options, lines, output))


@app.command()
def advise(
    target: Target,
    for_: Annotated[str, typer.Option("--for", help="How long to watch.")] = "20s",
    json_: Annotated[bool, typer.Option("--json", help="Print one snapshot as JSON.")] = False,
    fail_on: Annotated[
        FailOn | None, typer.Option("--fail-on", help="Exit with 1 when something as bad as that is found.")
    ] = None,
) -> None:
    """Attach, watch, and say what holds the job back; then detach and leave nothing behind."""
    from torchtop.advise import advise as run

    raise typer.Exit(run(target, seconds(for_, "--for"), json_, fail_on.value if fail_on is not None else None))


@app.command()
def rule(code: Annotated[str | None, typer.Argument(help="A rule; without it all are listed.")] = None) -> None:
    """Say what a rule of the advisor looks for, why it matters, and when it is wrong."""
    from torchtop.rulebook import rule as run

    raise typer.Exit(run(code))


@app.command()
def ps(json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """List the PyTorch jobs of this machine, and whether they may be attached to."""
    from torchtop.ps import ps as run

    raise typer.Exit(run(json_))


@app.command()
def doctor(
    pid: Annotated[str | None, typer.Argument(help="A process to look at; without it, only this machine.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Also measure how fast one core is (2 s), and keep the result.")
    ] = False,
) -> None:
    """Say what stands against attaching, and the command line that helps."""
    from torchtop.doctor import doctor as run

    raise typer.Exit(run(pid, json_, calibrate))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the snapshot."""
    import msgspec

    from torchtop.snapshot import Snapshot

    document = msgspec.json.schema(Snapshot)
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
)
def run(command: Annotated[list[str], typer.Argument(help="The command to start, with its arguments.")]) -> None:
    """Start a job with the probe listening, so that attaching needs no ptrace (torchrun children too)."""
    from torchtop.attach.launch import launch

    launch(command)


@app.command()
def demo(
    name: Annotated[str | None, typer.Argument(help="Which demo; see --list.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the demos and exit.")] = False,
    headless: Annotated[bool, typer.Option("--headless", help="Print the snapshot as JSON.")] = False,
    for_: Annotated[
        str | None, typer.Option("--for", help="Watch that long and print one page; without a terminal: 10s.")
    ] = None,
) -> None:
    """Start a small real training job, attach to it like to any other, and show what it does."""
    from torchtop.demo.show import show

    raise typer.Exit(show(name, list_, headless, seconds(for_, "--for") if for_ else None))


def main() -> None:
    """Entry point: errors are printed once, here, on one line of stderr."""
    try:
        app()
    except TorchtopError as error:
        print(f"torchtop: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
