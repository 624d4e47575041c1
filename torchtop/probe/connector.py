"""The door into a process: offer a socket, let one monitor in, run the bundle that it sends.

Injected as text, docstrings and comments taken out (torchtop/attach/payload.py), or loaded by a job that opted in
(torchtop/listen.py). It stands alone, and lets no exception out: one that leaves a raw thread is printed on the job's
stderr.
"""


def go(expires, folders, file, ours, theirs):
    """Serve one monitor on `file` in the first of `folders` that is safe; return the path that was served, or None.

    expires: CLOCK_MONOTONIC seconds after which nobody is waited for; 2,000,000 s from now at most (poll(2)).
    ours: what the client says first, with its newline; theirs: what we answer with.
    """
    path = None
    try:
        import marshal
        import os
        import socket
        import struct
        import sys
        import time
        from _frozen_importlib_external import MAGIC_NUMBER

        if time.monotonic() > expires:
            return None
        user = os.geteuid()
        listener = socket.socket(socket.AF_UNIX)
        try:
            # fchmod, not umask: that is the whole process's, and a file saved meanwhile would get its mode.
            os.fchmod(listener.fileno(), 0o600)
            for folder in folders:
                try:
                    try:
                        os.mkdir(folder, 0o700)
                    except FileExistsError:
                        pass
                    facts = os.lstat(folder)
                    # This user's folder, not a link, closed to all others.
                    if facts.st_uid == user and facts.st_mode & 0o170077 == 0o040000:
                        listener.bind(folder + "/" + file)
                        path = folder + "/" + file
                        break
                except OSError:
                    pass
            if path is None:
                return None
            listener.listen(4)
            while time.monotonic() < expires:
                listener.settimeout(max(0.01, expires - time.monotonic()))
                client = listener.accept()[0]
                reader = client.makefile("rb", 0)
                try:
                    client.settimeout(2)
                    peer = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
                    if peer in (0, user) and reader.readline(99) == ours:
                        version = b"%d.%d.%d" % sys.version_info[:3]
                        client.sendall(b"%s %s %s code\n" % (theirs, version, MAGIC_NUMBER.hex().encode()))
                        size = int(reader.readline(20))
                        blob = b""
                        while len(blob) < size:
                            part = reader.read(size - len(blob))
                            if not part:
                                raise EOFError
                            blob += part
                        bundle = marshal.loads(blob)
                        given = {"bundle": bundle, "listener": listener, "client": client, "tokens": (ours, theirs)}
                        exec(bundle[0], given)
                        return path
                except Exception:  # noqa: S110  # that one could not speak; the next one may
                    pass
                finally:
                    reader.close()
                    client.close()
        finally:
            listener.close()
            for remove, name in [(os.unlink, path)] * bool(path) + [(os.rmdir, folder) for folder in folders]:
                try:
                    remove(name)
                except OSError:
                    pass
    except BaseException:  # noqa: S110  # what leaves a raw thread is printed on the job's stderr
        pass
    return path
