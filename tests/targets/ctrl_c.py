"""Pure Python work that catches KeyboardInterrupt, counts it and goes on.

Their number is a line on stdout, first `interrupts 0`, then one more for each. CPython merges SIGINTs that
come before the first was handled, so send the next after that line.
"""

from __future__ import annotations

import argparse
import os
import signal

from truth import announce, write_json

RESULT = sum(i * i for i in range(20_000))


class Work:
    def __init__(self, ready: str | None, stop: str) -> None:
        self.ready = ready
        self.stop = stop
        self.iterations = 0
        self.wrong = 0
        self.interrupts = 0
        self._printed = -1

    def until_interrupted(self) -> None:
        while self._printed < self.interrupts:
            self._printed += 1
            print(f"interrupts {self._printed}", flush=True)
        if self.ready is not None and not self.iterations:
            announce(self.ready)
        # Looked for now and then: a main thread that gives the GIL away all the time starves the others.
        while self.iterations % 32 or not os.path.exists(self.stop):
            if sum(i * i for i in range(20_000)) != RESULT:
                self.wrong += 1
            self.iterations += 1

    def until_stopped(self) -> None:
        over = False
        while not over:
            try:
                self.until_interrupted()
                over = True
            except KeyboardInterrupt:
                # No more than this: an interrupt that comes in here would not be caught.
                self.interrupts += 1


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the interrupts that come.")
    parser.add_argument("--stop", required=True, metavar="FILE", help="end well once it exists")
    parser.add_argument("--truth", required=True, metavar="FILE", help="written at the end")
    parser.add_argument("--ready", metavar="FILE", help="appears when interrupts are being caught")
    args = parser.parse_args()

    # A shell starts background jobs with SIGINT ignored, and Python then leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work = Work(args.ready, args.stop)
    work.until_stopped()
    write_json(
        args.truth,
        {
            "pid": os.getpid(),
            "interrupts": work.interrupts,
            "iterations": work.iterations,
            "wrong": work.wrong,
            "ended": True,
        },
    )


if __name__ == "__main__":
    main()
