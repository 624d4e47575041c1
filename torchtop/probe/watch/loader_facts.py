"""What DataLoaders were told, and where the user's own part of them begins. Reads attributes only."""

from __future__ import annotations

import os

from .program import plain

_LOADERS = 16  # with settings of their own, that are kept apart


class Loaders:
    """The loaders that the training thread takes its batches from. Training thread; the agent reads `told`."""

    def __init__(self, torch):
        self._torch = torch
        self._folder = os.path.dirname(torch.__file__) + os.sep
        self._running = {}
        self._known = {}

    def begins(self):
        """An epoch begins: ids of iterators of before may come back as another's."""
        self._running.clear()

    def handed_out(self, iterator):
        """An iterator gave a batch."""
        entry = self._running.get(id(iterator))
        if entry is None:
            settings = self._settings(iterator)
            key = str(settings)
            entry = self._known.get(key)
            if entry is None:
                if len(self._known) >= _LOADERS:
                    self._known.clear()
                entry = self._known[key] = [0, 0, settings]
            self._running[id(iterator)] = entry
        # Of validation, which is not what a step waits for, batches are asked for without gradients mostly.
        entry[0] += self._torch.is_grad_enabled()
        entry[1] += 1

    def told(self):
        """Settings of the loader that gave most batches, None before the first."""
        known = list(self._known.values())
        return max(known, key=lambda entry: entry[:2])[2] if known else None

    def _settings(self, iterator):
        dataset = iterator._dataset
        own = self._own(dataset)
        return {
            "workers": iterator._num_workers,
            "pin_memory": bool(iterator._pin_memory),
            "persistent_workers": bool(getattr(iterator, "_persistent_workers", False)),
            "prefetch_factor": getattr(iterator, "_prefetch_factor", None),
            "dataset": type(dataset).__name__,
            "collate": getattr(iterator._collate_fn, "__name__", type(iterator._collate_fn).__name__),
            "batch_size": getattr(iterator._index_sampler, "batch_size", None),
            "drop_last": bool(iterator._drop_last),
            "dataset_at": self._method_of(own, ("__getitems__", "__getitem__", "__iter__")),
            "collate_at": self._collates_at(iterator._collate_fn),
        }

    def _own(self, dataset):
        """What Subset, ConcatDataset and the like hold; of several the first."""
        for _ in range(8):
            if not type(dataset).__module__.startswith("torch."):
                break
            inner = getattr(dataset, "dataset", None)
            if inner is None:
                several = getattr(dataset, "datasets", None)
                if isinstance(several, dict):
                    several = list(several.values())
                inner = several[0] if isinstance(several, (list, tuple)) and several else None
            if inner is None:
                break
            dataset = inner
        return dataset

    def _method_of(self, value, names):
        """Where the first of these methods begins that its class does not have from torch."""
        for name in names:
            found = self._begins(getattr(type(value), name, None))
            if found is not None:
                return found
        return None

    def _collates_at(self, collate):
        collate = getattr(collate, "func", collate)  # of a partial
        collate = getattr(collate, "__func__", collate)  # of a method
        return self._begins(collate) if hasattr(collate, "__code__") else self._method_of(collate, ("__call__",))

    def _begins(self, function):
        code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
        if code is None or code.co_filename.startswith(self._folder):
            return None
        name = getattr(code, "co_qualname", code.co_name)
        return {"function": plain(name), "file": plain(code.co_filename), "line": code.co_firstlineno}
