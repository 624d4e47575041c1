"""Train, remember what this process looks like from inside, and later say what is different.

Once the file `compare` appears beside the truth file, the process compares itself after every step until nothing
differs any more (or 10 s have passed), and writes `residue.json`: what still differed, and when it last did.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import atexit
import gc
import os
import pickle
import signal
import sys
import threading
import time
import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from truth import announce, write_json

PATIENCE_S = 10.0
OPTIMIZER = sys.modules["torch.optim.optimizer"]  # torch.optim deletes the attribute of that name
BATCHES = "/torch_"  # shared memory in which workers hand their batches over comes and goes
PATCHED = (
    (torch.autograd, "backward"),
    (torch, "save"),
    (torch.serialization, "_save"),
    (pickle, "dump"),
    (nn.Module, "eval"),
    (nn.Module, "zero_grad"),
    (torch.optim.Optimizer, "zero_grad"),
    (nn.Module, "__call__"),
    (nn.Sequential, "__call__"),
    (torch.amp.GradScaler, "scale"),
    (torch.amp.GradScaler, "update"),
    (torch.utils.data.DataLoader, "__iter__"),
    (torch.utils.data.dataloader._BaseDataLoaderIter, "__next__"),
)
HOOKS = (
    (nn.modules.module, "_global_forward_pre_hooks"),
    (nn.modules.module, "_global_forward_hooks"),
    (nn.modules.module, "_global_backward_pre_hooks"),
    (nn.modules.module, "_global_backward_hooks"),
    (OPTIMIZER, "_global_optimizer_pre_hooks"),
    (OPTIMIZER, "_global_optimizer_post_hooks"),
)


def look() -> dict[str, object]:
    """Everything a probe might have touched."""
    with open("/proc/self/maps") as maps:
        files = sorted({line.split(None, 5)[5].strip() for line in maps if line.count("/") and BATCHES not in line})
    with open("/proc/self/status") as status:
        umask = next(line for line in status if line.startswith("Umask"))
    fds = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # the one that listed the folder
    return {
        "hooks": [[id(getattr(owner, name)), [str(key) for key in getattr(owner, name)]] for owner, name in HOOKS],
        "attributes": [[str(owner), name, id(vars(owner).get(name))] for owner, name in PATCHED],
        "threads": len(os.listdir("/proc/self/task")),
        "python_threads": sorted(thread.name for thread in threading.enumerate()),
        "fds": sorted(fd for fd in fds if "/proc/" not in fd and BATCHES not in fd),
        "modules": sorted(sys.modules),
        "meta_path": [id(finder) for finder in sys.meta_path],
        "gc_callbacks": [id(callback) for callback in gc.callbacks],
        "gc_threshold": list(gc.get_threshold()),
        "atexit": atexit._ncallbacks(),
        "umask": umask,
        "signals": [str(signal.getsignal(number)) for number in range(1, signal.NSIG)],
        "signal_wakeup": signal.set_wakeup_fd(-1),
        "switch_interval": sys.getswitchinterval(),
        "mapped_files": files,
        "warnings": len(warnings.filters),
        "main_names": sorted(sys.modules["__main__"].__dict__),
        "grad_mode": torch.is_grad_enabled(),
        "rng": torch.initial_seed(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and compare this process with what it was.")
    for option in ("--truth", "--ready", "--stop"):
        parser.add_argument(option, required=True, metavar="FILE")
    parser.add_argument("--inference", action="store_true", help="no optimizer, no gradients")
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    data = TensorDataset(torch.randn(512, 64), torch.randint(0, 8, (512,)))
    loader = DataLoader(data, batch_size=32, num_workers=args.workers, persistent_workers=args.workers > 0)
    before: dict[str, object] = {}
    compared: dict[str, object] | None = None
    since = 0.0
    steps = 0
    while not os.path.exists(args.stop):
        for x, y in loader:
            if args.inference:
                with torch.inference_mode():
                    model(x)
            else:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
            steps += 1
            if steps == 40:
                before = look()
                announce(args.ready)
            if compared is None and os.path.exists("compare"):
                now = time.monotonic()
                since = since or now
                after = look()
                differs = {key: [before[key], after[key]] for key in before if before[key] != after[key]}
                if not differs or now - since > PATIENCE_S:
                    compared = {"differs": differs, "looked_at": since, "same_at": now}
                    write_json("residue.json", compared)
    write_json(args.truth, {"steps": steps, "compared": compared})


if __name__ == "__main__":
    main()
