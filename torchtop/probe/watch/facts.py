"""Settings of the job that can be read without asking the user: all attributes and globals, no computation."""

from __future__ import annotations

import math
import os
import sys

from .gradients import keeps_gradient
from .program import plain

_REASON = 300  # characters of why dynamo compiled again
_COMPILATIONS = 5  # functions that are told


def process_facts(torch):
    """What is true of the whole process. Runs on the agent thread."""
    facts = {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "torch": str(torch.__version__) if torch is not None else None,
        "environment": {
            key: os.environ[key]
            for key in (
                "RANK",
                "LOCAL_RANK",
                "WORLD_SIZE",
                "OMP_NUM_THREADS",
                "OMP_WAIT_POLICY",
                "CUDA_VISIBLE_DEVICES",
            )
            if key in os.environ
        },
    }
    if torch is None:
        return facts
    facts["threads"] = torch.get_num_threads()
    facts["matmul_precision"], facts["tf32_matmul"] = _matmul(torch)
    facts["cudnn_benchmark"] = bool(torch.backends.cudnn.benchmark)
    facts["cuda"] = bool(torch.cuda.is_initialized())
    facts["compiled_frames"] = compiled_frames()
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        facts["distributed"] = {
            "backend": str(distributed.get_backend()),
            "rank": distributed.get_rank(),
            "world_size": distributed.get_world_size(),
        }
    return facts


def _matmul(torch):
    """(precision, whether TF32 is allowed) of matrix products in float32; None where torch does not say.

    Since torch 2.9 a program may set them by new names, and then torch refuses to be asked by the old ones.
    """
    try:
        return torch.get_float32_matmul_precision(), bool(torch.backends.cuda.matmul.allow_tf32)
    except RuntimeError:
        told = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
        return None, told == "tf32" if isinstance(told, str) else None


def compiled_frames():
    """How many graphs dynamo has compiled in this process; 0 when it was never imported."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return 0
    # It may be half imported just now.
    counters = getattr(dynamo, "counters", {})
    return int(counters["stats"].get("unique_graphs", 0)) if "stats" in counters else 0


def compilations():
    """What dynamo compiled lately and how often, most often first. It remembers 64; empty before torch 2.1 or so."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    found = {}
    try:
        # There is a function for this, which only does the same.
        known = list(getattr(dynamo, "_compilation_metrics", ()))
    except RuntimeError:
        return None  # it was adding one just now
    for one in known:
        file, line = getattr(one, "co_filename", None), getattr(one, "co_firstlineno", None)
        if not isinstance(file, str) or not isinstance(line, int):
            continue
        at = {"function": plain(str(getattr(one, "co_name", ""))), "file": plain(file), "line": line}
        entry = found.setdefault((file, line), {"at": at, "count": 0, "seconds": 0.0, "reason": None})
        entry["count"] += 1
        seconds = getattr(one, "entire_frame_compile_time_s", None)
        if isinstance(seconds, (int, float)) and math.isfinite(seconds):
            entry["seconds"] += seconds
        reason = getattr(one, "recompile_reason", None)
        if reason:
            entry["reason"] = plain(str(reason)[:_REASON])
    return sorted(found.values(), key=lambda entry: -entry["count"])[:_COMPILATIONS]


def allocator(torch, optimizers):
    """What CUDA's caching allocator holds on the device of the first parameter that is on one; None without.

    Counters only: nothing waits for the device. The current device of the training thread is not that of the agent's.
    """
    if not torch.cuda.is_initialized():
        return None
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"][:1]:
                if parameter.device.type == "cuda":
                    try:
                        return _allocator(torch.cuda.memory_stats_as_nested_dict(parameter.device.index))
                    except RuntimeError:
                        return None  # an allocator of the program's own keeps no such counters
    return None


def _allocator(stats):
    if "allocated_bytes" not in stats:
        return None
    allocated = stats["allocated_bytes"]["all"]
    return {
        "allocated_bytes": allocated["current"],
        "reserved_bytes": stats["reserved_bytes"]["all"]["current"],
        "peak_bytes": allocated["peak"],
        "retries": stats.get("num_alloc_retries", 0),
    }


def notebook_cell():
    """A number that changes with each cell that an IPython kernel executes; None in any other program."""
    shells = sys.modules.get("IPython.core.interactiveshell")
    shell = getattr(getattr(shells, "InteractiveShell", None), "_instance", None)
    return getattr(shell, "execution_count", None)


def optimizer_was_made(torch):
    """Whether any optimizer was ever made in this process: its constructor wraps `step` of its class."""
    kinds = list(torch.optim.Optimizer.__subclasses__())
    while kinds:
        kind = kinds.pop()
        if getattr(vars(kind).get("step"), "hooked", False):
            return True
        kinds += kind.__subclasses__()
    return False


def model_facts(torch, roots):
    """Devices, dtypes, wrappers and dropout of the root modules. Runs on the agent thread."""
    devices, dtypes, wrappers, dropout = set(), set(), [], 0
    for root in roots:
        wrappers.append(type(root).__name__)
        for parameter in root.parameters():
            devices.add(parameter.device.type)
            dtypes.add(str(parameter.dtype).rpartition(".")[2])
        for module in root.modules():
            if isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0:
                dropout += 1
    return {"devices": sorted(devices), "dtypes": sorted(dtypes), "roots": wrappers, "dropout_modules": dropout}


def optimizer_facts(optimizer):
    """Class and plain settings of an optimizer; tensors among them are left out, not read."""
    defaults = optimizer.defaults.items()
    settings = {k: v for k, v in defaults if v is None or isinstance(v, str) or _is_finite_number(v)}
    groups = optimizer.param_groups
    first = groups[0] if groups else {}
    return {
        "class": type(optimizer).__name__,
        "module": type(optimizer).__module__,
        "groups": len(groups),
        "parameters": sum(len(group["params"]) for group in groups),
        "elements": sum(parameter.numel() for group in groups for parameter in group["params"]),
        "fused": first.get("fused"),
        "foreach": first.get("foreach"),
        "defaults": settings,
    }


def _is_finite_number(value):
    return isinstance(value, (bool, int, float)) and math.isfinite(value)


def memory_made_of(optimizers):
    """Bytes of parameters, gradients and optimizer state. Runs on the training thread, at a step boundary.

    A parameter in two optimizers counts once. Only sizes are read.
    """
    parameters = gradients = states = 0
    seen = set()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                parameters += parameter.numel() * parameter.element_size()
                gradient = parameter.grad if keeps_gradient(parameter) else None
                if gradient is not None:
                    gradients += _bytes(gradient)
        for state in optimizer.state.values():
            if isinstance(state, dict):
                states += sum(_bytes(value) for value in state.values() if hasattr(value, "element_size"))
    return {"parameters_bytes": parameters, "gradients_bytes": gradients, "optimizer_bytes": states}


def _bytes(tensor):
    return tensor.numel() * tensor.element_size() if not tensor.is_sparse else tensor._values().numel() * 4
