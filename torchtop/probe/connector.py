"""The door into a process: offer a socket, let one monitor in, run the bundle that it sends.

Injected as text, with comments and docstrings taken out (torchtop/attach/payload.py), or loaded by a job that opted
in (torchtop/listen.py). It stands alone, imports only what every Python has, and lets no exception out: one that
leaves a raw thread is printed on the job's stderr.
"""


def go(expires, folders, file, ours, theirs):
    """Serve one monitor on `file` in the first of `folders` that is safe; return the path, None if there is none.

    expires: CLOCK_MONOTONIC seconds after which nobody is waited for; 2,000,000 s from now at most.
    ours: what the client has to say first, with its newline; theirs: what we answer with.
    """
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
        path = made = None
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # fchmod, not umask: umask is the whole process's, and a file being saved meanwhile would get its mode.
            os.fchmod(listener.fileno(), 0o600)
            for folder in folders:
                try:
                    try:
                        os.mkdir(folder, 0o700)
                        made = folder
                    except FileExistsError:
                        pass
                    facts = os.lstat(folder)
                    # A folder of this user, no link, closed to all others.
                    if facts.st_uid == user and facts.st_mode & 0o170077 == 0o040000:
                        listener.bind(folder + "/" + file)
                        path = folder + "/" + file
                        break
                    os.rmdir(made or "")
                except OSError:
                    if made == folder:
                        os.rmdir(made)
            if not path:
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
                        python = b"%d.%d.%d" % sys.version_info[:3]
                        client.sendall(b"%s %s %s code\n" % (theirs, python, MAGIC_NUMBER.hex().encode()))
                        size = int(reader.readline(20))
                        blob = b""
                        while len(blob) < size:
                            part = reader.read(size - len(blob))
                            if not part:
                                raise EOFError
                            blob += part
                        bundle = marshal.loads(blob)
                        given = {"bundle": bundle, "listener": listener, "client": client, "path": path}
                        exec(bundle[0], {**given, "tokens": (ours, theirs)})
                        return path
                except Exception:
                    pass  # whoever that was, the next one may know how to speak
                finally:
                    reader.close()
                    client.close()
        finally:
            listener.close()
            if path:
                os.unlink(path)
                os.rmdir(os.path.dirname(path))
    except BaseException:
        pass
    return path
