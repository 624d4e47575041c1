"""The main thread sleeps in one C call, in `wait_for_the_cluster`, and so never comes to a safe point."""

from __future__ import annotations

import argparse
import importlib
import os
import time

from truth import announce, write_json


def wait_for_the_cluster(seconds: float) -> None:
    time.sleep(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Sleep in one call.")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--torch", action="store_true", help="import torch first, to look like a training job")
    parser.add_argument("--truth", required=True, metavar="FILE", help="written before the sleep, and again after it")
    parser.add_argument("--ready", metavar="FILE", help="appears just before the sleep")
    parser.add_argument("--stop", metavar="FILE", help="taken like everywhere, but a sleep does not look")
    args = parser.parse_args()

    if args.torch:
        importlib.import_module("torch")
    truth: dict[str, object] = {
        "pid": os.getpid(),
        "function": wait_for_the_cluster.__name__,
        "line": wait_for_the_cluster.__code__.co_firstlineno + 1,
    }
    write_json(args.truth, {**truth, "ended": False})
    announce(args.ready)
    since = time.monotonic()
    wait_for_the_cluster(args.seconds)
    write_json(args.truth, {**truth, "ended": True, "slept_s": time.monotonic() - since})


if __name__ == "__main__":
    main()
