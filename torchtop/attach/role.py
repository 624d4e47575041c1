"""What one process is to its job, as far as its name, command line and environment tell it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WORKER_NAME = "pt_data_worker"  # torch >= 2.5 calls the main thread of a DataLoader worker so (pytorch PR 128448)
_AGENT_NAME = "pt_elastic"  # and that of torchrun (torch/distributed/run.py)
_LAUNCHER_SCRIPTS = {"torchrun", "accelerate", "accelerate-launch", "deepspeed"}
_LAUNCHER_MODULES = {
    "torch.distributed.run",
    "torch.distributed.launch",
    "accelerate.commands.launch",
    "deepspeed.launcher.launch",
    "deepspeed.launcher.runner",
}
# Programs that torch and multiprocessing start beside a rank. They compute nothing of the job.
_SERVANTS = ("multiprocessing.resource_tracker", "torch/_inductor/compile_worker")
_NO_RUN = (None, "", "none")  # torchrun's --rdzv-id where none was given


class Identity(NamedTuple):
    """What tells a forked copy of a process from another program; None where permission is lacking."""

    name: str
    exe: str | None
    cmdline: str


class Numbering(NamedTuple):
    """The place of a rank in its job, as its launcher put it into the environment."""

    rank: int | None
    local_rank: int | None
    world_size: int | None
    job: tuple[str | None, ...]
    """What all ranks of one job have in common, restarted ones too."""


def is_worker(process: Identity, parent: Identity, rank: Identity) -> bool:
    """Whether a descendant of a rank is one of its DataLoader workers, by the way multiprocessing starts them."""
    if _other_program(process, rank) or is_servant(process.cmdline):
        return False
    return process.name == WORKER_NAME or is_multiprocessing(process, parent, rank)


def is_multiprocessing(process: Identity, parent: Identity, above: Identity) -> bool:
    """Whether multiprocessing (or fork) started `process` for `above`: as a DataLoader worker, or to train.

    fork copies the command line; spawn and forkserver put their module's name there. The fork server and the resource
    tracker are servants of multiprocessing themselves. An `exe` that cannot be read decides nothing.
    """
    if _other_program(process, above) or is_servant(process.cmdline):
        return False
    if "multiprocessing.forkserver" in process.cmdline:
        return process.cmdline == parent.cmdline
    return bool(process.cmdline) and (process.cmdline == above.cmdline or "multiprocessing.spawn" in process.cmdline)


def is_servant(cmdline: str) -> bool:
    """Whether it is a process that torch or multiprocessing keeps beside a rank."""
    return any(servant in cmdline for servant in _SERVANTS)


def is_launcher(name: str, command: Sequence[str]) -> bool:
    """Whether it is a launcher that everybody uses: torchrun, accelerate launch, deepspeed."""
    if name == _AGENT_NAME:
        return True
    for position, word in enumerate(command[:8]):
        if word == "-m":
            return command[position + 1 : position + 2] != () and command[position + 1] in _LAUNCHER_MODULES
        if word == "-c":
            return False
        script = os.path.basename(word)
        if script in _LAUNCHER_SCRIPTS:
            return script != "accelerate" or "launch" in command[position + 1 : position + 2]
        if position and not word.startswith("-"):
            return False
    return False


def numbering(environment: Mapping[str, str] | None) -> Numbering | None:
    """The rank that a launcher gave this process; None when it carries none.

    Looked for in order: RANK (torchrun and all that imitate it), Open MPI, Slurm, and LOCAL_RANK alone (Lightning
    starts local ranks 1 and up so; rank 0 is the program itself, which carries nothing).
    """
    if not environment:
        return None
    get = environment.get
    address = (get("MASTER_ADDR"), get("MASTER_PORT"))
    if "RANK" in environment:
        run = get("TORCHELASTIC_RUN_ID")
        # After a restart the port may be another one, the run is not.
        key = (None, None, run) if run not in _NO_RUN else (*address, None)
        return Numbering(_number(get("RANK")), _number(get("LOCAL_RANK")), _number(get("WORLD_SIZE")), key)
    if "OMPI_COMM_WORLD_RANK" in environment:
        rank, local = _number(get("OMPI_COMM_WORLD_RANK")), _number(get("OMPI_COMM_WORLD_LOCAL_RANK"))
        return Numbering(rank, local, _number(get("OMPI_COMM_WORLD_SIZE")), (*address, get("PMIX_NAMESPACE")))
    tasks = _number(get("SLURM_STEP_NUM_TASKS"))
    # Everything started from a shell inside an allocation carries SLURM_PROCID=0: only several tasks are ranks.
    if tasks is not None and tasks > 1 and "SLURM_PROCID" in environment:
        step = (get("SLURM_JOB_ID"), get("SLURM_STEP_ID"), "slurm")
        return Numbering(_number(get("SLURM_PROCID")), _number(get("SLURM_LOCALID")), tasks, step)
    if "LOCAL_RANK" in environment and "MASTER_PORT" in environment:
        return Numbering(None, _number(get("LOCAL_RANK")), _number(get("WORLD_SIZE")), (*address, None))
    return None


def script(command: Sequence[str]) -> str:
    """The program that a Python command line runs: a path as it was given, `-m module`, or `-c ...`."""
    words = iter(command[1:])
    for word in words:
        if word in ("-c", "-m"):
            return f"-m {next(words, '')}" if word == "-m" else "-c ..."
        if word in ("-W", "-X"):
            next(words, None)
        elif not word.startswith("-"):
            return word
    return command[0] if command else ""


def is_kernel(command: Sequence[str]) -> bool:
    """Whether it is the Python behind a notebook."""
    return any("ipykernel" in word for word in command)


def _other_program(process: Identity, above: Identity) -> bool:
    return bool(process.exe and above.exe and process.exe != above.exe)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
