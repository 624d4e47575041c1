"""Every key, once. Bindings, the line at the bottom, the help and the command palette are made from this table."""

from __future__ import annotations

from typing import NamedTuple

from textual.binding import Binding, BindingType

EVERYWHERE, LAYERS, LAYER, PICKER = "everywhere", "layers", "one layer", "job list"


class Key(NamedTuple):
    """keys: as Textual names them, with commas; cap: as users read it; label: one word for the line at the bottom, ''
    keeps it out of there; changes_job: taken away by --read-only.
    """

    id: str
    keys: str
    cap: str
    label: str
    help: str
    where: str = EVERYWHERE
    changes_job: bool = False


KEYS = (
    Key("panel", "1,2,3,4,5,6,7", "1-7", "panel", "go to that panel; once more: let it fill the screen, and back"),
    Key("next_panel", "tab", "tab", "", "go to the next panel"),
    Key("previous_panel", "shift+tab", "shift-tab", "", "go to the panel before"),
    Key("zoom", "z", "z", "", "let the panel fill the screen, and back"),
    Key("back", "escape", "esc", "", "one step back: from a layer, a full panel, a filter"),
    Key("pause", "space", "space", "pause", "hold the picture still, and go on; the job is watched all the while"),
    Key("next_rank", "right_square_bracket", "]", "", "look at the next rank"),
    Key("previous_rank", "left_square_bracket", "[", "", "look at the rank before"),
    Key("summary", "v", "v", "summary", "everything of the last minute on one page"),
    Key("export", "e", "e", "export", "write the snapshot on screen to a JSON file here"),
    Key("record", "r", "r", "record", "write every snapshot to a JSON Lines file here, until pressed again"),
    Key(
        "more_samples",
        "plus,equals_sign",
        "+",
        "",
        "let the probe cost twice as much: more sampled steps",
        changes_job=True,
    ),
    Key("fewer_samples", "minus", "-", "", "let the probe cost half as much: fewer sampled steps", changes_job=True),
    Key("theme", "c", "c", "", "the next theme: dark, light, high contrast"),
    Key("help", "question_mark", "?", "help", "this list"),
    Key("command_palette", "ctrl+p", "ctrl-p", "", "find a command by its name"),
    Key("quit", "q,ctrl+c", "q", "quit", "take the probe out of the job and leave"),
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
                action = f"{key.id}({one})" if key.id == "panel" else key.id
                found.append(Binding(one, action, key.help, show=False, id=f"{key.id}.{one}", priority=one == "ctrl+c"))
    return found
