"""The door into a process: offer a socket, let one monitor in, run the bundle that it sends.

Injected as text, docstrings and comments taken out (torchtop/attach/payload.py), or loaded by a job that opted in
(torchtop/listen.py). It stands alone, and lets no exception out: one that leaves a raw thread is printed on the job's
stderr.
"""


def unmap(page):
    """Give back the two pages that this text was injected with, once their code has been left (payload.py)."""
    import ctypes
    import time

    while not ctypes.c_byte.from_address(page + 4095).value:
        time.sleep(0.001)
    ctypes.CDLL(None).munmap(ctypes.c_void_p(page), ctypes.c_size_t(8192))


def go(expires, folders, file, ours, theirs, page=0):
    """Serve one monitor on `file` in the first of `folders` that is safe; return the path that was served, or None.

    page: address of the pages that this text came with. They are unmapped when a monitor is here, or none can come any more:
    until then one may still cancel by writing into them.
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
            # More than once: another probe of this user may remove the empty folder just before we bind in it.
            for folder in folders * 4:
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
                try:
                    client.settimeout(1)  # who connects and says nothing keeps the others waiting
                    peer = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
                    # Few and whole reads: each gives the GIL away, and busy threads keep it for 5 ms apiece.
                    if peer in (0, user) and client.recv(99) == ours:
                        client.settimeout(5)
                        version = b"%d.%d.%d" % sys.version_info[:3]
                        client.sendall(b"%s %s %s code\n" % (theirs, version, MAGIC_NUMBER.hex().encode()))
                        if page:
                            unmap(page)
                            page = 0
                        size = int(client.recv(8), 16)
                        blob = b""
                        while len(blob) < size:
                            part = client.recv(size - len(blob), socket.MSG_WAITALL)
                            if not part:
                                raise EOFError
                            blob += part
                        bundle = marshal.loads(blob)
                        given = {"bundle": bundle, "listener": listener, "client": client, "path": path}
                        exec(bundle[0], {**given, "tokens": (ours, theirs)})
                        # The bundle has removed the socket; what stands there now may be somebody else's.
                        served, path, folders = path, None, ()
                        return served
                except Exception:  # noqa: S110  # that one could not speak; the next one may
                    pass
                finally:
                    client.close()
        finally:
            if page:
                unmap(page)
            listener.close()
            for remove, name in [(os.unlink, path)] * bool(path) + [(os.rmdir, folder) for folder in folders]:
                try:
                    remove(name)
                except OSError:
                    pass
    except BaseException:  # noqa: S110  # what leaves a raw thread is printed on the job's stderr
        pass
    return path
