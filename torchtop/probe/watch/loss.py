"""The loss that a backward pass starts from, copied on the device's own stream and read by the agent later."""

from __future__ import annotations

import math

from .modes import rerouted


class LossCell:
    """One preallocated scalar. No reference to the user's tensor is kept, nothing waits for a device."""

    def __init__(self, torch):
        self._torch = torch
        self._cell = None
        self._event = None
        self._factor = None
        self.scaled = False
        self._fresh = False

    def copy(self, loss, scale):
        """On the training thread: queue a copy of `loss` (one element). scale: GradScaler's factor in it, a tensor."""
        torch = self._torch
        if rerouted(torch) or loss.numel() != 1 or not (loss.is_floating_point()):
            return
        on_cuda = loss.device.type == "cuda"
        if loss.device.type not in ("cpu", "cuda") or (on_cuda and torch.cuda.is_current_stream_capturing()):
            return
        with torch.no_grad():
            self._fresh = False
            if self._cell is None or self._cell.dtype != loss.dtype:
                # The loss's own dtype: a conversion on the way from a device would make the copy wait.
                self._cell = torch.zeros((), dtype=loss.dtype, device="cpu", pin_memory=on_cuda)
            self._cell.copy_(loss.detach().reshape(()), non_blocking=True)
            self.scaled = scale is not None
            if self.scaled:
                if self._factor is None:
                    self._factor = torch.ones((), dtype=scale.dtype, device="cpu", pin_memory=on_cuda)
                self._factor.copy_(scale.detach().reshape(()), non_blocking=True)
            if on_cuda:
                if self._event is None:
                    self._event = torch.cuda.Event()
                self._event.record()
        self._fresh = True

    def read(self):
        """On the agent thread: (loss or None, finite) once the copy has arrived, else None."""
        if not self._fresh or (self._event is not None and not self._event.query()):
            return None
        self._fresh = False
        # tolist, not float() or item(): those give the GIL away inside C++, and when the program ends just then the
        # thread cannot come back for it: std::terminate, and the whole job has died of SIGABRT (measured).
        value = self._cell.tolist() / (self._factor.tolist() if self.scaled else 1.0)
        return (value, True) if math.isfinite(value) else (None, False)
