"""`torchtop` without a target: the jobs of this machine, one of them to be chosen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import Screen

from torchtop.tui.drawing import Pen
from torchtop.tui.keys import EVERYWHERE, PICKER, bindings, table
from torchtop.tui.lines import key_line
from torchtop.tui.messages import Chosen
from torchtop.tui.panels.base import Lines
from torchtop.tui.text.glyphs import head
from torchtop.tui.text.plain import wrapped
from torchtop.tui.watching import Choices

PERIOD_S = 3.0  # s between two looks: one takes 0.4 s, and most of that is waiting to see who uses a CPU
_NONE = "no process with PyTorch in it was found on this machine; this list goes on looking"


class PickerScreen(Screen[None]):
    """The list, always as it is now. The choice keeps to its job when others come and go."""

    BINDINGS = bindings(PICKER)

    def __init__(self, pen: Pen, look: Callable[[], Awaitable[Choices]]) -> None:
        super().__init__()
        self._pen = pen
        self._look = look
        self._found: Choices | None = None
        self._target: str | None = None
        self._problem: str | None = None

    def compose(self) -> ComposeResult:
        yield Lines(self._pen, id="top")
        with VerticalScroll(id="jobs", can_focus=False):
            yield Lines(self._pen, id="list")
        yield Lines(self._pen, id="bottom")

    def on_mount(self) -> None:
        self.set_interval(PERIOD_S, self._start_look)
        self._start_look()

    def on_resize(self) -> None:
        self._draw()

    def say(self, problem: str) -> None:
        """Why the job that was chosen could not be attached to."""
        self._problem = problem
        self._draw()

    def _start_look(self) -> None:
        if self.is_current:
            self.run_worker(self._refresh_list(), exclusive=True)

    async def _refresh_list(self) -> None:
        self._found = await self._look()
        targets = [choice.target for choice in self._found.jobs]
        if self._target not in targets:
            self._target = targets[0] if targets else None
        self._draw()

    def _draw(self) -> None:
        width = self.size.width
        count = "looking for jobs…" if self._found is None else f"{len(self._found.jobs)} PyTorch jobs on this machine"
        self.query_one("#top", Lines).put([Text.assemble((" torchtop", "title"), ("  " + count, "quiet")), Text("")])
        keys = (*table(PICKER, False), *table(EVERYWHERE, False))
        self.query_one("#bottom", Lines).put([key_line(keys, width)])
        lines, chosen_at = self._lines(width)
        text = self.query_one("#list", Lines)
        text.styles.height = max(len(lines), 1)
        text.put(lines)
        self.query_one("#jobs").scroll_to(y=max(chosen_at - self.size.height // 2, 0), animate=False)

    def _lines(self, width: int) -> tuple[list[Text], int]:
        """The list, and the row of the job that is chosen."""
        lines: list[Text] = []
        chosen_at = 0
        if self._problem is not None:
            lines += [Text(line, "critical") for line in wrapped(" !! ", self._problem, width)] + [Text("")]
        if self._found is None:
            return lines, 0
        if not self._found.jobs:
            return [*lines, *(Text(line, "quiet") for line in wrapped(" ", _NONE, width))], 0
        lines.append(Text(head("   " + self._found.heading, width), "quiet"))
        for choice in self._found.jobs:
            chosen = choice.target == self._target
            if chosen:
                chosen_at = len(lines)
            lines.append(
                Text(head(f" {'▶' if chosen else ' '} {choice.title}", width), "selected" if chosen else "title")
            )
            lines += [Text(head(f"   {row}", width)) for row in choice.rows]
            if choice.why is not None:
                lines += [Text(line, "warn") for line in wrapped("   ! ", choice.why, width)]
        if self._found.remark is not None:
            lines += [Text(line, "quiet") for line in wrapped(" ", self._found.remark, width)]
        return lines, chosen_at

    def action_next_job(self) -> None:
        self._move(1)

    def action_previous_job(self) -> None:
        self._move(-1)

    def _move(self, by: int) -> None:
        targets = [choice.target for choice in self._found.jobs] if self._found is not None else []
        if self._target in targets:
            self._target = targets[min(max(targets.index(self._target) + by, 0), len(targets) - 1)]
            self._draw()

    def action_choose(self) -> None:
        if self._target is not None:
            self._problem = None
            self.post_message(Chosen(self._target))
