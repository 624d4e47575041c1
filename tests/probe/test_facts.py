"""Settings of a program that torch does not tell by every name."""

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
