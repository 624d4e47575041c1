"""Jobs that listen: started by `torchtop run`, or with `import torchtop.listen` in the script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from torchtop.attach import payload, proc, rendezvous
from torchtop.attach.connect import Connection, attach
from torchtop.attach.launch import job_environment, launch, skipping_option
from torchtop.attach.rendezvous import Meeting
from torchtop.errors import UsageError

TIMEOUT_S = 90.0
ACCEPTS = "00010000"  # flag of a listening socket in /proc/net/unix
RUN = (sys.executable, "-m", "torchtop", "run", "--")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TORCHTOP_DISABLE", "TMPDIR")},
    "OMP_WAIT_POLICY": "passive",
    "OMP_NUM_THREADS": "1",
}
TRAIN = """
import os, sys, time
import torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while not os.path.exists("stop"):
    optimizer.zero_grad()
    model(torch.ones(4, 8)).square().mean().backward()
    optimizer.step()
    time.sleep(0.001)
print("trained")
"""
PRETEND = """
import os, sys, threading, time, types
torch = sys.modules["torch"] = types.ModuleType("torch")
torch.__version__ = "0"
while not os.path.exists("stop"):
    time.sleep(0.01)
print("pretended")
"""

Waiter = Callable[[Callable[[], Any], str], Any]


class Job:
    """A running program with its output in files, and a file that ends it."""

    def __init__(self, folder: Path, command: tuple[str, ...], environment: dict[str, str]) -> None:
        self.folder = folder
        with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
            )
        self.pid = self.process.pid

    def output(self) -> tuple[str, str]:
        """What it has printed so far: stdout, stderr."""
        return (self.folder / "out").read_text(), (self.folder / "err").read_text()

    def finish(self) -> int:
        """Let it end and wait for that; return its exit code."""
        (self.folder / "stop").touch()
        return self.process.wait(TIMEOUT_S)


Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(source, *command before the script, NAME="value"...)`: run a script until the test ends."""
    jobs: list[Job] = []

    def run(source: str, *command: str, **environment: str) -> Job:
        folder = tmp_path / f"job{len(jobs)}"
        folder.mkdir()
        (folder / "job.py").write_text(textwrap.dedent(source))
        jobs.append(Job(folder, (*command, "job.py"), {**ENVIRONMENT, **environment}))
        return jobs[-1]

    yield run
    for job in jobs:
        try:
            job.finish()
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()


def listening(pid: int) -> list[Meeting]:
    """Sockets of `pid` that somebody would be let in on now: bound is not enough."""
    lines = [line.split() for line in (proc.PROC / "net/unix").read_text().splitlines()]
    open_paths = {line[7] for line in lines if len(line) == 8 and line[3] == ACCEPTS}
    try:
        meetings = rendezvous.existing_meetings(pid)
    except OSError:
        return []
    return [meeting for meeting in meetings if f"{meeting.folders[0]}/{meeting.file}" in open_paths]


def wait_listening(wait_for: Waiter, job: Job, pid: int | None = None, but: tuple[Meeting, ...] = ()) -> Meeting:
    def ready() -> list[Meeting]:
        assert job.process.poll() is None, f"the job ended early: {job.output()}"
        return [meeting for meeting in listening(pid or job.pid) if meeting not in but]

    (meeting,) = wait_for(ready, "the job to listen")
    assert isinstance(meeting, Meeting)
    return meeting


def hello(connection: Connection) -> dict[str, Any]:
    """The first line that the probe says."""
    connection.channel.socket.settimeout(TIMEOUT_S)
    with connection.channel.socket.makefile("rb") as lines:
        said: dict[str, Any] = json.loads(lines.readline())
    return said


def visit(pid: int) -> dict[str, Any]:
    """Attach to a job that listens, hear its hello, and leave by closing the socket."""
    connection = attach(pid)
    try:
        assert connection.method == "cooperative"
        assert connection.pause_s is None
        said = hello(connection)
        assert said["type"] == "hello", said
        return said
    finally:
        connection.channel.socket.close()


def pythons() -> dict[str, str]:
    """Interpreters other than ours, by version, that have no torchtop."""
    found: dict[str, str] = {}
    for version in ("3.9", "3.10", "3.11", "3.12", "3.13"):
        candidates = [shutil.which(f"python{version}")]
        versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        candidates += [str(path) for path in sorted(versions.glob(f"{version}.*/bin/python"))]
        for candidate in filter(None, candidates):
            ask = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torchtop') is not None)"
            if subprocess.run([candidate, "-c", ask], capture_output=True, check=False, cwd="/").returncode == 0:
                found[version] = candidate
    return found


PYTHONS = pythons()


@pytest.fixture(params=["3.9", "3.10", "3.11", "3.12", "3.13"])
def python(request: pytest.FixtureRequest) -> str:
    """Another interpreter; skipped where there is none of that version."""
    if request.param not in PYTHONS:
        pytest.skip(f"no Python {request.param} here")
    return PYTHONS[request.param]


def test_a_job_is_attached_to_again_and_again(start: Start, wait_for: Waiter) -> None:
    job = start(TRAIN, *RUN, sys.executable)
    seen: tuple[Meeting, ...] = ()
    for _ in range(3):
        seen += (wait_listening(wait_for, job, but=seen),)
        assert visit(job.pid)["pid"] == job.pid
    wait_listening(wait_for, job, but=seen)
    assert job.finish() == 0
    assert job.output() == ("trained\n", "")
    assert not any(Path(folder, name).exists() for folder, name in left_over(job.pid))


def left_over(pid: int) -> list[tuple[str, str]]:
    """Sockets named after a process that has ended, in the folders that such a process tries."""
    folders = [Path(folder) for folder in rendezvous.folders(pid, os.geteuid())]
    return [(str(folder), path.name) for folder in folders for path in folder.glob(f"{pid}-*.sock")]


def test_the_jobs_own_sitecustomize_runs(start: Start, wait_for: Waiter, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "sitecustomize.py").write_text("import builtins\nbuiltins.custom = __name__\nanswer = 42\n")
    script = """
    import os, sys, sitecustomize
    print(custom, sitecustomize.answer, sitecustomize.__file__)
    print([entry for entry in sys.path if "torchtop/attach" in entry])
    print(os.environ["PYTHONPATH"].split(os.pathsep)[1:], flush=True)
    """
    job = start(textwrap.dedent(script) + PRETEND, *RUN, sys.executable, PYTHONPATH=str(theirs))
    wait_listening(wait_for, job)
    assert job.finish() == 0
    lines = [f"sitecustomize 42 {theirs}/sitecustomize.py", "[]", f"[{str(theirs)!r}]", "pretended"]
    assert job.output() == ("".join(f"{line}\n" for line in lines), "")


@pytest.mark.parametrize(
    ("source", "words"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("import absent", "No module named 'absent'")],
)
def test_a_broken_sitecustomize_breaks_as_ever(start: Start, tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(source)
    plain = start("", sys.executable, PYTHONPATH=str(tmp_path))
    watched = start("", *RUN, sys.executable, PYTHONPATH=str(tmp_path))
    assert (plain.finish(), watched.finish()) == (0, 0)
    assert words in plain.output()[1]
    # The monitor's own Python has that sitecustomize, too, before it becomes the job.
    assert watched.output()[1] == plain.output()[1] * 2


def test_a_job_without_sitecustomize_has_none(start: Start, python: str) -> None:
    if subprocess.run([python, "-c", "import sitecustomize"], capture_output=True, check=False).returncode == 0:
        pytest.skip("this Python was installed with a sitecustomize of its own")
    script = """
    import sys
    try:
        import sitecustomize
    except ImportError as error:
        print(error.name, "_torchtop_listen" in sys.modules, [entry for entry in sys.path if "torchtop" in entry])
    """
    job = start(script, *RUN, python)
    assert job.finish() == 0
    assert job.output() == ("sitecustomize True []\n", "")


def test_every_rank_of_torchrun_listens(start: Start, wait_for: Waiter) -> None:
    job = start(TRAIN, *RUN, sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    ranks = wait_for(lambda: len(proc.children(job.pid)) == 2 and proc.children(job.pid), "two ranks")
    for pid in ranks:
        wait_listening(wait_for, job, pid)
        assert visit(pid)["pid"] == pid
    assert {proc.environment(pid)["RANK"] for pid in ranks} == {"0", "1"}
    assert job.finish() == 0
    assert job.output() == ("trained\n" * 2, "")


def test_one_line_in_the_script_is_enough(start: Start, wait_for: Waiter) -> None:
    script = """
    import os, sys
    before = set(sys.modules)
    import torchtop.listen
    import torchtop.listen as again
    assert not {"torchtop.attach", "msgspec", "typer", "typing", "torch"} & (set(sys.modules) - before)
    """
    job = start(textwrap.dedent(script) + TRAIN, sys.executable)
    seen = (wait_listening(wait_for, job),)
    visit(job.pid)
    wait_listening(wait_for, job, but=seen)
    assert job.finish() == 0
    assert job.output() == ("trained\n", "")


def test_both_ways_at_once_are_one_socket(start: Start, wait_for: Waiter) -> None:
    job = start("import torchtop.listen\n" + PRETEND, *RUN, sys.executable)
    wait_listening(wait_for, job)
    assert len(rendezvous.existing_meetings(job.pid)) == 1
    assert len(list((proc.PROC / str(job.pid) / "task").iterdir())) == 2


def test_a_forked_child_leaves_its_parents_socket_alone(start: Start, wait_for: Waiter) -> None:
    script = """
    import os, sys, threading, time, types
    sys.modules["torch"] = types.ModuleType("torch")
    while not os.path.exists("fork"):
        time.sleep(0.01)
    child = os.fork()
    if child == 0:
        sys.exit(3)  # with atexit functions, unlike os._exit
    print(os.WEXITSTATUS(os.waitpid(child, 0)[1]), flush=True)
    while not os.path.exists("stop"):
        time.sleep(0.01)
    """
    job = start(script, *RUN, sys.executable, "-Wignore")
    meeting = wait_listening(wait_for, job)
    (job.folder / "fork").touch()
    wait_for(lambda: job.output()[0], "the child to end")
    assert job.output() == ("3\n", "")
    assert listening(job.pid) == [meeting]


def test_signals_stay_with_the_programs_threads(start: Start, wait_for: Waiter) -> None:
    job = start(PRETEND, *RUN, sys.executable)
    wait_listening(wait_for, job)
    blocked = {}
    for task in (proc.PROC / str(job.pid) / "task").iterdir():
        (line,) = [line for line in (task / "status").read_text().splitlines() if line.startswith("SigBlk:")]
        blocked[int(task.name) == job.pid] = int(line.split()[1], 16)
    assert blocked[True] == 0
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
        assert blocked[False] & (1 << (number - 1))
    assert not blocked[False] & (1 << (signal.SIGSEGV - 1))


@pytest.mark.parametrize("way", ["run", "import"])
def test_disabled_does_nothing(start: Start, way: str) -> None:
    script = """
    import os, sys
    print("_torchtop_listen" in sys.modules, len(os.listdir("/proc/self/task")))
    """
    listen, command = ("", RUN) if way == "run" else ("import torchtop.listen\n", ())
    job = start(listen + textwrap.dedent(script), *command, sys.executable, TORCHTOP_DISABLE="1")
    assert job.finish() == 0
    assert job.output() == ("False 1\n", "")


def test_another_python_needs_no_torchtop(start: Start, wait_for: Waiter, python: str) -> None:
    job = start(PRETEND, *RUN, python)
    seen: tuple[Meeting, ...] = ()
    for _ in range(2):
        seen += (wait_listening(wait_for, job, but=seen),)
        said = visit(job.pid)
        assert python_version(python).startswith(said["python"])
    assert job.finish() == 0
    assert job.output() == ("pretended\n", "")


def python_version(python: str) -> str:
    ask = [python, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout


def test_subinterpreters_come_and_go(start: Start, python: str) -> None:
    script = """
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    first = interpreters.create()
    interpreters.run_string(first, "import sys; assert '_torchtop_listen' not in sys.modules")
    interpreters.destroy(first)
    print("destroyed")
    """
    job = start(script, *RUN, python, "-Wignore")
    assert (job.finish(), *job.output()) == (0, "destroyed\n", "")


def test_a_rude_client_is_shown_out(start: Start, wait_for: Waiter) -> None:
    job = start(PRETEND, *RUN, sys.executable)
    meeting = wait_listening(wait_for, job)
    for words in (b"", b"who is there?\n", b"\0" * 200):
        sock = rendezvous.connect(meeting)
        assert sock is not None
        with sock:
            sock.settimeout(TIMEOUT_S)
            sock.sendall(words)
            sock.shutdown(1)
            assert reads_nothing(sock)
    for bundle in (b"many\n", b"3\nabc", b"9\n", b"-1\n"):
        sock = rendezvous.connect(meeting)
        assert sock is not None
        with sock:
            rendezvous.shake_hands(sock, meeting)
            sock.settimeout(TIMEOUT_S)
            sock.sendall(bundle)
            sock.shutdown(1)
            assert reads_nothing(sock)
    visit(job.pid)
    assert job.finish() == 0
    assert job.output() == ("pretended\n", "")


def test_threading_is_left_to_the_program(start: Start, wait_for: Waiter) -> None:
    script = """
    import os, sys, time, types
    torch = sys.modules["torch"] = types.ModuleType("torch")
    torch.__version__ = "0"
    assert "threading" not in sys.modules
    while not os.path.exists("go on"):
        time.sleep(0.01)
    import threading
    while not os.path.exists("stop"):
        time.sleep(0.01)
    print(threading.main_thread().ident == threading.get_ident())
    """
    job = start(script, *RUN, sys.executable)
    wait_for(lambda: len(list((proc.PROC / str(job.pid) / "task").iterdir())) == 2, "the thread")
    (job.folder / "go on").touch()
    wait_listening(wait_for, job)
    visit(job.pid)
    assert job.finish() == 0
    assert job.output() == ("True\n", "")


def reads_nothing(sock: Any) -> bool:
    try:
        return bool(sock.recv(1) == b"")
    except ConnectionResetError:  # it was gone before it had read all that we said
        return True


def test_the_socket_is_where_tmpdir_was_at_the_start(start: Start, wait_for: Waiter) -> None:
    script = 'import os\nos.environ["TMPDIR"] = "/nowhere"\n' + PRETEND
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        job = start(script, *RUN, sys.executable, TMPDIR=folder)
        meeting = wait_listening(wait_for, job)
        assert meeting.folders == (f"{folder}/torchtop-{os.geteuid()}",)
        assert job.finish() == 0
        assert os.listdir(folder) == []


def test_a_tmpdir_too_long_for_a_socket_is_passed_over(start: Start, wait_for: Waiter, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    job = start(PRETEND, *RUN, sys.executable, TMPDIR=str(long))
    assert not wait_listening(wait_for, job).folders[0].startswith(str(long))


@pytest.mark.parametrize(("command", "code"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -9)])
def test_the_exit_code_is_the_commands(command: str, code: int) -> None:
    done = subprocess.run([*RUN, sys.executable, "-c", command], env=ENVIRONMENT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_a_command_sees_sigpipe_as_the_shell_gave_it() -> None:
    show = "import re; print(re.search('SigIgn:.*', open('/proc/%d/status' % __import__('os').getppid()).read())[0])"
    shell = f'{sys.executable} -c "{show}"; true'
    done = subprocess.run([*RUN, "sh", "-c", shell], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << 12)


def test_a_command_that_cannot_be_started_is_a_usage_error(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    for command, words in (("no-such-command", "there is no command"), (str(plain), "Permission denied")):
        done = subprocess.run([*RUN, command], env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    with pytest.raises(UsageError, match="run needs a command"):
        launch([])


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("python train.py -I", None),
        ("python -I train.py", "-I"),
        ("/opt/bin/python3.12 -uE train.py", "-E"),
        ("env A=1 nice python3 -X dev -Wignore -bS -m train", "-S"),
        ("python -W error -c S", None),
        ("python -WS train.py", None),
        ("python -XI train.py", None),
        ("python --check-hash-based-pycs always -E train.py", "-E"),
        ("python -m trainer -E", None),
        ("python - -E", None),
        ("torchrun --nproc-per-node 2 train.py -S", None),
        ("pythonic -I", None),
    ],
)
def test_options_that_skip_sitecustomize_are_seen(command: str, option: str | None) -> None:
    assert skipping_option(command.split()) == option


def test_a_python_that_skips_sitecustomize_is_started_and_said() -> None:
    command = [*RUN, sys.executable, "-I", "-c", "print('started')"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout == "started\n"
    assert done.stderr.startswith("torchtop: -I makes Python skip")
    assert done.stderr.count("\n") == 1


def test_our_folder_is_on_the_path_once() -> None:
    ours = job_environment({"A": "1"})["PYTHONPATH"]
    assert Path(ours, "sitecustomize.py").is_file()
    assert job_environment({"PYTHONPATH": f"/a:{ours}::/b"})["PYTHONPATH"] == f"{ours}:/a:/b"


def test_the_payload_fits_a_page_with_long_folders(python: str) -> None:
    folders = tuple(f"/{letter * 44}/torchtop-4000000000" for letter in "abcd")
    file = f"4194304-{'0' * 32}.sock"
    page = payload.text(Meeting(1, 0, folders, file), 12345678.123456789, (1 << 47) - payload.SIZE)
    assert len(page) < payload.FLAG
    compile_it = "import sys; compile(sys.stdin.buffer.read(), 'page', 'exec')"
    subprocess.run([python, "-Werror", "-c", compile_it], input=page, check=True)
