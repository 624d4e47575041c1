"""The screen of a job. It is handed snapshots and asks for nothing but another look."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import App

from torchtop.errors import TorchtopError
from torchtop.lens import Lens
from torchtop.snapshot import Snapshot
from torchtop.tui.drawing import Pen
from torchtop.tui.messages import Looked, Seen
from torchtop.tui.screens.watch import WatchScreen
from torchtop.tui.themes import THEMES
from torchtop.tui.watching import Ending, Watching

FINEST, COARSEST = 0.001, 0.1  # share of step time that the probe may cost, by key


class TorchtopApp(App[None]):
    """Watches one job. `failure` is why it could not, for the command line to say once the screen is gone."""

    CSS_PATH: ClassVar[Path] = Path(__file__).with_name("app.tcss")
    TITLE = "torchtop"

    def __init__(self, watching: Watching, read_only: bool = False, budget: float = 0.01) -> None:
        super().__init__()
        self._watching = watching
        self._read_only = read_only
        self._budget = budget
        self._layer: str | None = None
        self._pen = Pen()
        self._watch = WatchScreen(self._pen, read_only)
        self.failure: TorchtopError | None = None
        self.ending: Ending | None = None
        self._leaving = False
        for name in list(self.available_themes):
            self.unregister_theme(name)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name

    def on_mount(self) -> None:
        self._pen.dip(self.theme_variables)
        self.push_screen(self._watch)
        self.run_worker(self._run(), exit_on_error=True)

    async def _run(self) -> None:
        try:
            self.ending = await self._watching.run(self._take)
        except TorchtopError as error:
            self.failure = error
            self.exit()
            return
        if self._leaving or self.ending.lost is not None:
            self.exit()

    async def _take(self, snapshot: Snapshot) -> bool:
        self.post_message(Seen(snapshot))
        return True

    def on_seen(self, message: Seen) -> None:
        self._watch.take(message.snapshot)

    def on_looked(self, message: Looked) -> None:
        self._layer = message.layer
        self.look()

    def look(self) -> None:
        """Ask for what the choices of now need."""
        self._watching.look(Lens(self._watch.pid, self._layer))

    def leave(self) -> None:
        """Let go of the job, then of the terminal."""
        self._leaving = True
        if self.ending is not None:
            self.exit()
        else:
            self._watching.stop()

    def action_quit(self) -> None:  # type: ignore[override]
        self.leave()
