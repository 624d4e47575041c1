"""Start several ranks of one job, as a launcher does: RANK and so on in the environment, one folder each.

python ranks.py --ranks 4 --stop stop --ready ready [--again]: with --again a rank that dies is started anew, as
torchelastic does. The ranks train by themselves: nothing is communicated, so one may die without the others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from truth import announce

POLL_S = 0.05


def started(rank: int, world: int, attempt: int, stop: str) -> subprocess.Popen[bytes]:
    folder = f"rank-{rank}-{attempt}"
    os.mkdir(folder)
    files = ["--truth", f"{folder}/truth.json", "--ready", f"{folder}/ready", "--stop", stop]
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train.py")
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": 29477}
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", **{key: str(value) for key, value in numbers.items()}}
    return subprocess.Popen(
        [sys.executable, script, "--model", "mlp", "--small", "--steps", "1000000", *files], env=environment
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A launcher and its ranks.")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="start a rank anew when it has died")
    parser.add_argument("--truth", help="not used: each rank has its own")
    parser.add_argument("--ready")
    parser.add_argument("--stop", required=True)
    args = parser.parse_args()
    stop = os.path.abspath(args.stop)
    attempts = [0] * args.ranks
    running = [started(rank, args.ranks, 0, stop) for rank in range(args.ranks)]
    ready = False
    while any(process.poll() is None for process in running):
        time.sleep(POLL_S)
        if not ready and all(os.path.exists(f"rank-{rank}-0/ready") for rank in range(args.ranks)):
            ready = True
            announce(args.ready)
        for rank, process in enumerate(running):
            if args.again and process.poll() not in (None, 0):
                attempts[rank] += 1
                running[rank] = started(rank, args.ranks, attempts[rank], stop)


if __name__ == "__main__":
    main()
