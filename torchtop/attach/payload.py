"""The connector: the only code that is injected. It starts one raw thread, which offers a socket and waits.

Three layers, each for a trap that was measured (a payload that raises kills the target on CPython 3.10-3.13):
the outer one runs in `__main__`, so it assigns no name and lets nothing out; the guard starts the thread and does
nothing else on the main thread; the connector does the rest in a fresh namespace. An exception that a signal handler
of the program raised meanwhile (Ctrl-C, SIGTERM) is raised again in the main thread, a moment later.
"""

from __future__ import annotations

from torchtop.attach.rendezvous import Meeting

LIMIT = 4095  # bytes that fit one page with its NUL

_OUTER = """\
try:
 exec({guard!r},{{}})
except BaseException:
 try:exec({redeliver!r},{{}})
 except BaseException:pass
"""

_GUARD = "import _thread\n_thread.start_new_thread(exec,({connector!r},{{}}))"

_REDELIVER = """\
import _thread,sys
e=sys.exc_info()[0]
if e not in(MemoryError,RuntimeError,SyntaxError):_thread.start_new_thread(exec,({late!r},{{"e":e,"i":_thread.get_ident()}}))
"""

_LATE = """\
import _thread,ctypes,time
time.sleep(.002)
if e is KeyboardInterrupt:_thread.interrupt_main()
else:ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(i),ctypes.py_object(e))
"""

_CONNECTOR = """\
def go(X,D,F,A,B):
 import marshal,os,socket,struct,sys,time
 from _frozen_importlib_external import MAGIC_NUMBER as M
 if time.monotonic()>X:return
 U=os.geteuid()
 L=socket.socket(1,524289)
 p=d=None
 try:
  os.fchmod(L.fileno(),384)
  for d in D:
   try:
    try:os.mkdir(d,448)
    except FileExistsError:pass
    q=os.lstat(d)
    if q.st_uid!=U or q.st_mode&61503!=16384:continue
    L.bind(d+"/"+F)
    p=d+"/"+F
    break
   except OSError:pass
  if not p:return
  L.listen(4)
  while time.monotonic()<X:
   L.settimeout(max(.01,X-time.monotonic()))
   c=L.accept()[0]
   try:
    c.settimeout(2)
    r=c.makefile("rb",0)
    if struct.unpack("3i",c.getsockopt(1,17,12))[1]in(0,U)and r.readline(99)==A:
     c.sendall(b"%s %d.%d.%d %s code\\n"%(B,*sys.version_info[:3],M.hex().encode()))
     n=int(r.readline(20))
     b=b""
     while len(b)<n:
      k=r.read(n-len(b))
      if not k:raise OSError
      b+=k
     b=marshal.loads(b)
     exec(b[0],{"bundle":b,"listener":L,"client":c,"path":p,"tokens":(A,B)})
     return
   except OSError:pass
   finally:c.close()
 except OSError:pass
 finally:
  L.close()
  try:
   if p:os.unlink(p);os.rmdir(d)
  except OSError:pass
"""


def build(meeting: Meeting, expires: float) -> bytes:
    """The bytes of the page: Python source, one page at most, without NUL.

    expires: CLOCK_MONOTONIC seconds after which the connector does nothing and a waiting socket is taken down.
    """
    ours, theirs = meeting.tokens
    call = f"go({expires!r},{meeting.folders!r},{meeting.file!r},b'{ours}\\n',b'{theirs}')"
    guard = _GUARD.format(connector=_CONNECTOR + call)
    payload = _OUTER.format(guard=guard, redeliver=_REDELIVER.format(late=_LATE)).encode()
    if len(payload) > LIMIT or b"\0" in payload:
        raise ValueError(f"the connector does not fit a page: {len(payload)} bytes")
    return payload
