"""Start a job so that every Python in it listens: it is reached without ptrace, and its script is not touched.

A folder that holds nothing but our sitecustomize.py goes first on PYTHONPATH. The variable stays, for the Pythons that
the job starts (torchrun's ranks); each of them takes the folder off its own sys.path again.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import NoReturn

from torchtop.errors import UsageError

_SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")
_PYTHON = re.compile(r"python[\d.]*")
_SKIPPING = "IES"  # isolated, no environment, no site: sitecustomize.py or PYTHONPATH is not looked at
_LAST = "cm"  # what follows is the program's
_WITH_VALUE = "WX"


def launch(command: list[str]) -> NoReturn:
    """Become `command`, with its exit code and its process id. Raises `UsageError` when it cannot be started."""
    if not command:
        raise UsageError("run needs a command: torchtop run -- python train.py")
    option = skipping_option(command)
    if option is not None:
        print(
            f"torchtop: {option} makes Python skip what `torchtop run` sets up, so this job does not listen: "
            "start it without that option, or attach to it as to any other job",
            file=sys.stderr,
            flush=True,
        )
    # Python ignores these two, and what is ignored stays ignored across exec: `| head` would not end the job.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, job_environment(os.environ))
    except FileNotFoundError:
        raise UsageError(f"there is no command {command[0]!r}: give its path, or see whether PATH has it") from None
    except OSError as error:
        raise UsageError(f"command {command[0]!r} cannot be started: {error.strerror}") from None


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with our folder first on PYTHONPATH, once."""
    others = [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder not in ("", _SITE)]
    return {**environment, "PYTHONPATH": os.pathsep.join([_SITE, *others])}


def skipping_option(command: list[str]) -> str | None:
    """The option of the first Python in `command` with which it does not look at our sitecustomize.py."""
    words = iter(command)
    for word in words:
        if _PYTHON.fullmatch(os.path.basename(word)):
            break
    for word in words:
        if not word.startswith("-") or word in ("-", "--"):
            return None
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(words, None)
            continue
        for at, letter in enumerate(word[1:], 1):
            if letter in _SKIPPING:
                return f"-{letter}"
            if letter in _LAST:
                return None
            if letter in _WITH_VALUE:
                if at == len(word) - 1:
                    next(words, None)
                break
    return None
