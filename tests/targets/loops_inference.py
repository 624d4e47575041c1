"""Loops that train nothing: a step of them is one call of the root."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from loops import Run
from models import Job
from torch import Tensor

DENOISE = 50  # calls to one batch of samples
AT_ONCE = 4  # requests

Handle = Callable[[int, Tensor], None]


def inference(job: Job, feed: Iterable[Any], run: Run) -> None:
    """No optimizer and no gradients; the loss is only looked at."""
    truth = run.truth
    job.model.eval()
    with torch.inference_mode():
        for x, y in run.batches(feed):
            with truth.phase("forward"):
                out = job.model(x)
            run.step(len(x), job.loss(out, y))


def diffusion(job: Job, feed: Iterable[Any], run: Run) -> None:
    """DENOISE calls make one batch of images out of noise. What counts is what each call is given: its rows."""
    truth = run.truth
    job.model.eval()
    with torch.no_grad():
        for x, _ in run.batches(feed):
            x = torch.randn_like(x)
            for call in range(DENOISE):
                with truth.phase("forward"):
                    noise = job.model(x, torch.full((len(x),), 1 - call / DENOISE))
                x = x - noise / DENOISE
                run.step(len(x), x.mean())
                if run.over:
                    break


class Server:
    """Answers requests of several threads at once; one that is waiting holds the next one back."""

    def __init__(self, job: Job, run: Run) -> None:
        self.job = job
        self.run = run
        self._free = threading.Semaphore(AT_ONCE)
        self._telling = threading.Lock()

    def handle(self, number: int, x: Tensor) -> None:
        """One request: one call of the root. Requests end in any order, so each says which it is and what came out."""
        with torch.inference_mode():
            out = self.job.model(x)
        ended = time.monotonic()  # now: the log's turn may come when another thread has used up its time slice
        with self._telling:
            self.run.step(len(x), t_end=ended, request=number, answer=out.sum().item().hex())
        self._free.release()

    def serve(self, feed: Iterable[Any], start: Callable[[Handle, int, Tensor], None]) -> None:
        """Start `handle` on every request that comes."""
        self.job.model.eval()
        for number, (x, _) in enumerate(self.run.batches(feed)):
            if number >= self.run.steps:
                break
            self._free.acquire()
            start(self.handle, number, x)


def thread_pool(job: Job, feed: Iterable[Any], run: Run) -> None:
    """AT_ONCE threads that live as long as the server."""
    requests: queue.Queue[tuple[Handle, int, Tensor] | None] = queue.Queue()

    def work() -> None:
        while True:
            request = requests.get()
            if request is None:
                return
            handle, number, x = request
            handle(number, x)

    threads = [threading.Thread(target=work, name=f"worker {i}") for i in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    Server(job, run).serve(feed, lambda *request: requests.put(request))
    for _ in threads:
        requests.put(None)
    for thread in threads:
        thread.join()


def thread_per_request(job: Job, feed: Iterable[Any], run: Run) -> None:
    """A new thread for each request, as socketserver.ThreadingMixIn makes them."""
    alive: list[threading.Thread] = []

    def start(handle: Handle, number: int, x: Tensor) -> None:
        alive[:] = [thread for thread in alive if thread.is_alive()]
        thread = threading.Thread(target=handle, args=(number, x))
        alive.append(thread)
        thread.start()

    Server(job, run).serve(feed, start)
    for thread in alive:
        thread.join()
