"""Settings of the job that can be read without asking the user: all attributes and globals, no computation."""

from __future__ import annotations

import math
import os
import sys


def process_facts(torch):
    """What is true of the whole process. Runs on the agent thread."""
    facts = {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "torch": str(torch.__version__) if torch is not None else None,
        "environment": {
            key: os.environ[key]
            for key in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
            if key in os.environ
        },
    }
    if torch is None:
        return facts
    facts["threads"] = torch.get_num_threads()
    facts["matmul_precision"] = torch.get_float32_matmul_precision()
    facts["tf32_matmul"] = bool(torch.backends.cuda.matmul.allow_tf32)
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


def compiled_frames():
    """How many graphs dynamo has compiled in this process; 0 when it was never imported."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return 0
    # It may be half imported just now.
    counters = getattr(dynamo, "counters", {})
    return int(counters["stats"].get("unique_graphs", 0)) if "stats" in counters else 0


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
    plain = {k: v for k, v in defaults if v is None or isinstance(v, str) or _is_finite_number(v)}
    return {
        "class": type(optimizer).__name__,
        "groups": len(optimizer.param_groups),
        "parameters": sum(len(group["params"]) for group in optimizer.param_groups),
        "defaults": plain,
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
                gradient = parameter.grad
                if gradient is not None:
                    gradients += _bytes(gradient)
        for state in optimizer.state.values():
            if isinstance(state, dict):
                states += sum(_bytes(value) for value in state.values() if hasattr(value, "element_size"))
    return {"parameters_bytes": parameters, "gradients_bytes": gradients, "optimizer_bytes": states}


def _bytes(tensor):
    return tensor.numel() * tensor.element_size() if not tensor.is_sparse else tensor._values().numel() * 4
