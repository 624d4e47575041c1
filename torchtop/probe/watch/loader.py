"""Time blocked in the DataLoader, and how many samples it handed out.

Patched on the classes, so that an iterator that runs already counts. Only the training thread's waiting is data time:
a prefetch thread that waits delays nobody.
"""

from __future__ import annotations

import time
from _thread import get_ident

from ..wire import DATA_BEGIN, DATA_END, FIRST_OF_EPOCH
from .forward import first_tensor, size_of
from .patch import Patch


def patch_loader(torch, watch):
    """Put patches on DataLoader, one at a time."""
    module = torch.utils.data.dataloader
    now = time.perf_counter

    def make_next(original):
        def __next__(self):
            if not watch.on or get_ident() != watch.clock.trainer_or(get_ident()):
                return original(self)
            began = now()
            try:
                batch = original(self)
            finally:
                ended = now()
                watch.clock.data(began, ended)
                marks = watch.clock.marks
                if marks is not None:
                    marks.note(DATA_BEGIN, began)
                    marks.note(DATA_END, ended)
            try:
                size = size_of(first_tensor(batch, torch.Tensor))
                if size is not None:
                    watch.clock.samples(size[0])
                if marks is not None:
                    marks.loaded = size
                if watch.loader is None:
                    watch.loader = _settings(self)
                if marks is not None:
                    marks.outside_s += now() - ended
            except Exception:
                watch.errors += 1
            return batch

        return __next__

    def make_iter(original):
        def __iter__(self):
            if not watch.on or get_ident() != watch.clock.trainer_or(get_ident()):
                return original(self)
            # Workers are forked in here: no armed hook may be copied into them.
            watch.clock.disarm_now()
            began = now()
            try:
                return original(self)
            finally:
                watch.clock.data(began, now())
                watch.clock.tag(FIRST_OF_EPOCH)

        return __iter__

    yield Patch(module._BaseDataLoaderIter, "__next__", make_next)
    yield Patch(module.DataLoader, "__iter__", make_iter)


def _settings(iterator):
    """What the loader was told, for facts. Reads attributes only."""
    return {
        "workers": iterator._num_workers,
        "pin_memory": bool(iterator._pin_memory),
        "persistent_workers": bool(getattr(iterator, "_persistent_workers", False)),
        "prefetch_factor": getattr(iterator, "_prefetch_factor", None),
        "dataset": type(iterator._dataset).__name__,
        "collate": getattr(iterator._collate_fn, "__name__", type(iterator._collate_fn).__name__),
        "batch_size": getattr(iterator._index_sampler, "batch_size", None),
        "drop_last": bool(iterator._drop_last),
    }
