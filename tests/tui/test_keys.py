"""Every key of the table does what its help says, and nothing that is not in the table does anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from tests.tui.scenes import changed, healthy, two_ranks
from tests.tui.scripted import Scripted, page, rows
from torchtop.snapshot import Snapshot
from torchtop.tui.app import TorchtopApp
from torchtop.tui.keys import EVERYWHERE, KEYS, WATCHING, table
from torchtop.tui.panels.base import Panel
from torchtop.tui.screens.watch import WatchScreen

SIZE = (120, 40)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where files are written to


@asynccontextmanager
async def showing(
    *snapshots: Snapshot, read_only: bool = False, size: tuple[int, int] = SIZE
) -> AsyncIterator[tuple[TorchtopApp, Scripted, Pilot[Any]]]:
    job = Scripted(*snapshots)
    app = TorchtopApp(job, read_only=read_only)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, job, pilot


def screen(app: TorchtopApp) -> WatchScreen:
    assert isinstance(app.screen, WatchScreen)
    return app.screen


@pytest.mark.parametrize("digit", "1234567")
async def test_a_digit_goes_to_its_panel_and_then_fills_the_screen(digit: str) -> None:
    async with showing(healthy()) as (app, _, pilot):
        other = "1" if digit != "1" else "2"
        await pilot.press(other, digit)
        focused = app.focused
        assert isinstance(focused, Panel)
        assert focused.KEY == digit
        assert screen(app).zoomed is None
        await pilot.press(digit)
        assert screen(app).zoomed is focused
        assert rows(app)[2].startswith(f"▶{digit} {focused.TITLE}")
        assert focused.size == (SIZE[0], SIZE[1] - 3)
        await pilot.press(digit)
        assert screen(app).zoomed is None
        assert all(f"{panel.KEY} {panel.TITLE}" in page(app) for panel in screen(app).panels)


async def test_another_digit_changes_what_fills_the_screen() -> None:
    async with showing(healthy()) as (app, _, pilot):
        await pilot.press("1", "1", "4")
        assert rows(app)[2].startswith("▶4 memory")
        await pilot.press("escape")
        assert screen(app).zoomed is None


async def test_tab_goes_round() -> None:
    async with showing(healthy()) as (app, _, pilot):
        await pilot.press("1")
        seen = []
        for _ in range(7):
            await pilot.press("tab")
            assert isinstance(app.focused, Panel)
            seen.append(app.focused.KEY)
        assert seen == list("2345671")
        await pilot.press("shift+tab")
        assert isinstance(app.focused, Panel) and app.focused.KEY == "7"


async def test_zoom() -> None:
    async with showing(healthy()) as (app, _, pilot):
        await pilot.press("4", "z")
        assert screen(app).zoomed is app.focused
        await pilot.press("z")
        assert screen(app).zoomed is None


async def test_pause_holds_the_picture_and_goes_on_with_the_newest() -> None:
    before, after = healthy(), changed(healthy(), steps__total=7654321)
    async with showing(before) as (app, job, pilot):
        await pilot.press("space")
        assert "paused" in rows(app)[1]
        still = rows(app)
        await job.show(changed(healthy(), steps__total=5555555))
        await job.show(after)
        await pilot.pause()
        assert rows(app) == still
        await pilot.press("space")
        assert "paused" not in rows(app)[1]
        assert screen(app).drawn is after


async def test_ranks() -> None:
    snapshot = two_ranks()
    first, second = (rank.pid for rank in snapshot.job.ranks)
    async with showing(snapshot) as (_, job, pilot):
        await pilot.press("]")
        await pilot.press("[")
        assert {lens.pid for lens in job.looked} == {first, second}


async def test_summary() -> None:
    async with showing(healthy()) as (app, _, pilot):
        await pilot.press("v")
        assert any(line.strip().startswith("STEP     median") for line in rows(app))
        await pilot.press("escape")
        assert isinstance(app.screen, WatchScreen)


async def test_export_writes_what_is_on_screen(tmp_path: Path) -> None:
    async with showing(healthy()) as (app, _, pilot):
        await pilot.press("e")
        await pilot.pause()
        (path,) = tmp_path.glob("torchtop-*.json")
        assert path.name in rows(app)[1]
        assert msgspec.json.decode(path.read_bytes(), type=Snapshot) == healthy()


async def test_record_writes_each_snapshot(tmp_path: Path) -> None:
    async with showing(healthy()) as (app, job, pilot):
        await pilot.press("r")
        assert "recording" in rows(app)[1]
        for total in (1, 2, 3):
            await job.show(changed(healthy(), steps__total=total))
        await pilot.press("r")
        await job.show(healthy())
        (path,) = tmp_path.glob("torchtop-*.jsonl")
        lines = path.read_bytes().splitlines()
        assert [msgspec.json.decode(line, type=Snapshot).steps.total for line in lines] == [1, 2, 3]
        assert "recording to" not in rows(app)[1]


async def test_files_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        async with showing(healthy()) as (app, _, pilot):
            for key in ("e", "r"):
                await pilot.press(key)
                await pilot.pause()
                assert "cannot write torchtop-" in rows(app)[1]
    assert list(tmp_path.iterdir()) == []


async def test_the_probe_may_cost_more_and_less() -> None:
    async with showing(healthy()) as (app, job, pilot):
        await pilot.press("+", "minus", "minus")
        assert job.budgets == [0.02, 0.01, 0.005]
        assert "0.500 %" in rows(app)[1]


async def test_themes() -> None:
    async with showing(healthy()) as (app, _, pilot):
        names = [app.theme]
        for _ in range(3):
            await pilot.press("c")
            names.append(app.theme)
        assert names == ["dark", "light", "high-contrast", "dark"]


async def test_help_names_every_key() -> None:
    async with showing(healthy(), size=(120, 60)) as (app, _, pilot):
        await pilot.press("?")
        shown = page(app)
        assert [key.help for key in KEYS if key.help not in shown] == []
        await pilot.press("?")
        assert isinstance(app.screen, WatchScreen)


async def test_the_palette_has_the_commands_and_the_themes() -> None:
    async with showing(healthy(), size=(120, 60)) as (app, _, pilot):
        await pilot.press("ctrl+p")
        await pilot.pause()
        for word in ("help", "export", "record", "quit", "theme light", "picture"):
            assert word in page(app)
        await pilot.press(*"high-contrast")
        await pilot.pause(0.2)
        await pilot.press("enter")
        await pilot.pause()
        assert app.theme == "high-contrast"


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_quit_lets_go_of_the_job_first(key: str) -> None:
    async with showing(healthy()) as (app, job, pilot):
        await pilot.press(key)
        await pilot.pause()
        assert job.stopped
        assert app.return_code == 0
        assert app.failure is None


async def test_read_only_takes_keys_away() -> None:
    async with showing(healthy(), read_only=True, size=(120, 60)) as (app, job, pilot):
        assert "read-only" in rows(app)[1]
        await pilot.press("+", "minus")
        assert job.budgets == []
        await pilot.press("?")
        gone = [key for key in KEYS if key.changes_job]
        assert gone
        assert [key.help for key in gone if key.help in page(app)] == []


async def test_the_last_line_names_keys_that_work() -> None:
    async with showing(healthy()) as (app, _, pilot):
        await pilot.press("1")
        caps = [key.cap for key in (*table(WATCHING, False), *table(EVERYWHERE, False)) if key.label]
        assert [cap for cap in caps if f" {cap} " not in f"{rows(app)[-1]} "] == []


def test_every_key_is_there_once() -> None:
    for where in dict.fromkeys(key.where for key in KEYS):
        keys = [one for key in KEYS if key.where in (where, EVERYWHERE) for one in key.keys.split(",")]
        assert len(keys) == len(set(keys)), where
    later = {"a", "t", "u", "p", "k"}  # DESIGN 8: apply, trial, undo, patch, deep look
    assert not later & {one for key in KEYS for one in key.keys.split(",")}
