"""What a rule may need, by name, and what to say where it is missing."""

from __future__ import annotations

from collections.abc import Callable

from torchtop.seen import Seen

_FEWEST_READINGS = 3  # of a source that is read once a second: fewer do not make a mean
_FEWEST_ARMED = 3  # armed steps that phases and layers are taken from


def _steps(seen: Seen) -> str | None:
    return None if seen.slow is not None and seen.slow.steps else "no step was seen"


def _phases(seen: Seen) -> str | None:
    slow = seen.slow
    if slow is None or not slow.phases:
        return "no step was looked into yet"
    if slow.phases_are == "host" and not slow.compiled:
        return "the device's time between the phases is not put together yet"
    if not slow.compiled and len(slow.phases) < _FEWEST_ARMED:
        return f"{len(slow.phases)} of {_FEWEST_ARMED} steps were looked into"
    return None


def _layers(seen: Seen) -> str | None:
    slow = seen.slow
    if slow is not None and slow.compiled:
        return "the model is compiled and not looked into"
    if slow is None or not slow.layers:
        return "no layer was timed yet"
    if len(slow.phases) < _FEWEST_ARMED:
        return f"{len(slow.phases)} of {_FEWEST_ARMED} steps were looked into"
    return None


def _layer_times(seen: Seen) -> str | None:
    missing = _layers(seen)
    if missing is None and seen.slow is not None and all(layer.share is None for layer in seen.slow.layers):
        return "layers have no times on this device yet"
    return missing


def _gpu(seen: Seen) -> str | None:
    if not seen.on_gpu:
        return "the job computes on the CPU" if seen.ranks else "no rank is attached"
    return None if seen.devices else seen.devices_reason or "no GPU can be read"


def _cpu(seen: Seen) -> str | None:
    if not seen.ranks:
        return "no rank is attached"
    return "the job computes on a GPU" if seen.on_gpu else None


def _processes(seen: Seen) -> str | None:
    slow = seen.slow
    return None if slow is not None and len(slow.processes) >= _FEWEST_READINGS else "too few readings of the process"


def _host(seen: Seen) -> str | None:
    return None if len(seen.host) >= _FEWEST_READINGS else "too few readings of the machine"


def _ranks(seen: Seen) -> str | None:
    return None if len(seen.ranks) > 1 else "fewer than two ranks are attached here"


def _training(seen: Seen) -> str | None:
    return None if seen.mode == "training" else "the job does not train"


def _inference(seen: Seen) -> str | None:
    return None if seen.mode == "inference" else "the job trains" if seen.mode == "training" else "no step was seen"


def _loader(seen: Seen) -> str | None:
    return None if seen.slow is not None and seen.slow.facts.loader is not None else "no DataLoader was seen"


def _optimizer(seen: Seen) -> str | None:
    return None if seen.slow is not None and seen.slow.facts.optimizers else "no optimizer was seen"


def _cores(seen: Seen) -> str | None:
    return None if seen.usable_cores is not None else "the cores that the job may use are not known"


def _weights(seen: Seen) -> str | None:
    slow = seen.slow
    if slow is not None and slow.weights is not None:
        return None
    return (slow.weights_reason if slow is not None else None) or "weights were not scanned yet"


# In the order in which they are looked at: the first that is missing is what the user reads.
NEEDS: dict[str, Callable[[Seen], str | None]] = {
    "gpu": _gpu,
    "cpu": _cpu,
    "steps": _steps,
    "training": _training,
    "inference": _inference,
    "ranks": _ranks,
    "loader": _loader,
    "optimizer": _optimizer,
    "phases": _phases,
    "layers": _layers,
    "layer-times": _layer_times,
    "weights": _weights,
    "processes": _processes,
    "host": _host,
    "cores": _cores,
}
