"""First on the path of every Python in a job that `torchtop run` started: listen, then step out of the way.

Any Python may come here: the syntax is that of 2.7, too. Nothing of ours is printed or raised. The job's own
sitecustomize is imported in our place; where it has none, the ImportError is the one that `site` expects.
"""

import os
import sys

_here = os.path.dirname(__file__)
_entries = len(sys.path)
sys.path[:] = [_entry for _entry in sys.path if _entry != _here]
sys.path_importer_cache.pop(_here, None)

try:
    if sys.version_info >= (3, 9):  # noqa: UP036
        _file = os.path.join(os.path.dirname(os.path.dirname(_here)), "listen.py")
        with open(_file, encoding="utf-8") as _source:
            exec(compile(_source.read(), _file, "exec"), {"__file__": _file, "__name__": "_torchtop_listen"})  # noqa: S102
except Exception:  # noqa: BLE001, S110  # no reason of ours may keep a job from starting
    pass

if len(sys.path) < _entries:  # else we would find ourselves again, for ever
    sys.modules.pop("sitecustomize", None)
    __import__("sitecustomize")
