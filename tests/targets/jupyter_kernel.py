"""Start a Jupyter kernel as a notebook server does, and run in it each cell that appears as a file.

`N.py` in the current folder is cell N; what came of it is `N.json`: `status`, `text` (what was printed), `error`. The
kernel's PID stands in `kernel.pid`. Between cells the kernel waits in its event loop.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from jupyter_client.manager import KernelManager
from truth import announce, write_json

PATIENCE_S = 120.0


def run(client: Any, code: str) -> dict[str, object]:
    """Execute one cell and wait for its end."""
    said: list[str] = []

    def listen(message: Any) -> None:
        if message["msg_type"] == "stream":
            said.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=PATIENCE_S, output_hook=listen)["content"]
    return {"status": reply["status"], "text": "".join(said), "error": reply.get("evalue")}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run cells in a Jupyter kernel.")
    parser.add_argument("--truth", required=True, metavar="FILE", help="written at the end")
    parser.add_argument("--ready", required=True, metavar="FILE", help="appears when the kernel waits for a cell")
    parser.add_argument("--stop", required=True, metavar="FILE", help="end well once it exists")
    args = parser.parse_args()
    manager = KernelManager()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE_S)
        here = os.path.dirname(os.path.abspath(__file__))
        pid = run(client, f"import os, sys; sys.path.insert(0, {here!r}); print(os.getpid())")["text"]
        with open("kernel.pid", "w") as file:
            file.write(str(pid).strip())
        announce(args.ready)
        cells = 0
        while not os.path.exists(args.stop):
            if os.path.exists(f"{cells}.py"):
                with open(f"{cells}.py") as file:
                    write_json(f"{cells}.json", run(client, file.read()))
                cells += 1
            time.sleep(0.01)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    write_json(args.truth, {"cells": cells})


if __name__ == "__main__":
    main()
