"""One finding on a page of its own, and the keys that lead there and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from textual.pilot import Pilot

from tests.tui.found import HOST_STALL, INPUT_BOUND, TEXT, UNUSED_PARAMETERS
from tests.tui.scenes import advised, healthy, many_findings
from tests.tui.scripted import Rulebook, Scripted, page, rows
from torchtop.snapshot import Snapshot
from torchtop.tui.app import TorchtopApp
from torchtop.tui.screens.finding import FindingScreen, finding_lines
from torchtop.tui.screens.watch import WatchScreen


@asynccontextmanager
async def showing(
    *snapshots: Snapshot, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[TorchtopApp, Scripted, Pilot[Any]]]:
    job = Scripted(*snapshots)
    app = TorchtopApp(job, rules=Rulebook({INPUT_BOUND.code: TEXT}))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, job, pilot


def chosen(app: TorchtopApp) -> list[str]:
    """Codes of the rows with the mark of a choice, in the panel that fills the screen."""
    return [row.split()[1] for row in rows(app) if row.startswith(("▶!", "▶ "))]


async def test_enter_opens_the_worst_and_esc_closes_it() -> None:
    async with showing(advised()) as (app, _, pilot):
        await pilot.press("6", "enter")
        assert isinstance(app.screen, FindingScreen)
        assert rows(app)[0].startswith("!! input-bound")
        assert "waiting for data: 60.0 % of the step (58.2 % to 61.8 %)" in page(app)
        assert "Defining inequality" in page(app)
        await pilot.press("escape")
        assert isinstance(app.screen, WatchScreen)


@pytest.mark.parametrize("key", ["escape", "enter", "q"])
async def test_the_same_page_opens_again(key: str) -> None:
    """Kept, not made anew: Textual does not forget what closed screens have painted."""
    async with showing(advised()) as (app, _, pilot):
        seen = []
        for _ in range(3):
            await pilot.press("6", "enter")
            seen.append(app.screen)
            await pilot.press(key)
            assert isinstance(app.screen, WatchScreen)
        assert len(set(seen)) == 1


async def test_the_page_scrolls_and_begins_at_its_top_again() -> None:
    async with showing(advised()) as (app, _, pilot):
        await pilot.press("6", "enter", "end")
        await pilot.pause()
        assert "On Sundays." in page(app)
        assert "!! input-bound" not in page(app)
        await pilot.press("escape", "enter")
        await pilot.pause()
        assert "!! input-bound" in rows(app)[0]


async def test_another_one_is_chosen() -> None:
    async with showing(many_findings()) as (app, _, pilot):
        await pilot.press("6", "6")
        assert chosen(app) == ["input-bound"]
        await pilot.press("down", "down", "up")
        assert chosen(app) == ["host-stall"]
        await pilot.press("enter")
        assert rows(app)[0].startswith("!! host-stall")
        await pilot.press("escape", *["down"] * 20)
        assert chosen(app) == ["hot-layer"]
        await pilot.press(*["up"] * 20)
        assert chosen(app) == ["input-bound"]


async def test_the_choice_is_shown_in_few_rows() -> None:
    async with showing(many_findings()) as (app, _, pilot):
        await pilot.press("6", *["down"] * 12)
        assert any("▶   hot-layer" in row for row in rows(app))


async def test_the_choice_keeps_to_its_finding() -> None:
    stall, unused = HOST_STALL, UNUSED_PARAMETERS
    async with showing(advised()) as (app, job, pilot):
        await pilot.press("6", "6", "down")
        assert chosen(app) == ["host-stall"]
        await job.show(replace(advised(), findings=(stall, unused)))
        await pilot.pause()
        assert chosen(app) == ["host-stall"]
        await job.show(replace(advised(), findings=(unused,)))
        await pilot.pause()
        assert chosen(app) == ["unused-parameters"]


async def test_the_page_stays_when_its_finding_goes() -> None:
    async with showing(advised()) as (app, job, pilot):
        await pilot.press("6", "enter")
        before = rows(app)
        await job.show(healthy())
        await pilot.pause()
        assert rows(app) == before
        await pilot.press("escape")
        assert "nothing found" in page(app)


@pytest.mark.parametrize("snapshots", [(), (healthy(),)], ids=["before the first snapshot", "nothing found"])
async def test_nothing_to_open(snapshots: tuple[Snapshot, ...]) -> None:
    async with showing(*snapshots) as (app, _, pilot):
        await pilot.press("6", "enter", "down", "up")
        assert isinstance(app.screen, WatchScreen)


async def test_other_panels_keep_their_keys() -> None:
    async with showing(advised()) as (app, _, pilot):
        await pilot.press("3", "enter")
        assert not isinstance(app.screen, FindingScreen)
        await pilot.press("escape", "1", "enter", "down")
        assert isinstance(app.screen, WatchScreen)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_text_of_the_rule_comes_below(width: int) -> None:
    lines = [line.plain for line in finding_lines(INPUT_BOUND, TEXT, width)]
    assert max(map(cell_len, lines)) <= width
    headings = [line for line in lines if line in {section.heading for section in TEXT[1:]}]
    assert headings == ["What it does", "When it is wrong"]
    assert lines.index("   On Sundays.") > lines.index("What it does") > lines.index("   confidence  high")


def test_a_rule_that_is_not_known_here() -> None:
    lines = [line.plain for line in finding_lines(HOST_STALL, (), 80)]
    assert lines[0].startswith("!  host-stall")
    assert lines[-1] == "(any of esc, enter, q closes this)"
