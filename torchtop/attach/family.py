"""Which processes are one job: its ranks, and the launcher, workers and servants around them. Pure: no /proc here.

Known for certain are processes that a launcher numbered in their environment, and DataLoader workers that carry
torch's name for them (torch >= 2.5; before that every child of multiprocessing is taken for a worker). What is left
are children that multiprocessing or fork started: `torch.multiprocessing.spawn` and Hogwild train in them, a
`ProcessPoolExecutor` prepares data in them, and nothing in /proc tells one from the other. So their CPU use is looked
at, and their parent's:

- the parent rests, a child works: the parent is a launcher, all children are ranks;
- the parent works: it is a rank, and so is each child that works (actors beside a learner);
- nobody works: as above, with the CPU time of their whole lives.

Traps: a pool that works looks like ranks, also to a parent that waits for its result; a parent that wakes only to
evaluate is a rank while it does. Who is attached to and never makes a step says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from torchtop.attach.census import Census, Process, Use
from torchtop.attach.role import (
    WORKER_NAME,
    Identity,
    Numbering,
    is_launcher,
    is_multiprocessing,
    is_servant,
    numbering,
)

WORKS = 0.05  # cores wanted; a parent that waits wants none, a polling launcher 0.01
STARTING_S = 120.0  # s in which a rank must have loaded torch: an import from a cold network disk takes a minute

Key = tuple[object, ...]


class Member(NamedTuple):
    """A process of a family: "rank", "worker" (of a DataLoader) or "servant"; `of` is the rank that it works for."""

    process: Process
    role: str
    of: int
    numbering: Numbering | None = None


class Family(NamedTuple):
    """All processes of one job on this machine."""

    key: Key
    launcher: Process | None
    members: tuple[Member, ...]
    starting: tuple[Process, ...]
    """Look like ranks, and have not loaded torch yet."""

    @property
    def ranks(self) -> tuple[Member, ...]:
        """By rank, where it is known, else by pid."""
        ranks = [member for member in self.members if member.role == "rank"]

        def place(member: Member) -> tuple[bool, int, int]:
            rank = member.numbering.rank if member.numbering else None
            return rank is None, rank or 0, member.process.pid

        return tuple(sorted(ranks, key=place))

    @property
    def pids(self) -> frozenset[int]:
        """Everything that means this job as a TARGET."""
        launcher = {self.launcher.pid} if self.launcher else set()
        return frozenset(launcher | {member.process.pid for member in self.members} | {p.pid for p in self.starting})


class _Group:
    """A family that is still being put together."""

    def __init__(self) -> None:
        self.launcher: Process | None = None
        self.members: list[Member] = []
        self.starting: list[Process] = []


class Families:
    """Sorts a census. `undecided` names the processes whose CPU use `sort` has to be told."""

    def __init__(self, census: Census, names_workers: Callable[[Process], bool]) -> None:
        self._census = census
        self._names_workers = names_workers
        self._numberings = {pid: numbering(process.environment) for pid, process in census.items()}
        self._children: dict[int, list[int]] = defaultdict(list)
        for process in census.values():
            self._children[process.parent].append(process.pid)
        self._above = {pid: self._look_up(process) for pid, process in census.items() if process.python}
        self._candidates = self._find_candidates()

    def undecided(self) -> tuple[int, ...]:
        """Children that may train or not, and their parents."""
        return tuple({pid for parent, children in self._candidates.items() for pid in (parent, *children)})

    def sort(self, uses: Mapping[int, Use]) -> tuple[Family, ...]:
        """All families, by the pid of their first rank."""
        groups: dict[Key, _Group] = defaultdict(_Group)
        ranks = self._numbered(groups)
        ranks.update(self._unnumbered(groups, uses, ranks))
        self._add_below(groups, ranks)
        self._add_starting(groups, ranks)
        found = [
            Family(key, group.launcher, tuple(group.members), tuple(group.starting)) for key, group in groups.items()
        ]
        return tuple(sorted(found, key=lambda family: min(family.pids, default=0)))

    # What stands above a process

    def _parents(self, process: Process) -> Iterator[Process]:
        seen = {process.pid}
        while (above := self._census.get(process.parent)) is not None and above.pid not in seen:
            seen.add(above.pid)
            yield above
            process = above

    def _look_up(self, process: Process) -> Process | None:
        """The nearest process above that may be its rank or launcher; wrappers and fork servers are passed over."""
        parent = self._census.get(process.parent)
        for above in self._parents(process):
            if is_launcher(above.name, above.command):
                return above
            if self._serves(above) or not above.python:
                continue
            if above.libtorch or self._is_forked(process, parent, above):
                return above
            if process.parent == above.pid and self._numberings[process.pid] and not self._numberings[above.pid]:
                return above  # a launcher of somebody's own, which needs no torch to count
        return None

    def _serves(self, process: Process) -> bool:
        """Whether torch or multiprocessing keeps it beside a rank: its children are, as far as they go, the rank's."""
        parent = self._census.get(process.parent)
        forks = "multiprocessing.forkserver" in _line(process)  # so do its children say, who are copies of it
        return is_servant(_line(process)) or (forks and (parent is None or parent.command != process.command))

    def _is_forked(self, process: Process, parent: Process | None, above: Process) -> bool:
        if self._numberings[process.pid] != self._numberings[above.pid]:
            return False  # it was started anew, with an environment of its own, even if the command line is the same
        return is_multiprocessing(_identity(process), _identity(parent or above), _identity(above))

    def _forked_from(self, process: Process) -> Process | None:
        """The process for which multiprocessing started it; None for a program of its own."""
        above = self._above.get(process.pid)
        if above is None or is_launcher(above.name, above.command):
            return None
        return above if self._is_forked(process, self._census.get(process.parent), above) else None

    def _find_candidates(self) -> dict[int, list[int]]:
        """Parent -> children of multiprocessing that may train: with torch, without a number, without a worker's name."""
        found: dict[int, list[int]] = defaultdict(list)
        for process in self._census.values():
            above = self._forked_from(process) if process.libtorch else None
            if above is None or process.name == WORKER_NAME or self._serves(process):
                continue
            if self._numberings[process.pid] or any(up.name == WORKER_NAME for up in self._parents(process)):
                continue
            if self._names_workers(process):
                found[above.pid].append(process.pid)
        return found

    # Ranks

    def _numbered(self, groups: dict[Key, _Group]) -> dict[int, Key]:
        """Processes that a launcher numbered, each group with its launcher."""
        ranks: dict[int, Key] = {}
        taken: dict[tuple[Key, int | None, int | None], int] = {}
        for process in self._torch():
            own = self._numberings[process.pid]
            above = self._above.get(process.pid)
            if own is None or is_launcher(process.name, process.command) or process.name == WORKER_NAME:
                continue
            launched = above is not None and is_launcher(above.name, above.command)
            if above is not None and not launched and self._numberings[above.pid] == own:
                continue  # a child of a rank has its environment
            key: Key = ("numbered", process.uid, process.network, *own.job)
            # Two jobs on the default port: one of them has ended and its ranks have not.
            place = (key, own.rank, own.local_rank)
            if place in taken and self._census[taken[place]].parent != process.parent:
                key = (*key, process.parent)
            taken.setdefault(place, process.pid)
            ranks[process.pid] = key
            group = groups[key]
            group.members.append(Member(process, "rank", process.pid, own))
            if above is not None and (launched or self._numberings[above.pid] != own):
                group.launcher = group.launcher or above
        for key, group in groups.items():
            self._lightning(key, group, ranks)
        return ranks

    def _lightning(self, key: Key, group: _Group, ranks: dict[int, Key]) -> None:
        """Lightning's launcher is local rank 0 itself: then nobody else is it."""
        above = group.launcher
        first = any(member.numbering and member.numbering.local_rank in (0, None) for member in group.members)
        if above is None or first or not above.libtorch or is_launcher(above.name, above.command):
            return
        group.launcher = None
        group.members.append(Member(above, "rank", above.pid, None))
        ranks[above.pid] = key

    def _unnumbered(
        self, groups: dict[Key, _Group], uses: Mapping[int, Use], numbered: dict[int, Key]
    ) -> dict[int, Key]:
        """Programs that nobody numbered, and those of their children that train."""
        ranks: dict[int, Key] = {}
        launchers = {group.launcher.pid for group in groups.values() if group.launcher is not None}
        for process in self._torch():
            above = self._above.get(process.pid)
            if process.pid in numbered or self._numberings[process.pid] or process.pid in launchers:
                continue
            if is_launcher(process.name, process.command):
                groups["launcher", process.pid, process.start_ticks].launcher = process
            elif self._forked_from(process) is None and not self._serves(process):
                launched = above is not None and is_launcher(above.name, above.command)
                root = above if above is not None and launched else process
                key: Key = ("launcher", root.pid, root.start_ticks)
                groups[key].launcher = root if launched else None
                self._split(groups, ranks, key, process, uses)
        for parent in self._candidates:
            process = self._census[parent]
            if not process.libtorch:  # it loads torch in its children only
                key = ("launcher", parent, process.start_ticks)
                self._split(groups, ranks, key, process, uses)
        # torchrun has torch too; it is no job of its own beside its numbered ranks.
        for key in [key for key, group in groups.items() if group.launcher and not group.members]:
            if any(group.launcher == groups[key].launcher and group.members for group in groups.values()):
                del groups[key]
        return ranks

    def _split(
        self, groups: dict[Key, _Group], ranks: dict[int, Key], key: Key, parent: Process, uses: Mapping[int, Use]
    ) -> None:
        """Tell which of a parent and its children train, by what they do (see the top of this file)."""
        named = {pid for pid in self._candidates.get(parent.pid, ()) if pid in uses and uses[pid].name == WORKER_NAME}
        children = [self._census[pid] for pid in self._candidates.get(parent.pid, ()) if pid not in named]
        trains = bool(parent.libtorch)
        if children:
            working = [child for child in children if _works(child, uses)]
            if trains and _works(parent, uses):
                children = working
            elif trains and not working and max(child.cpu_s for child in children) <= parent.cpu_s:
                children = []
            else:
                trains = False
        group = groups[key]
        if trains:
            ranks[parent.pid] = key
            group.members.append(Member(parent, "rank", parent.pid))
        else:
            group.launcher = group.launcher or parent
        for child in children:
            ranks[child.pid] = key
            self._split(groups, ranks, key, child, uses)

    # Who is no rank

    def _add_below(self, groups: dict[Key, _Group], ranks: dict[int, Key]) -> None:
        """Give each rank its workers and servants."""
        for process in self._census.values():
            if process.pid in ranks or not process.python:
                continue
            rank = next((above for above in self._parents(process) if above.pid in ranks), None)
            if rank is None:
                continue
            parent = self._census[process.parent]
            forked = is_multiprocessing(_identity(process), _identity(parent), _identity(rank))
            if process.name == WORKER_NAME or (forked and process.libtorch and not self._names_workers(process)):
                role = "worker"
            elif forked or self._serves(process) or self._inherits(process, rank):
                role = "servant"
            else:
                continue
            groups[ranks[rank.pid]].members.append(Member(process, role, rank.pid))

    def _inherits(self, process: Process, rank: Process) -> bool:
        """Whether it is a program that a numbered rank started."""
        own = self._numberings[process.pid]
        return own is not None and own == self._numberings[rank.pid]

    def _add_starting(self, groups: dict[Key, _Group], ranks: dict[int, Key]) -> None:
        """Young Pythons without torch, numbered or started by multiprocessing, that no rank stands above."""
        launchers = {group.launcher.pid: key for key, group in groups.items() if group.launcher is not None}
        for process in self._census.values():
            if process.libtorch or not process.python or not process.readable or process.age_s > STARTING_S:
                continue
            above = self._above.get(process.pid)
            if above is None or self._serves(process) or any(up.pid in ranks for up in self._parents(process)):
                # Under a rank it may be one of its workers, but also the first child of a launcher that looks like it.
                if above is not None and above.pid in ranks and self._may_be_launched(process, above):
                    groups[ranks[above.pid]].starting.append(process)
                continue
            if above.pid in launchers:
                groups[launchers[above.pid]].starting.append(process)

    def _may_be_launched(self, process: Process, above: Process) -> bool:
        own = self._numberings[process.pid]
        if own is not None:
            return own != self._numberings[above.pid] and own.local_rank in (0, None)
        return self._numberings[above.pid] is None and "multiprocessing.spawn" in _line(process)

    def _torch(self) -> list[Process]:
        return [process for process in self._census.values() if process.libtorch]


def _works(process: Process, uses: Mapping[int, Use]) -> bool:
    use = uses.get(process.pid)
    if use is None:
        return False
    wanted = use.wanted_share if use.wanted_share is not None else use.cpu_share
    return wanted is not None and wanted > WORKS


def _identity(process: Process) -> Identity:
    return Identity(process.name, process.exe, _line(process))


def _line(process: Process) -> str:
    """The command line as multiprocessing's marks are looked for in it."""
    return "\0".join(process.command)
