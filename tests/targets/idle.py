"""The main thread waits in one way or another, and says for how long; a second thread computes and compares.

Standard library; CPython 3.9 and later. SIGUSR1 ends a wait that has no end of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import select
import signal
import threading
import time
from collections.abc import Callable

from exact import Loop, malloc
from truth import announce, write_json

PATIENCE_S = 5.0
libc = ctypes.CDLL(None, use_errno=True)


class Woken(Exception):
    """SIGUSR1 came."""


def wake(number: int, frame: object) -> None:
    raise Woken


def later(seconds: float, call: Callable[..., object], *arguments: object) -> None:
    """In a thread of its own, which is then gone before the next look at the threads."""
    timer = threading.Timer(seconds, call, arguments)
    timers.append(timer)
    timer.start()


timers: list[threading.Timer] = []


class EpollEvent(ctypes.Structure):
    """struct epoll_event of x86-64."""

    _pack_ = 1
    _fields_ = [("events", ctypes.c_uint32), ("data", ctypes.c_uint64)]


class Pollfd(ctypes.Structure):
    """struct pollfd."""

    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


def sleep(seconds: float) -> object:
    time.sleep(seconds)
    return None


def gil(seconds: float) -> object:
    """A C call that keeps the GIL."""
    return ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def poll(seconds: float) -> object:
    """poll(2) itself, which Python would call again after EINTR."""
    result = libc.poll(ctypes.byref(Pollfd(os.pipe()[0], select.POLLIN, 0)), 1, int(seconds * 1000))
    return result, ctypes.get_errno() if result < 0 else 0


def selects(seconds: float) -> object:
    return select.select([os.pipe()[0]], [], [], seconds)


def epoll(seconds: float) -> object:
    with select.epoll() as epoll_set:
        return epoll_set.poll(seconds)


def endless_epoll(seconds: float) -> object:
    """epoll_wait(2) itself, without a time limit, until another thread writes."""
    reader, writer = os.pipe()
    epoll_set = select.epoll()
    epoll_set.register(reader, select.EPOLLIN)
    later(seconds, os.write, writer, b"x")
    result = libc.epoll_wait(epoll_set.fileno(), ctypes.byref(EpollEvent()), 1, -1)
    return result, ctypes.get_errno() if result < 0 else 0


def read(seconds: float) -> object:
    """From a pipe, until another thread writes."""
    reader, writer = os.pipe()
    later(seconds, os.write, writer, b"x")
    return os.read(reader, 1).decode()


def mutex(seconds: float) -> object:
    """A lock of C, held by nobody who would give it back before `seconds` are over."""
    lock = ctypes.create_string_buffer(64)
    libc.pthread_mutex_init(lock, None)
    libc.pthread_mutex_lock(lock)
    later(seconds, libc.pthread_mutex_unlock, lock)
    return libc.pthread_mutex_lock(lock)


def join(seconds: float) -> object:
    """In `Thread.join`, where signals and pending calls are looked at, and nothing else of Python runs."""
    thread = threading.Thread(target=time.sleep, args=(seconds,), daemon=True)
    thread.start()
    thread.join()
    return None


def uninterruptible(seconds: float) -> object:
    """Until vfork's child has got at its program, which a FIFO without a writer keeps it from: state D."""
    os.mkfifo("fifo")
    os.system(f"(sleep {seconds}; : > fifo) &")
    child = os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 3, "fifo", os.O_RDONLY, 0)])
    return os.waitpid(child, 0)[1]


WAITS: dict[str, Callable[[float], object]] = {
    "sleep": sleep,
    "gil": gil,
    "poll": poll,
    "select": selects,
    "epoll": epoll,
    "endless-epoll": endless_epoll,
    "read": read,
    "mutex": mutex,
    "join": join,
    "uninterruptible": uninterruptible,
}


def threads_more(before: int) -> int:
    """Threads that were not there before, once those that are just ending have gone."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        more = len(os.listdir("/proc/self/task")) - before
        if more <= 0 or time.monotonic() > deadline:
            return more
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description="Wait, and measure how long that took.")
    parser.add_argument("--kind", choices=WAITS, required=True)
    parser.add_argument("--seconds", type=float, default=3600.0, help="of one wait")
    parser.add_argument("--often", action="store_true", help="wait again and again until told to stop")
    parser.add_argument("--busy", action="store_true", help="a second thread allocates all the time")
    for option in ("--truth", "--ready", "--stop"):
        parser.add_argument(option, required=True, metavar="FILE")
    args = parser.parse_args()
    signal.signal(signal.SIGUSR1, wake)
    loop = Loop(malloc(seed=0))
    over = threading.Event()
    worker = threading.Thread(target=loop.run, args=(over.is_set,))
    if args.busy:
        worker.start()
    before = len(os.listdir("/proc/self/task"))  # numpy has threads of its own
    announce(args.ready)
    waits: list[float] = []
    answers: list[object] = []
    woken = False
    try:
        while not (args.often and os.path.exists(args.stop)):
            since = time.monotonic()
            answers.append(WAITS[args.kind](args.seconds))
            waits.append(time.monotonic() - since)
            if not args.often:
                break
    except Woken:
        woken = True
    for timer in timers:
        timer.join()
    threads = threads_more(before)
    over.set()
    if args.busy:
        worker.join()
    write_json(
        args.truth,
        {
            "pid": os.getpid(),
            "waits_s": waits,
            "answer": answers[-1] if answers else None,
            "woken": woken,
            "iterations": loop.iterations,
            "wrong": loop.wrong + (loop.compute() != loop.first),
            "errors": loop.errors,
            "threads_more": threads,
            "ended": True,
        },
    )


if __name__ == "__main__":
    main()
