"""The file that keeps what one core of this machine reached: where it is, and whether it may be believed."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from torchtop.errors import Unavailable
from torchtop.record import CoreRates

COMMAND = "torchtop doctor PID --calibrate"
_SCHEMA = "torchtop.machine/1"


class _Kept(Struct, frozen=True):
    """The file."""

    schema: Annotated[str, Meta(description="name and version of this file's format")]
    cpu_model: Annotated[str | None, Meta(description="model name of the CPU that was measured")]
    core: Annotated[CoreRates, Meta(description="what one core of it reached")]


def cache_file(environment: dict[str, str] | None = None, root: Path = Path("/")) -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/torchtop/<machine-id>.json`. A relative XDG_CACHE_HOME is ignored, as its standard
    has it. The machine is in the name because many share one home folder."""
    given = (os.environ if environment is None else environment).get("XDG_CACHE_HOME", "")
    folder = Path(given) if given.startswith("/") else Path.home() / ".cache"
    return folder / "torchtop" / f"{machine_id(root)}.json"


def machine_id(root: Path = Path("/")) -> str:
    """What tells this machine from others: machine-id(5), or the host's name where there is none (containers)."""
    for path in ("etc/machine-id", "var/lib/dbus/machine-id"):
        try:
            text = (root / path).read_text().strip()
        except OSError:
            continue
        if re.fullmatch("[0-9a-f]{32}", text):  # it says "uninitialized" while an image boots for the first time
            return text
    return re.sub(r"[^\w.-]", "_", platform.node()) or "unnamed"


def read(path: Path, cpu_model: str | None) -> CoreRates:
    """The rates in the file. Raises `Unavailable` when there are none that hold for this CPU, with what helps."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        raise Unavailable(f"the peak rates of this CPU were never measured: {COMMAND}") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror}); measure anew: {COMMAND}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unavailable(f"{path} is damaged and was ignored; measure anew: {COMMAND}") from None
    if kept.schema != _SCHEMA:
        raise Unavailable(f"{path} was written by another version of torchtop; measure anew: {COMMAND}")
    # Images are cloned with their machine-id, and a home folder goes along to the next machine.
    if kept.cpu_model != cpu_model:
        raise Unavailable(f"{path} is about another CPU ({kept.cpu_model}); measure anew: {COMMAND}")
    return kept.core


def write(path: Path, cpu_model: str | None, core: CoreRates) -> str | None:
    """Keep the rates, all or nothing. Returns why they cannot be kept, None when they are."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(_Kept(_SCHEMA, cpu_model, core)), indent=2))
        os.replace(temporary, path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None
