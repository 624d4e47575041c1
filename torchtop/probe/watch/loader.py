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
from .program import hand_on


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
                watch.loaders.handed_out(self)
                if marks is not None:
                    marks.outside_s += now() - ended
            except Exception as error:
                hand_on(error)
                watch.errors += 1
            return batch

        return __next__

    def make_iter(original):
        def __iter__(self):
            if not watch.on or get_ident() != watch.clock.trainer_or(get_ident()):
                return original(self)
            # Workers are forked in here: no armed hook may be copied into them.
            watch.clock.disarm_now()
            watch.loaders.begins()
            began = now()
            try:
                return original(self)
            finally:
                watch.clock.data(began, now())
                watch.clock.tag(FIRST_OF_EPOCH)

        return __iter__

    yield Patch(module._BaseDataLoaderIter, "__next__", make_next)
    yield Patch(module.DataLoader, "__iter__", make_iter)
