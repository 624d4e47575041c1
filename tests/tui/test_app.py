"""The program around the screens: how it begins, what it says when the job or the watching of it ends, the job list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui import scenes
from tests.tui.scenes import changed, ended, healthy, stopped
from tests.tui.scripted import Desk, Scripted, page, rows
from torchtop.errors import AttachError, NoTarget, ProtocolError, TorchtopError
from torchtop.tui.app import TorchtopApp
from torchtop.tui.screens.picker import PickerScreen
from torchtop.tui.screens.watch import WatchScreen
from torchtop.tui.text.ascii import to_ascii
from torchtop.tui.watching import Choice, Choices, Ending

HEADING = "    PID RANK  USER"
ONE = Choice("4711", "train.py  in /home/ada", ("   4711 —     ada",), None)
TWO = Choice("4712", "eval.py  in /home/bob", ("   4712 —     bob",), "may not be traced: sudo torchtop attach 4712")


@asynccontextmanager
async def app_of(job: Scripted, size: tuple[int, int] = (120, 40)) -> AsyncIterator[tuple[TorchtopApp, Pilot[Any]]]:
    app = TorchtopApp(job)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot


@pytest.mark.parametrize("keys", [(), ("1", "1"), ("?",), ("v",), ("enter",), ("/",), ("ctrl+p",), ("space",)])
async def test_the_job_may_end_whatever_is_on_screen(keys: tuple[str, ...]) -> None:
    job = Scripted(healthy())
    async with app_of(job) as (app, pilot):
        await pilot.press(*keys)
        await job.show(ended())
        job.end(Ending(ended=True))
        await pilot.pause()
        assert app.is_running
        await pilot.press("space" if keys == ("space",) else "escape", "escape")
        assert "ended" in rows(app)[1] and "exit code 1" in rows(app)[1]
        assert "blocks" in page(app), "the last numbers stay"
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running
        assert app.failure is None


@pytest.mark.parametrize(
    "problem",
    [
        AttachError("process 4711 is traced already, by gdb (process 12)"),
        NoTarget("process 4711 ended while it was being attached to"),
        ProtocolError("the probe in process 4711 speaks version 9, this torchtop 1"),
    ],
)
async def test_what_cannot_be_watched_is_for_the_command_line_to_say(problem: TorchtopError) -> None:
    job = Scripted()
    async with app_of(job) as (app, pilot):
        job.end(problem)
        await pilot.pause()
        assert not app.is_running
        assert app.failure is problem


async def test_why_nothing_more_can_be_seen_stays_on_screen() -> None:
    job = Scripted(healthy())
    async with app_of(job, (200, 60)) as (app, pilot):
        job.end(Ending(ended=False, lost="process 41001 runs on unwatched: the probe let go; attach again"))
        await pilot.pause()
        assert app.is_running
        assert "runs on unwatched" in rows(app)[1]


async def test_what_was_left_behind_is_for_the_command_line_to_say() -> None:
    job = Scripted(healthy())
    async with app_of(job) as (app, pilot):
        assert not app.left_behind
        await job.show(changed(healthy(), health__probe__left_behind=["a wrapper of step"]))
        await pilot.press("q")
        await pilot.pause()
        assert app.left_behind == ("a wrapper of step",)


async def test_before_the_first_snapshot() -> None:
    async with app_of(Scripted()) as (app, pilot):
        assert "attaching" in rows(app)[0]
        await pilot.press("1", "1", "v", "e", "escape", "space", "]")
        assert app.is_running


async def test_a_stopped_job_holds_the_picture_still() -> None:
    job = Scripted(healthy(), stopped())
    async with app_of(job) as (app, pilot):
        assert "stopped" in rows(app)[1]
        still = rows(app)
        await job.show(changed(stopped(), health__monitor__late_ticks=5, host__cpu_util=0.9))
        await pilot.pause()
        assert rows(app) == still
        await job.show(healthy())
        await pilot.pause()
        assert "attached" in rows(app)[1]


@pytest.mark.parametrize("size", [(20, 5), (79, 24), (80, 23), (1, 1)])
async def test_too_small_a_terminal_is_said(size: tuple[int, int]) -> None:
    async with app_of(Scripted(healthy()), size) as (app, pilot):
        if size[0] > 19:
            assert f"needs 80x24, this is {size[0]}x{size[1]}"[: size[0] - 10] in page(app).replace("\n", "")
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "3 layers" in page(app)
        await pilot.resize_terminal(*size)
        await pilot.pause()
        assert "3 layers" not in page(app)


@pytest.mark.parametrize("scene", scenes.SCENES)
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_without_unicode(scene: str, size: tuple[int, int]) -> None:
    async with app_of(Scripted(scenes.SCENES[scene]()), size) as (app, _):
        shown = [to_ascii(row) for row in rows(app)]
        assert "?" not in "".join(shown).replace("? help", ""), "a glyph without a sign"


# The job list


@asynccontextmanager
async def list_of(
    *found: Choices, opened: Scripted | TorchtopError
) -> AsyncIterator[tuple[TorchtopApp, Desk, Pilot[Any]]]:
    desk = Desk(found, opened)
    app = TorchtopApp(None, desk)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        yield app, desk, pilot


async def test_a_job_is_chosen() -> None:
    job = Scripted(healthy())
    async with list_of(Choices(HEADING, (ONE, TWO), None), opened=job) as (app, desk, pilot):
        assert "2 PyTorch jobs" in rows(app)[0]
        assert "▶ train.py" in page(app)
        assert "! may not be traced" in page(app)
        await pilot.press("down", "down", "up", "down")
        assert "▶ eval.py" in page(app)
        await pilot.press("enter")
        await pilot.pause()
        assert desk.asked_for == ["4712"]
        assert isinstance(app.screen, WatchScreen)
        assert "attached" in rows(app)[1]


async def test_one_that_cannot_be_opened_leaves_the_list() -> None:
    problem = AttachError("process 4711 is traced already, by gdb (process 12): end it")
    async with list_of(Choices(HEADING, (ONE,), None), opened=problem) as (app, _, pilot):
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, PickerScreen)
        assert "!! process 4711 is traced already" in page(app)


async def test_one_that_refuses_while_attaching_leads_back_to_the_list() -> None:
    job = Scripted()
    async with list_of(Choices(HEADING, (ONE,), None), opened=job) as (app, _, pilot):
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press("?")
        job.end(AttachError("process 4711 may not be attached to"))
        await pilot.pause()
        assert isinstance(app.screen, PickerScreen)
        assert "!! process 4711 may not be attached to" in page(app)


async def test_an_empty_list_says_so() -> None:
    closed = "3 Python processes of other users cannot be looked into: sudo torchtop ps"
    async with list_of(Choices(HEADING, (), closed), opened=Scripted()) as (app, desk, pilot):
        assert "no process with PyTorch" in page(app)
        await pilot.press("enter", "down", "up")
        assert desk.asked_for == []
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running


async def test_the_choice_keeps_to_its_job() -> None:
    first, then = Choices(HEADING, (ONE, TWO), None), Choices(HEADING, (TWO,), None)
    async with list_of(first, then, opened=Scripted()) as (app, _, pilot):
        await pilot.press("down")
        assert isinstance(app.screen, PickerScreen)
        app.screen._start_look()
        await pilot.pause()
        assert "▶ eval.py" in page(app)
        assert "train.py" not in page(app)
