"""The program around the screens: it is handed snapshots, and hands on what the keys ask for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from torchtop.errors import TorchtopError
from torchtop.json_writer import JsonWriter
from torchtop.lens import Lens
from torchtop.snapshot import Snapshot
from torchtop.tui.drawing import Pen
from torchtop.tui.keys import EVERYWHERE, KEYS, WATCHING, bindings, table
from torchtop.tui.messages import Chosen, Looked, Opened, Seen
from torchtop.tui.panels.base import Lines
from torchtop.tui.screens.finding import FindingScreen
from torchtop.tui.screens.help import HelpScreen
from torchtop.tui.screens.page import PageScreen
from torchtop.tui.screens.picker import PickerScreen
from torchtop.tui.screens.watch import WatchScreen
from torchtop.tui.text.ascii import AsciiFilter, locale_has_unicode
from torchtop.tui.text.units import percent
from torchtop.tui.themes import THEMES
from torchtop.tui.thin_driver import ThinDriver
from torchtop.tui.watching import Desk, Ending, Rules, Watching

FINEST, COARSEST = 0.001, 0.1  # share of step time that the keys may let the probe cost
BUDGET = 0.01  # of the probe, unless it was told another
SAID_S = 6.0  # s that a word about what a key did stays


class TorchtopApp(App[None]):
    """Watches one job, or lets its user choose one first.

    failure: why it could not, and left_behind: what the last snapshot says that a detach could not take out of the job;
    for the command line to say once the screen is gone.
    """

    CSS_PATH: ClassVar[Path] = Path(__file__).with_name("app.tcss")
    BINDINGS: ClassVar[list[BindingType]] = bindings(EVERYWHERE)
    TITLE = "torchtop"

    def __init__(
        self,
        watching: Watching | None = None,
        desk: Desk | None = None,
        read_only: bool = False,
        budget: float | None = None,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(driver_class=ThinDriver)
        self._watching = watching
        self._desk = desk
        self._read_only = read_only
        self._budget = budget or BUDGET
        self._rules = rules
        self._layer: str | None = None
        self._recorder: JsonWriter | None = None
        self._recording = ""
        self._said: str | None = None
        self._leaving = False
        self._pen = Pen()
        self._picker = PickerScreen(self._pen, desk.jobs) if desk is not None else None
        self._watch: WatchScreen | None = None
        self._help = HelpScreen(self._pen, read_only)
        self._page = PageScreen(self._pen)
        self._finding = FindingScreen(self._pen, rules)
        self.failure: TorchtopError | None = None
        self.left_behind: tuple[str, ...] = ()
        self.ending: Ending | None = None
        for name in list(self.available_themes):
            self.unregister_theme(name)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name
        if not locale_has_unicode():
            self._filters.append(AsciiFilter())

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, lambda _: self._recolour())
        self._pen.dip(self.theme_variables)
        # Kept, not made anew each time: Textual remembers what closed screens had painted (48 MB after 20 h of use).
        self.install_screen(self._help, "help")
        self.install_screen(self._page, "page")
        self.install_screen(self._finding, "finding")
        if self._picker is not None:
            self.push_screen(self._picker)
        if self._watching is not None:
            self._begin(self._watching)

    # Watching

    def _begin(self, watching: Watching) -> None:
        self._watching = watching
        self._watch = WatchScreen(self._pen, self._read_only, self._rules)
        self.push_screen(self._watch)
        self.run_worker(self._run(watching))

    async def _run(self, watching: Watching) -> None:
        try:
            self.ending = await watching.run(self._take)
        except TorchtopError as problem:
            if self._picker is None or self._leaving:
                self.failure = problem
                self.exit()
            else:
                await self._back_to_the_list(problem)
            return
        if self._leaving:
            self.exit()
        else:
            self._tell()

    async def _back_to_the_list(self, problem: TorchtopError) -> None:
        if self._picker is None:
            return
        self._watching = self._watch = None
        while self.screen is not self._picker:
            await self.pop_screen()
        self._picker.say(str(problem))

    async def _take(self, snapshot: Snapshot) -> bool:
        probe = snapshot.health.probe
        self.left_behind = probe.left_behind if probe is not None else ()
        if self._recorder is not None:
            await self._record(snapshot)
        self.post_message(Seen(snapshot))
        return True

    def on_seen(self, message: Seen) -> None:
        if self._watch is not None:
            self._watch.take(message.snapshot)

    async def on_chosen(self, message: Chosen) -> None:
        if self._desk is None or self._picker is None:
            return
        try:
            watching = await self._desk.open(message.target)
        except TorchtopError as problem:
            self._picker.say(str(problem))
        else:
            self._begin(watching)

    def on_looked(self, message: Looked) -> None:
        self._layer = message.layer
        self.look()

    def on_opened(self, message: Opened) -> None:
        if self.screen is self._watch:
            self._finding.show(message.finding)
            self.push_screen(self._finding)

    def look(self) -> None:
        """Ask for what the choices of now need."""
        if self._watching is not None and self._watch is not None:
            self._watching.look(Lens(self._watch.pid, self._layer))

    # What keys ask for

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        keys = {key.id: key for key in KEYS if key.app}
        if action not in keys:
            return True
        if keys[action].where == WATCHING and (self._watch is None or self.screen is not self._watch):
            return False
        return keys[action] in table(keys[action].where, self._read_only)

    async def action_quit(self) -> None:
        """Let go of the job first, then of the terminal."""
        self._leaving = True
        if self._watching is None or self.ending is not None:
            self.exit()
        else:
            self._say("detaching")
            self._watching.stop()

    def action_help(self) -> None:
        self.push_screen(self._help)

    def action_summary(self) -> None:
        if self._watch is not None and self._watch.drawn is not None:
            self._page.show(self._watch.drawn)
            self.push_screen(self._page)

    def action_theme(self) -> None:
        names = [theme.name for theme in THEMES]
        self.theme = names[(names.index(self.theme) + 1) % len(names)]

    def action_redraw(self) -> None:
        if isinstance(self._driver, ThinDriver):
            self._driver.forget()
        self.refresh(layout=True)

    async def action_export(self) -> None:
        if self._watch is None or self._watch.drawn is None:
            return
        path = self._new_file("json")
        try:
            writer = JsonWriter(path, lines=False)
            try:
                await writer.take(self._watch.drawn)
                writer.finish()
            finally:
                writer.abandon()
        except TorchtopError as problem:
            self._say(str(problem))
        else:
            self._say(f"wrote {path}")

    async def action_record(self) -> None:
        if self._recorder is not None:
            self._end_recording()
            self._say("the recording is written")
            return
        path = self._new_file("jsonl")
        try:
            self._recorder = JsonWriter(path, lines=True)
        except TorchtopError as problem:
            self._say(str(problem))
        else:
            self._recording = path
            self._tell()

    def action_more_samples(self) -> None:
        self._set_budget(2.0)

    def action_fewer_samples(self) -> None:
        self._set_budget(0.5)

    def _set_budget(self, factor: float) -> None:
        self._budget = min(max(self._budget * factor, FINEST), COARSEST)
        if self._watching is not None:
            self._watching.set_budget(self._budget)
        self._say(f"the probe may cost {percent(self._budget)} of step time now")

    async def _record(self, snapshot: Snapshot) -> None:
        try:
            if self._recorder is not None:
                await self._recorder.take(snapshot)
        except TorchtopError as problem:
            self._end_recording()
            self._say(str(problem))

    def _end_recording(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.finish()

    def _new_file(self, ending: str) -> str:
        return f"torchtop-{datetime.now():%Y%m%d-%H%M%S}.{ending}"

    def on_unmount(self) -> None:
        self._end_recording()

    # What the screen says of itself

    def _say(self, words: str) -> None:
        self._said = words
        self._tell()
        self.set_timer(SAID_S, lambda: self._unsay(words))

    def _unsay(self, words: str) -> None:
        if self._said == words:
            self._said = None
            self._tell()

    def _tell(self) -> None:
        if self._watch is None:
            return
        found = [f"recording to {self._recording}"] if self._recorder is not None else []
        if self._said is not None:
            found.append(self._said)
        if self.ending is not None and self.ending.lost is not None:
            found.append(self.ending.lost)
        self._watch.tell(tuple(found))

    def _recolour(self) -> None:
        self._pen.dip(self.theme_variables)
        for screen in self.screen_stack:
            for lines in screen.query(Lines):
                lines.repaint()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for key in KEYS:
            if key.app and self.check_action(key.id, ()):
                yield SystemCommand(
                    f"{key.id.replace('_', ' ')} ({key.cap})", key.help, getattr(self, f"action_{key.id}")
                )
        for theme in THEMES:
            yield SystemCommand(
                f"theme {theme.name}", "use these colours", lambda name=theme.name: setattr(self, "theme", name)
            )
        yield SystemCommand("picture", "write the screen to an SVG file in this folder", self._save_picture)

    def _save_picture(self) -> None:
        path = self._new_file("svg")
        try:
            self.save_screenshot(path)
        except OSError as error:
            self._say(f"cannot write {path}: {error.strerror}")
        else:
            self._say(f"wrote {path}")
