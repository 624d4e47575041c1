"""The environment of the frameworks: `make frameworks` makes it. torchtop itself is not in there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PYTHON = Path(__file__).parents[2] / ".venv-frameworks/bin/python"
NEEDED = ("torch", "transformers", "lightning", "accelerate", "ipykernel", "jupyter_client")


@pytest.fixture(scope="session")
def framework_python() -> str:
    """Its interpreter; skips aloud where it could not be installed."""
    if not PYTHON.exists():
        pytest.skip(f"there is no {PYTHON}: `make frameworks` makes it, or says why it cannot")
    # Looked for, not imported: that takes seconds.
    find = "import sys; from importlib.util import find_spec as f; print(*(n for n in sys.argv[1:] if f(n) is None))"
    done = subprocess.run([PYTHON, "-c", find, *NEEDED], capture_output=True, text=True, check=False)
    if done.returncode or done.stdout.strip():
        missing = done.stdout.strip() or done.stderr.strip().splitlines()[-1]
        pytest.skip(f"{PYTHON} lacks {missing}: `make frameworks` installs it, or says why it cannot")
    return str(PYTHON)
