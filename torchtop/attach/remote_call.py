"""Run by the target's own interpreter, as the target's user, in a process of its own: ask for a script to be run there.

`sys.remote_exec` (PEP 768, 3.14) writes into the other process, so both have to be the very same Python. The request is
marshalled on stdin: (pid, folders, file, script), or (None, folders, file, None) to remove the script. The answer on
stdout is one line, `done PATH` or `failed WHY`.
"""

from __future__ import annotations

import marshal
import os
import sys


def written(folders: tuple[str, ...], file: str, script: str) -> str:
    """Path of the script, in the first folder that is this user's alone. OSError when there is none."""
    for folder in folders:
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        except OSError:
            continue
        facts = os.lstat(folder)
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o170077 != 0o040000:
            continue
        path = folder + "/" + file
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except OSError:
            continue
        with os.fdopen(handle, "w") as target:
            target.write(script)
        return path
    raise OSError("no folder for the script: tried " + ", ".join(folders))


def remove(folders: tuple[str, ...], file: str) -> None:
    """Take the script away, and a folder that is then empty."""
    for folder in folders:
        for take_away, path in ((os.unlink, folder + "/" + file), (os.rmdir, folder)):
            try:
                take_away(path)
            except OSError:
                pass  # the script has removed itself, or somebody else's socket stands in the folder


def main() -> str:
    pid, folders, file, script = marshal.loads(sys.stdin.buffer.read())
    if script is None:
        remove(folders, file)
        return "done -"
    try:
        path = written(folders, file, script)
        # By name: type checkers know it only for the Python that has it.
        getattr(sys, "remote_exec")(pid, path)  # noqa: B009
    except Exception as problem:  # noqa: BLE001  # whatever it is, it is the answer
        remove(folders, file)
        return f"failed {type(problem).__name__}: {problem}".replace("\n", " ")
    return "done " + path


print(main())
