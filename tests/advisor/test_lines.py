"""The user's line: stacks by hand, of the loops and frameworks that people use."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from tests.advisor import windows
from torchtop.advisor.lines import Line, Phase, find_line
from torchtop.seen import GcPause, LoaderFacts, RankSeen, StackCount, Stacks
from torchtop.snapshot import Frame

SITE = "/opt/env/lib/python3.11/site-packages"
STANDARD = "/usr/lib/python3.11"
LOOP = "/home/me/train.py"

# A stack is written as a person reads it, outermost first: "function file:line".
CALL = f"Module._wrapped_call_impl {SITE}/torch/nn/modules/module.py:1778 > Module._call_impl {SITE}/torch/nn/modules/module.py:1789"
FORWARD = f"{CALL} > Linear.forward {SITE}/torch/nn/modules/linear.py:130"
BACKWARD = (
    f"Tensor.backward {SITE}/torch/_tensor.py:623 > backward {SITE}/torch/autograd/__init__.py:395"
    f" > _engine_run_backward {SITE}/torch/autograd/graph.py:979"
)
WRAPPER = f"Optimizer.profile_hook_step.<locals>.wrapper {SITE}/torch/optim/optimizer.py:514"
STEP = f"{WRAPPER} > _use_grad {SITE}/torch/optim/optimizer.py:81 > Adam.step {SITE}/torch/optim/adam.py:248"
NEXT = (
    f"_BaseDataLoaderIter.__next__ {SITE}/torch/utils/data/dataloader.py:725"
    f" > _SingleProcessDataLoaderIter._next_data {SITE}/torch/utils/data/dataloader.py:780"
)
FETCH = f"_MapDatasetFetcher.fetch {SITE}/torch/utils/data/_utils/fetch.py:54"
WORKER = f"_worker_loop {SITE}/torch/utils/data/_utils/worker.py:374"
ZERO = f"DisableContext.__call__.<locals>._fn {SITE}/torch/_dynamo/eval_frame.py:1446 > Optimizer.zero_grad {SITE}/torch/optim/optimizer.py:1057"
SAVE = f"save {SITE}/torch/serialization.py:965 > _save {SITE}/torch/serialization.py:1200"
JSON = f"dumps {STANDARD}/json/__init__.py:231 > JSONEncoder.encode {STANDARD}/json/encoder.py:200"
FIT = f"<module> {LOOP}:90 > Trainer.fit {SITE}/lightning/pytorch/trainer/trainer.py:560 > _TrainingEpochLoop.advance {SITE}/lightning/pytorch/loops/training_epoch_loop.py:320"
CLOSURE = f"{STEP} > Closure.__call__ {SITE}/lightning/pytorch/loops/optimization/automatic.py:142 > Closure.closure {SITE}/lightning/pytorch/loops/optimization/automatic.py:126 > training_step {LOOP}:40"


def frames(text: str) -> tuple[Frame, ...]:
    found = []
    for part in reversed(text.split(" > ")):
        function, _, place = part.partition(" ")
        file, _, line = place.rpartition(":")
        found.append(Frame(function=function, file=file, line=int(line)))
    return tuple(found)


def taken(counts: dict[str, int], pid: int = windows.PID) -> Stacks:
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    return Stacks(
        pid=pid,
        samples=sum(counts.values()),
        rate_hz=20.0,
        counts=tuple(StackCount(frames=frames(text), count=count) for text, count in ordered),
    )


def rank(counts: dict[str, int], workers: dict[str, int] | None = None, other: float = 0.3, **changes: Any) -> RankSeen:
    """A rank with stacks of its training thread, and of a worker; other: what its steps say is nobody's."""
    changes.setdefault("facts", windows.facts(loader=LoaderFacts(workers=1 if workers else 0)))
    return windows.rank(
        stacks=(taken(counts), *([taken(workers, windows.PID + 9)] if workers else [])),
        phases=windows.phases(data=0.0, forward=0.7 - other, backward=0.25, optimizer=0.05),
        **changes,
    )


def place(found: Line | str) -> tuple[str, int]:
    assert isinstance(found, Line), found
    return found.frame.file, found.frame.line


def loop(**lines: str) -> dict[str, str]:
    """`main` of a script: what is called at which of its lines."""
    return {name: f"<module> {LOOP}:99 > main {LOOP}:{text}" for name, text in lines.items()}


PLAIN = loop(forward=f"10 > {FORWARD}", backward=f"12 > {BACKWARD}", step=f"13 > {STEP}", zero=f"14 > {ZERO}")
COMPUTES = {PLAIN["forward"]: 20, PLAIN["backward"]: 30, PLAIN["step"]: 6, PLAIN["zero"]: 4}


@pytest.mark.parametrize(
    ("stall", "at"),
    [
        ("16", (LOOP, 16)),
        (f"16 > log_metrics /home/me/helpers.py:4 > {JSON}", ("/home/me/helpers.py", 4)),
        ("16 > Run.log.<locals>.<lambda> /home/me/helpers.py:7", ("/home/me/helpers.py", 7)),
        ("16 > batches.<locals>.<genexpr> /home/me/helpers.py:8", ("/home/me/helpers.py", 8)),
        (f"16 > callback {SITE}/wandb/sdk/wandb_run.py:400 > mine /home/me/helpers.py:9", ("/home/me/helpers.py", 9)),
        (f"16 > DataFrame.to_csv {SITE}/pandas/core/frame.py:3700", (LOOP, 16)),
        (f"16 > Tensor.__repr__ {SITE}/torch/_tensor.py:500 > _str {SITE}/torch/_tensor_str.py:690", (LOOP, 16)),
        (f"16 > clip_grad_norm_ {SITE}/torch/nn/utils/clip_grad.py:20", (LOOP, 16)),
        ("16 > cell <ipython-input-3-0a1b>:5", ("<ipython-input-3-0a1b>", 5)),
        ("16 > cell /tmp/ipykernel_77/31.py:5", ("/tmp/ipykernel_77/31.py", 5)),
        (f"16 > runs {STANDARD}/contextlib.py:81 > f /srv/torch/mine.py:3", ("/srv/torch/mine.py", 3)),
        ("16 > __init__ <string>:3 > _find <frozen importlib._bootstrap>:5", (LOOP, 16)),
    ],
)
def test_other_is_the_innermost_line_of_the_user(stall: str, at: tuple[str, int]) -> None:
    found = find_line(rank({**COMPUTES, loop(stall=stall)["stall"]: 25}), "other")
    assert place(found) == at
    assert isinstance(found, Line) and (found.share, found.samples) == (1.0, 25)


def test_a_program_of_the_command_line_is_the_users() -> None:
    counts = {f"<module> <string>:3 > {FORWARD}": 20, "<module> <string>:9 > slow <string>:2": 20}
    assert place(find_line(rank(counts), "other")) == ("<string>", 2)


def test_the_heavier_branch_wins_over_the_heaviest_single_line() -> None:
    spread = {f"<module> {LOOP}:99 > main {LOOP}:16 > render /home/me/helpers.py:{line}": 10 for line in range(1, 7)}
    found = find_line(rank({**COMPUTES, **spread, f"<module> {LOOP}:99 > main {LOOP}:17": 15}), "other")
    # None of the six lines of `render` holds a third of it: the call of it is the place.
    assert place(found) == (LOOP, 16)
    assert isinstance(found, Line) and found.share == pytest.approx(60 / 75)
    assert [frame.line for frame in found.callers] == [99]


def test_the_line_that_calls_main_is_never_the_answer() -> None:
    many = {f"<module> {LOOP}:99 > main {LOOP}:{line}": 6 for line in range(20, 27)}
    assert place(find_line(rank({**COMPUTES, **many}), "other"))[1] in range(20, 27)


def test_the_loss_is_not_nobodys_where_the_rest_explains_the_time() -> None:
    loss = f"<module> {LOOP}:99 > main {LOOP}:11"
    stall = f"<module> {LOOP}:99 > main {LOOP}:16"
    assert place(find_line(rank({**COMPUTES, loss: 40, stall: 20}, other=0.2), "other")) == (LOOP, 16)


def test_a_wait_between_forward_and_backward_counts_where_nothing_else_explains_the_time() -> None:
    between = f"<module> {LOOP}:99 > main {LOOP}:11"
    small = f"<module> {LOOP}:99 > main {LOOP}:16"
    assert place(find_line(rank({**COMPUTES, between: 60, small: 5}, other=0.5), "other")) == (LOOP, 11)


def test_what_two_losses_surround_is_not_between_one_forward_and_its_backward() -> None:
    gan = loop(
        f1=f"10 > {FORWARD}", b1=f"12 > {BACKWARD}", s1=f"13 > {STEP}", f2=f"20 > {FORWARD}", b2=f"22 > {BACKWARD}"
    )
    counts = {**dict.fromkeys(gan.values(), 10), **dict.fromkeys(loop(a="11", c="21").values(), 30)}
    stall = f"<module> {LOOP}:99 > main {LOOP}:16"
    assert place(find_line(rank({**counts, stall: 25}, other=0.2), "other")) == (LOOP, 16)


class TestFrameworks:
    """The step is called by a framework: the line that starts it all says nothing."""

    COMPUTES: ClassVar = {f"{FIT} > {CLOSURE} > {FORWARD}": 20, f"{FIT} > {STEP}": 5}

    def test_the_users_callback(self) -> None:
        stall = f"{FIT} > _call_callback_hooks {SITE}/lightning/pytorch/trainer/call.py:228 > on_batch_end {LOOP}:60"
        assert place(find_line(rank({**self.COMPUTES, stall: 20}), "other")) == (LOOP, 60)

    def test_work_in_the_closure_that_the_optimizer_calls(self) -> None:
        stall = f"{FIT} > {CLOSURE.replace(':40', ':45')} > augment {LOOP}:70"
        assert place(find_line(rank({**self.COMPUTES, stall: 20}), "other")) == (LOOP, 70)

    def test_work_of_the_frameworks_own(self) -> None:
        stall = f"{FIT} > CSVLogger.save {SITE}/lightning/pytorch/loggers/csv_logs.py:140 > DictWriter.writerow {STANDARD}/csv.py:154"
        assert place(find_line(rank({**self.COMPUTES, stall: 20}), "other")) == (
            f"{SITE}/lightning/pytorch/loggers/csv_logs.py",
            140,
        )

    def test_a_program_without_any_code_of_the_users(self) -> None:
        counts = {
            f"<module> {SITE}/tune/train.py:9 > {FORWARD}": 20,
            f"<module> {SITE}/tune/train.py:11 > log {SITE}/tune/log.py:3 > {JSON}": 20,
        }
        assert place(find_line(rank(counts), "other")) == (f"{SITE}/tune/log.py", 3)

    def test_all_on_one_line(self) -> None:
        line = f"<module> {LOOP}:1"
        assert place(find_line(rank({f"{line} > {FORWARD}": 20, line: 20}), "other")) == (LOOP, 1)

    def test_an_optimizer_of_the_users_own_is_the_optimizer(self) -> None:
        own = f"<module> {LOOP}:13 > {WRAPPER} > Lion.step /home/me/lion.py:30"
        assert isinstance(find_line(rank({**COMPUTES, own: 20}), "other"), str)


def data(text: str) -> str:
    return f"<module> {LOOP}:99 > main {LOOP}:9 > {NEXT} > {text}"


@pytest.mark.parametrize(
    ("loading", "at"),
    [
        (f"{FETCH} > Slow.__getitem__ /home/me/data.py:7", ("/home/me/data.py", 7)),
        (f"{FETCH} > Slow.__getitem__ /home/me/data.py:7 > open {SITE}/PIL/Image.py:3500", ("/home/me/data.py", 7)),
        (f"{FETCH} > collate /home/me/data.py:30", ("/home/me/data.py", 30)),
        (
            f"{FETCH} > Subset.__getitem__ {SITE}/torch/utils/data/dataset.py:400 > My.__getitem__ /home/me/data.py:5",
            ("/home/me/data.py", 5),
        ),
        (
            f"{FETCH} > ImageFolder.__getitem__ {SITE}/torchvision/datasets/folder.py:245 > loads {SITE}/PIL/Image.py:900",
            (f"{SITE}/PIL/Image.py", 900),
        ),
    ],
)
def test_data_is_the_line_inside_the_loader(loading: str, at: tuple[str, int]) -> None:
    assert place(find_line(rank({**COMPUTES, data(loading): 20}), "data")) == at
    forked = (
        f"<module> {LOOP}:99 > main {LOOP}:9 > Popen._launch {STANDARD}/multiprocessing/popen_fork.py:71 > {WORKER}"
    )
    waits = f"{forked} > Queue.get {STANDARD}/multiprocessing/queues.py:113"
    worker = {f"{forked} > {loading}": 20, waits: 60}
    found = find_line(rank({**COMPUTES, data(f"get {STANDARD}/queue.py:180"): 20}, worker), "data")
    assert place(found) == at
    assert isinstance(found, Line) and found.samples == 20, "a worker that waits for an index does not load"


def test_torchs_own_collate_is_nobodys_line() -> None:
    torchs = data(f"{FETCH} > default_collate {SITE}/torch/utils/data/_utils/collate.py:398")
    found = find_line(rank({**COMPUTES, torchs: 20}), "data")
    assert isinstance(found, str) and "none outside PyTorch" in found
    mixed = find_line(rank({**COMPUTES, torchs: 80, data(f"{FETCH} > f /home/me/data.py:7"): 20}), "data")
    assert isinstance(mixed, Line) and mixed.share == pytest.approx(0.2)


def test_workers_that_nobody_looked_at() -> None:
    found = find_line(rank(COMPUTES, facts=windows.facts()), "data")
    assert isinstance(found, str) and "workers" in found


def test_saving_is_the_line_that_saves() -> None:
    saving = f"<module> {LOOP}:99 > main {LOOP}:20 > keep /home/me/ckpt.py:5 > {SAVE} > Mine.__reduce__ /home/me/m.py:1"
    seen = rank({**COMPUTES, saving: 20})
    assert place(find_line(seen, "save")) == ("/home/me/ckpt.py", 5)
    assert isinstance(find_line(seen, "other"), str)


def test_a_wait_for_the_device_is_in_a_call_of_c_outside_the_passes_or_in_forward() -> None:
    item = f"<module> {LOOP}:99 > main {LOOP}:15"
    python = f"{item} > {JSON}"
    assert place(find_line(rank({**COMPUTES, item: 20, python: 30}), "sync")) == (LOOP, 15)
    inside = f"<module> {LOOP}:99 > main {LOOP}:10 > {CALL} > Net.forward /home/me/net.py:8"
    assert place(find_line(rank({**COMPUTES, inside: 20}), "sync")) == ("/home/me/net.py", 8)
    waits = f"<module> {LOOP}:99 > main {LOOP}:17 > synchronize {SITE}/torch/cuda/__init__.py:1040"
    assert place(find_line(rank({**COMPUTES, waits: 20}), "sync")) == (LOOP, 17)


def test_pauses_of_the_collector_have_their_lines_from_the_probe() -> None:
    frame = Frame(function="log", file=LOOP, line=3)
    pauses = (GcPause(1.0, 0.3, 2, frame), GcPause(2.0, 0.1, 2, None))
    found = find_line(rank({}, gc_pauses=pauses), "gc")
    assert isinstance(found, Line) and (found.frame, found.samples) == (frame, 2)
    assert found.share == pytest.approx(0.75)
    assert isinstance(find_line(rank({}), "gc"), str)


@pytest.mark.parametrize("phase", ["other", "data", "save", "sync"])
def test_without_stacks_the_reason_is_passed_on(phase: Phase) -> None:
    bare = windows.rank(stacks_reason="py-spy may not read process 1", workers={})
    assert find_line(bare, phase) == "py-spy may not read process 1"
    assert isinstance(find_line(windows.rank(), phase), str)


def test_few_samples_name_no_line() -> None:
    stall = f"<module> {LOOP}:99 > main {LOOP}:16"
    found = find_line(rank({**COMPUTES, stall: 4}), "other")
    assert isinstance(found, str) and "4 samples" in found


@pytest.mark.parametrize("prefix", ["/opt/env/lib/python3.11", "/usr/lib/python3", "/home/me/.local/lib/python3.9"])
def test_functions_without_classes_and_other_places_of_torch_are_known(prefix: str) -> None:
    """Before Python 3.11 py-spy knows no qualified names."""
    packages = "dist-packages" if prefix.endswith("python3") else "site-packages"
    torch = f"{prefix}/{packages}/torch"
    counts = {
        f"<module> {LOOP}:10 > _call_impl {torch}/nn/modules/module.py:1501 > forward {torch}/nn/modules/linear.py:1": 20,
        f"<module> {LOOP}:12 > backward {torch}/_tensor.py:487": 20,
        f"<module> {LOOP}:13 > wrapper {torch}/optim/optimizer.py:280 > step {torch}/optim/sgd.py:76": 20,
        f"<module> {LOOP}:14 > zero_grad {torch}/optim/optimizer.py:400": 20,
        f"<module> {LOOP}:9 > __next__ {torch}/utils/data/dataloader.py:630": 20,
        f"<module> {LOOP}:16": 6,
    }
    assert place(find_line(rank(counts), "other")) == (LOOP, 16)


def test_work_of_a_compiled_model_is_no_line_of_the_users() -> None:
    compiled = {
        f"<module> {LOOP}:10 > {CALL} > inner {SITE}/torch/_dynamo/eval_frame.py:600 > call /tmp/torchinductor_me/ab/cab.py:90": 20,
        f"<module> {LOOP}:10 > call /tmp/torchinductor_me/ab/cab.py:90": 20,
        f"<module> {LOOP}:16": 6,
    }
    assert place(find_line(rank(compiled), "other")) == (LOOP, 16)
