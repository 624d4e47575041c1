"""Which processes are one job, told from facts: launchers and schedulers that are not here, and who works."""

from __future__ import annotations

import pytest

from torchtop.attach.census import Census, Process, Use
from torchtop.attach.family import Families, Family
from torchtop.attach.role import WORKER_NAME, is_launcher, numbering, script

TRAIN = ("python", "train.py")
SPAWNED = (
    "python",
    "-c",
    "from multiprocessing.spawn import spawn_main; spawn_main(pipe_handle=7)",
    "--multiprocessing-fork",
)
SERVER = ("python", "-c", "from multiprocessing.forkserver import main; main(5, 6)")
LIBTORCH = "/site/torch/lib/libtorch_cpu.so"
WORKING, WAITING = 0.9, 0.0  # cores


def process(
    pid: int,
    parent: int = 1,
    command: tuple[str, ...] = TRAIN,
    environment: dict[str, str] | None = None,
    *,
    torch: bool = True,
    name: str = "python",
    cpu_s: float = 5.0,
    age_ticks: int = 1 << 40,
    exe: str = "/usr/bin/python3.11",
) -> Process:
    return Process(
        pid=pid,
        parent=parent,
        name=name,
        state="S",
        uid=0,
        start_ticks=age_ticks,  # far in the future: as young as can be
        cpu_s=cpu_s,
        rss_bytes=1,
        command=command,
        exe=exe,
        environment=environment or {},
        libtorch=LIBTORCH if torch else None,
        readable=True,
    )


def families(*processes: Process, names: bool = True, **shares: float) -> list[Family]:
    """The jobs among `processes`; `p5=0.9`: process 5 uses so many cores."""
    census: Census = {one.pid: one for one in processes}
    uses = {pid: Use(one.name, None, shares.get(f"p{pid}", WAITING)) for pid, one in census.items()}
    return list(Families(census, lambda _: names).sort(uses))


def summary(family: Family) -> tuple[int | None, list[int], dict[int, str], list[int]]:
    """(launcher, ranks, others, starting)."""
    others = {member.process.pid: member.role for member in family.members if member.role != "rank"}
    launcher = family.launcher.pid if family.launcher else None
    return launcher, [rank.process.pid for rank in family.ranks], others, [one.pid for one in family.starting]


def numbered(rank: int, port: str = "29500", **more: str) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "h",
        "MASTER_PORT": port,
        **more,
    }


@pytest.mark.parametrize(
    ("command", "launcher"),
    [
        (("python", "/venv/bin/torchrun", "--nproc-per-node=2", "train.py"), True),
        (("python", "-m", "torch.distributed.run", "train.py"), True),
        (("python", "-u", "-m", "torch.distributed.launch", "train.py"), True),
        (("python", "/venv/bin/accelerate", "launch", "train.py"), True),
        (("python", "/venv/bin/accelerate", "env"), False),
        (("/venv/bin/accelerate-launch", "train.py"), True),
        (("python", "-m", "train", "torchrun"), False),
        (("python", "train.py", "torchrun"), False),
        (("python", "-c", "import torch", "torchrun"), False),
        (("python", "-m"), False),
        ((), False),
    ],
)
def test_launchers_by_command(command: tuple[str, ...], launcher: bool) -> None:
    assert is_launcher("python", command) is launcher
    assert is_launcher("pt_elastic", command)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("python", "-u", "-X", "dev", "train.py", "-c", "x"), "train.py"),
        (("python", "-m", "train.main", "--lr", "1"), "-m train.main"),
        (("python", "-c", "import x"), "-c ..."),
        (("python",), "python"),
        ((), ""),
    ],
)
def test_script(command: tuple[str, ...], name: str) -> None:
    assert script(command) == name


def test_slurm_numbers_only_steps_of_several_tasks() -> None:
    step = {"SLURM_JOB_ID": "5", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
    found = numbering({**step, "SLURM_STEP_NUM_TASKS": "4"})
    assert found is not None
    assert (found.rank, found.local_rank, found.world_size) == (3, 1, 4)
    assert numbering({**step, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert numbering({}) is None


def test_open_mpi_numbers_its_ranks() -> None:
    names = {"RANK": "1", "LOCAL_RANK": "0", "SIZE": "2"}
    found = numbering({f"OMPI_COMM_WORLD_{name}": value for name, value in names.items()})
    assert found is not None
    assert found[:3] == (1, 0, 2)


def test_tasks_of_slurm_without_a_common_launcher() -> None:
    step = {"SLURM_JOB_ID": "5", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
    (job,) = families(
        process(10, 2, environment={**step, "SLURM_PROCID": "0"}),
        process(11, 3, environment={**step, "SLURM_PROCID": "1"}),
    )
    assert summary(job) == (None, [10, 11], {}, [])


def test_two_jobs_on_the_default_port() -> None:
    """The ranks of one that has ended may hang on; what they carry is the same."""
    old = [process(10 + rank, 2, environment=numbered(rank)) for rank in range(2)]
    new = [process(20 + rank, 3, environment=numbered(rank)) for rank in range(2)]
    assert [summary(job)[1] for job in families(*old, *new)] == [[10, 11], [20, 21]]


def test_restarted_ranks_stay_in_their_run() -> None:
    agent = process(5, 1, ("python", "/bin/torchrun", "train.py"), name="pt_elastic")
    (before,) = families(agent, process(10, 5, environment=numbered(0, "4001", TORCHELASTIC_RUN_ID="run")))
    (after,) = families(agent, process(30, 5, environment=numbered(0, "4002", TORCHELASTIC_RUN_ID="run")))
    assert before.key == after.key
    assert summary(after) == (5, [30], {}, [])


def test_the_agent_of_an_operator_carries_a_number_itself() -> None:
    agent = process(5, 1, ("python", "/bin/torchrun", "train.py"), environment=numbered(0))
    ranks = [process(10 + rank, 5, environment=numbered(rank, TORCHELASTIC_RUN_ID="none")) for rank in range(2)]
    (job,) = families(agent, *ranks)
    assert summary(job) == (5, [10, 11], {}, [])


def test_a_program_that_a_rank_starts_is_no_rank() -> None:
    rank = process(10, 5, environment=numbered(0))
    child = process(11, 10, ("python", "evaluate.py"), environment=numbered(0))
    (job,) = families(process(5, 1, ("bash",), torch=False, exe="/bin/bash", name="bash"), rank, child)
    assert summary(job) == (None, [10], {11: "servant"}, [])


def test_lightning_is_local_rank_0_itself() -> None:
    """Its children have the same command line, as if forked, but an environment of their own."""
    shared = {"WORLD_SIZE": "3", "MASTER_ADDR": "h", "MASTER_PORT": "4001"}
    children = [process(10 + rank, 5, environment={**shared, "LOCAL_RANK": str(rank)}) for rank in (1, 2)]
    (job,) = families(process(5), *children)
    assert summary(job) == (None, [5, 11, 12], {}, [])


def test_a_script_that_numbers_its_children_is_a_launcher() -> None:
    (job,) = families(process(5), *(process(10 + rank, 5, environment=numbered(rank)) for rank in range(2)))
    assert summary(job) == (5, [10, 11], {}, [])


def test_a_wrapper_in_between_is_passed_over() -> None:
    agent = process(5, 1, ("python", "/bin/torchrun", "x.sh"))
    wrappers = [process(20 + rank, 5, ("bash", "x.sh"), torch=False, exe="/bin/bash", name="bash") for rank in range(2)]
    ranks = [process(10 + rank, 20 + rank, environment=numbered(rank)) for rank in range(2)]
    (job,) = families(agent, *wrappers, *ranks)
    assert summary(job) == (5, [10, 11], {}, [])


@pytest.mark.parametrize(
    ("parent", "first", "second", "expected"),
    [
        (WAITING, WORKING, WORKING, (5, [10, 11], {}, [])),
        (WAITING, WORKING, WAITING, (5, [10, 11], {}, [])),
        (WORKING, WORKING, WORKING, (None, [5, 10, 11], {}, [])),
        (WORKING, WORKING, WAITING, (None, [5, 10], {11: "servant"}, [])),
        (WORKING, WAITING, WAITING, (None, [5], {10: "servant", 11: "servant"}, [])),
    ],
)
@pytest.mark.parametrize("command", [TRAIN, SPAWNED], ids=["fork", "spawn"])
def test_who_works_is_a_rank(
    command: tuple[str, ...], parent: float, first: float, second: float, expected: object
) -> None:
    (job,) = families(process(5), process(10, 5, command), process(11, 5, command), p5=parent, p10=first, p11=second)
    assert summary(job) == expected


@pytest.mark.parametrize(("life_s", "ranks"), [(100.0, [10]), (1.0, [5])])
def test_when_all_wait_their_lives_tell(life_s: float, ranks: list[int]) -> None:
    (job,) = families(process(5, cpu_s=5.0), process(10, 5, cpu_s=life_s))
    assert summary(job)[1] == ranks


def test_before_torch_2_5_children_are_taken_for_workers() -> None:
    (job,) = families(process(5), process(10, 5), process(11, 5, SPAWNED), names=False, p10=WORKING)
    assert summary(job) == (None, [5], {10: "worker", 11: "worker"}, [])


@pytest.mark.parametrize("torch", [False, True])
def test_workers_of_spawned_ranks_are_theirs(torch: bool) -> None:
    """And a fork server, even with torch in it, is nobody's rank."""
    (job,) = families(
        process(5),
        process(10, 5, SPAWNED),
        process(11, 10, SPAWNED, name=WORKER_NAME),
        process(12, 5, SPAWNED),
        process(13, 12, SERVER, torch=torch),
        process(14, 13, SERVER, name=WORKER_NAME),
        p10=WORKING,
        p12=WORKING,
    )
    assert summary(job) == (5, [10, 12], {11: "worker", 13: "servant", 14: "worker"}, [])


def test_a_parent_without_torch_is_a_launcher() -> None:
    (job,) = families(process(5, torch=False), process(10, 5, SPAWNED), process(11, 5, SPAWNED), p10=WORKING)
    assert summary(job) == (5, [10, 11], {}, [])


def test_what_has_not_loaded_torch_yet_is_starting() -> None:
    agent = process(5, 1, ("python", "/bin/torchrun", "train.py"))
    (job,) = families(agent, process(10, 5, torch=False, environment=numbered(0)))
    assert summary(job) == (5, [], {}, [10])


def test_a_job_of_its_own_below_another_program() -> None:
    """A sweep with torch in it starts runs: each is a job."""
    jobs = families(process(5, 1, ("python", "sweep.py")), process(10, 5), process(11, 5))
    assert [summary(job)[1] for job in jobs] == [[5], [10], [11]]
