"""The whole screen, as it was when somebody last looked at it and found it good.

A change of the drawing makes these fail on purpose: look at the new pictures, then write them down with
`TORCHTOP_PICTURES=write pytest tests/tui/test_pictures.py` (and `--snapshot-update` for those with colours).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.tui.found import INPUT_BOUND, TEXT
from tests.tui.scenes import SCENES
from tests.tui.scripted import Rulebook, Scripted, rows
from torchtop.tui.app import TorchtopApp

PICTURES = Path(__file__).parent / "pictures"
SIZES = ((80, 24), (120, 40), (200, 60))
SHOWN = (
    "healthy",
    "slow_loader",
    "memory_nearly_full",
    "compiled",
    "ended",
    "two_ranks",
    "attaching",
    "eight_gpus",
    "advised",
    "few_steps",
)


def app_of(scene: str, read_only: bool = False) -> TorchtopApp:
    return TorchtopApp(Scripted(SCENES[scene]()), read_only=read_only, rules=Rulebook({INPUT_BOUND.code: TEXT}))


async def drawn(app: TorchtopApp, size: tuple[int, int], *keys: str) -> str:
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.press(*keys)
        return "\n".join(rows(app)) + "\n"


def compare(name: str, picture: str) -> None:
    path = PICTURES / f"{name}.txt"
    if os.environ.get("TORCHTOP_PICTURES") == "write":
        PICTURES.mkdir(exist_ok=True)
        path.write_text(picture)
    assert picture == path.read_text()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("scene", SHOWN)
async def test_the_screen(scene: str, size: tuple[int, int]) -> None:
    compare(f"{scene}-{size[0]}x{size[1]}", await drawn(app_of(scene), size))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_read_only(size: tuple[int, int]) -> None:
    compare(f"read_only-{size[0]}x{size[1]}", await drawn(app_of("healthy", read_only=True), size))


@pytest.mark.parametrize("digit", "1234567")
async def test_a_panel_alone(digit: str) -> None:
    scene = {"1": "eight_gpus", "5": "eight_gpus", "6": "advised"}.get(digit, "healthy")
    keys = (digit,) if digit == "3" else (digit, digit)  # the layers have the focus from the beginning
    compare(f"zoomed-{digit}-120x40", await drawn(app_of(scene), (120, 40), *keys))


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_one_finding(size: tuple[int, int]) -> None:
    compare(f"finding-{size[0]}x{size[1]}", await drawn(app_of("advised"), size, "6", "enter"))


@pytest.mark.parametrize(("theme", "size"), [("dark", (120, 40)), ("light", (80, 24)), ("high-contrast", (80, 24))])
def test_the_colours(theme: str, size: tuple[int, int], snap_compare: Any) -> None:
    app = app_of("memory_nearly_full")
    app.theme = theme
    assert snap_compare(app, terminal_size=size)
