"""What a program sets or does in a way that torch, or nobody, tells us of."""

# mypy: allow-untyped-calls

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NEW_NAMES = """
import torch
from torchtop.probe.watch import facts
print(facts.process_facts(torch)["matmul_precision"], facts.process_facts(torch)["tf32_matmul"])
torch.backends.cuda.matmul.fp32_precision = "tf32"
print(facts.process_facts(torch)["matmul_precision"], facts.process_facts(torch)["tf32_matmul"])
"""


def test_tf32_that_was_set_by_its_new_name() -> None:
    """Torch then refuses to be asked by the old one."""
    done = subprocess.run(
        [sys.executable, "-c", NEW_NAMES], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )
    assert done.stdout.split() == ["highest", "False", "None", "True"]


QUICKER = """
import torch
from torchtop.probe.watch.budget import Budget
from torchtop.probe.watch.watch import Watch
original = torch.nn.Module.zero_grad
watch = Watch(torch, Budget())
assert watch.attach() and torch.nn.Module.zero_grad is not original
torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
watch.tick()
print(torch.nn.Module.zero_grad is original, watch.errors, watch.detach())
"""


def test_a_compilation_that_was_quicker_than_the_agent() -> None:
    """Dynamo is imported and compiles between two ticks: nobody has told us that it begins."""
    done = subprocess.run(
        [sys.executable, "-c", QUICKER], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )
    assert done.stdout.split() == ["True", "0", "True"]
