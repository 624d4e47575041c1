"""What other tools that run without a GPU say of some of the jobs of plants/.

traceml-ai and gpuprof see no job that runs already: it is started anew under them, with the lines added that their documents
ask for (`trace_step(model)` around a step; `gpuprof.profile` around the loop), in an environment of their own (`make peers`).
Only jobs with a loop of their own are compared: neither knows the trainer of plants/. What they said is printed, not judged.

Exit codes: 0, or 2 where that environment is not there.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from planted_jobs import HEALTHY, PLANTED, PLANTS, Plant
from ratios import table

PEERS = Path(__file__).parents[1] / ".venv-bench/bin"
COMPARED = (
    *(
        "input-bound/getitem",
        "host-stall/metrics",
        "checkpoint-stall/inline",
        "gc-pauses/collect",
        "step-jitter/lengths",
    ),
    *("small-batch/rows", "unfused-optimizer/deep", "memory-growth/losses", "hot-layer/loop", "prunable-layers/mlp"),
    *("healthy/mlp", "healthy/gpt", "healthy/tiny", "healthy/validation"),
)
RUN_S = 25
ENDS_S = 120  # s that a tool may need beyond the run


class Wrapped(ast.NodeTransformer):
    """Puts `with CONTEXT:` around the body of the innermost loop that says `job.step`, or around the outermost one."""

    def __init__(self, context: str, innermost: bool) -> None:
        self.context, self.innermost = context, innermost

    def _with(self, body: list[ast.stmt]) -> ast.stmt:
        made = ast.parse(f"with {self.context}:\n    pass").body[0]
        assert isinstance(made, ast.With)
        made.body = body
        return made

    def visit_loop(self, node: ast.For | ast.While) -> ast.AST:
        if not _steps(node):
            return node
        if not self.innermost:
            return self._with([node])
        if any(
            isinstance(inner, (ast.For, ast.While)) and _steps(inner) for inner in ast.walk(node) if inner is not node
        ):
            return self.generic_visit(node)
        node.body = [self._with(node.body)]
        return node

    visit_For = visit_While = visit_loop


def _steps(node: ast.AST) -> bool:
    """Whether `job.step(...)` is somewhere in it."""
    return any(
        isinstance(part, ast.Attribute) and part.attr == "step" and ast.unparse(part.value) == "job"
        for part in ast.walk(node)
    )


def instrumented(script: Path, context: str, innermost: bool, prelude: str) -> str:
    """The script with what a tool asks for."""
    tree = Wrapped(context, innermost).visit(ast.parse(script.read_text()))
    at = next(place for place, node in enumerate(tree.body) if ast.unparse(node).startswith("from __future__")) + 1
    tree.body[at:at] = ast.parse(prelude).body
    return ast.unparse(ast.fix_missing_locations(tree))


def traceml(script: Path, arguments: list[str], folder: Path) -> str:
    """The verdict of its summary."""
    code = instrumented(
        script, "traceml.trace_step(model)", True, "import traceml_ai as traceml\ntraceml.init(mode='auto')"
    )
    (folder / script.name).write_text(code)
    words = ["traceml", "run", script.name, "--run-name", "run", "--logs-dir", "logs", "--args", *arguments]
    said = output(words, folder)
    lines = re.findall(r"(?:Verdict|Why):[^|\n]*", said)
    return " ".join(" ".join(line.split()) for line in lines) or f"no verdict: {said[-200:]}"


def gpuprof(script: Path, arguments: list[str], folder: Path) -> str:
    """The insights that it prints."""
    (folder / script.name).write_text(instrumented(script, "gpuprof.profile('run')", False, "import gpuprof"))
    said = output(["python", script.name, *arguments], folder)
    lines = re.findall(r"\[(?:HIGH|MEDIUM|LOW|INFO)\][^\n]*", said, re.IGNORECASE)
    return "; ".join(" ".join(line.split()) for line in lines) or f"nothing: {said[-200:]}"


TOOLS: dict[str, Callable[[Path, list[str], Path], str]] = {"traceml-ai": traceml, "gpuprof": gpuprof}


def output(words: list[str], folder: Path) -> str:
    """stdout and stderr of one of the environment's programs."""
    environment = {
        "PATH": f"{PEERS}:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(PLANTS),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    done = subprocess.run(
        [str(PEERS / words[0]), *words[1:]],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_S + ENDS_S,
        check=False,
    )
    return done.stdout


def said_by(tool: str, plant: Plant, seconds: float) -> str:
    """What a tool says of a job."""
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        script, *shape = plant.command[1:]
        try:
            return TOOLS[tool](Path(script), [*shape, "--log", name, "--seconds", str(seconds)], folder)
        except subprocess.TimeoutExpired:
            return f"did not end within {RUN_S + ENDS_S} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=COMPARED, metavar="CODE/STYLE")
    parser.add_argument("--tool", choices=TOOLS, help="only this one")
    parser.add_argument("--seconds", type=float, default=RUN_S)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if not (PEERS / "traceml").exists():
        print(f"no {PEERS}: make peers")
        return 2
    tools = [args.tool] if args.tool else list(TOOLS)
    rows = []
    for plant in (*PLANTED, *HEALTHY):
        if plant.name in args.only:
            rows.append([plant.name, *(said_by(tool, plant, args.seconds) for tool in tools)])
            print(" | ".join(rows[-1]), file=sys.stderr)
    print(table(["job", *tools], rows))
    if args.json:
        args.json.write_text(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
