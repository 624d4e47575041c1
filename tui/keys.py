"""Every key, once. Bindings, the line at the bottom, the help and the command palette are made from this table."""

from __future__ import annotations

from typing import NamedTuple

from textual.binding import Binding, BindingType

EVERYWHERE, WATCHING, LAYERS, ADVICE, PICKER = (
    "everywhere",
    "while watching",
    "in the layers",
    "in the advice",
    "in the job list",
)


class Key(NamedTuple):
    """keys: as Textual names them, with commas; cap: as users read it; label: one word for the line at the bottom, ''
    keeps it out of there; changes_job: taken away by --read-only; app: the app does it, not the screen.
    """

    id: str
    keys: str
    cap: str
    label: str
    help: str
    where: str = EVERYWHERE
    app: bool = False
    changes_job: bool = False


KEYS = (
    Key("help", "question_mark", "?", "help", "this list", app=True),
    Key("redraw", "ctrl+l", "ctrl-l", "", "draw the whole screen anew, after something else wrote on it", app=True),
    Key("quit", "q,ctrl+c", "q", "quit", "take the probe out of the job and leave", app=True),
    Key("theme", "c", "c", "", "the next colours: dark, light, high contrast", app=True),
    Key("command_palette", "ctrl+p", "ctrl-p", "", "find a command by its name", app=True),
    Key(
        "panel",
        "1,2,3,4,5,6,7",
        "1-7",
        "panel",
        "go to that panel; once more: let it fill the screen, and back",
        WATCHING,
    ),
    Key("next_panel", "tab", "tab", "", "go to the next panel", WATCHING),
    Key("previous_panel", "shift+tab", "shift-tab", "", "go to the panel before", WATCHING),
    Key("zoom", "z", "z", "", "let the panel fill the screen, and back", WATCHING),
    Key("back", "escape", "esc", "", "one step back: from a layer, a full panel, a filter", WATCHING),
    Key(
        "pause",
        "space",
        "space",
        "pause",
        "hold the picture still, and go on; the job is watched all the while",
        WATCHING,
    ),
    Key("next_rank", "right_square_bracket", "]", "", "look at the layers of the next rank", WATCHING),
    Key("previous_rank", "left_square_bracket", "[", "", "look at the layers of the rank before", WATCHING),
    Key("summary", "v", "v", "summary", "everything of the last minute on one page", WATCHING, app=True),
    Key("export", "e", "e", "export", "write what is on screen to a JSON file in this folder", WATCHING, app=True),
    Key(
        "record",
        "r",
        "r",
        "record",
        "write each snapshot to a JSON Lines file in this folder, until pressed again",
        WATCHING,
        app=True,
    ),
    Key(
        "more_samples",
        "plus,equals_sign",
        "+",
        "",
        "let the probe cost twice as much: more sampled steps",
        WATCHING,
        app=True,
        changes_job=True,
    ),
    Key(
        "fewer_samples",
        "minus",
        "-",
        "",
        "let the probe cost half as much: fewer sampled steps",
        WATCHING,
        app=True,
        changes_job=True,
    ),
    Key("choose", "enter", "enter", "watch", "attach to the job and watch it", PICKER),
    Key("next_job", "down", "down", "", "the next job", PICKER),
    Key("previous_job", "up", "up", "", "the job before", PICKER),
    Key("sort", "s", "s", "sort", "sort by the next column", LAYERS),
    Key("flat", "f", "f", "tree/flat", "modules as a tree, or as a flat list by time", LAYERS),
    Key("filter", "slash", "/", "filter", "show only names and types with these letters", LAYERS),
    Key("up", "up", "up", "", "one row up", LAYERS),
    Key("down", "down", "down", "", "one row down", LAYERS),
    Key("page_up", "pageup", "page up", "", "one page up", LAYERS),
    Key("page_down", "pagedown", "page down", "", "one page down", LAYERS),
    Key("first", "home,g", "home", "", "first row (also g)", LAYERS),
    Key("last", "end,G", "end", "", "last row (also G)", LAYERS),
    Key("fold", "left", "left", "", "fold the module, or go to the one around it", LAYERS),
    Key("unfold", "right", "right", "", "unfold the module", LAYERS),
    Key("fold_all", "underscore", "_", "", "fold all modules, or unfold all", LAYERS),
    Key("open", "enter", "enter", "open", "look at one layer closely", LAYERS),
    Key("next_finding", "down", "down", "", "the next finding", ADVICE),
    Key("previous_finding", "up", "up", "", "the finding before", ADVICE),
    Key("open_finding", "enter", "enter", "open", "read one finding: its numbers, and what its rule says", ADVICE),
)


def table(where: str, read_only: bool) -> tuple[Key, ...]:
    """The keys that work there."""
    return tuple(key for key in KEYS if key.where == where and not (read_only and key.changes_job))


def bindings(where: str) -> list[BindingType]:
    """The same as Textual wants them; the digits hand on which of them it was. What may not be is refused when pressed."""
    found: list[BindingType] = []
    for key in KEYS:
        if key.where == where:
            for one in key.keys.split(","):
                action = ("app." if key.app else "") + (f"panel('{one}')" if key.id == "panel" else key.id)
                found.append(Binding(one, action, key.help, show=False, id=f"{key.id}.{one}", priority=one == "ctrl+c"))
    return found
