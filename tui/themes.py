"""Colours: three themes, and what each kind of text looks like in them. Colour only repeats what glyphs and words say."""

from __future__ import annotations

from rich.style import Style
from rich.theme import Theme as TextStyles
from textual.color import Color
from textual.theme import Theme

THEMES = (
    Theme(
        name="dark",
        primary="#7aa2f7",
        secondary="#9ece6a",
        accent="#7dcfff",
        warning="#e0af68",
        error="#f7768e",
        success="#9ece6a",
        foreground="#c8d0e0",
        background="#12141c",
        surface="#12141c",
        panel="#1e2230",
        variables={"dimmed": "#7a8399", "grey": "#565f77"},
    ),
    Theme(
        name="light",
        primary="#2e5cb8",
        secondary="#3d7317",
        accent="#00708f",
        warning="#8f5e00",
        error="#b3143c",
        success="#3d7317",
        foreground="#20242c",
        background="#fafafa",
        surface="#fafafa",
        panel="#e4e7ee",
        dark=False,
        variables={"dimmed": "#5c6370", "grey": "#8a919e"},
    ),
    Theme(
        name="high-contrast",
        primary="#ffffff",
        secondary="#00ff66",
        accent="#ffff00",
        warning="#ffaf00",
        error="#ff5f5f",
        success="#00ff66",
        foreground="#ffffff",
        background="#000000",
        surface="#000000",
        panel="#303030",
        variables={"dimmed": "#d0d0d0", "grey": "#a0a0a0"},
    ),
)

# Kind of text -> (theme variable of its colour, bold). Panels name these as styles of a rich.text.Text.
_KINDS = {
    "title": ("foreground", True),
    "chosen": ("accent", True),
    "rule": ("grey", False),
    "quiet": ("dimmed", False),
    "number": ("foreground", False),
    "strong": ("foreground", True),
    "bar": ("primary", False),
    "second": ("secondary", False),
    "cap": ("accent", True),
    "good": ("success", False),
    "warn": ("warning", False),
    "critical": ("error", True),
    "selected": ("accent", True),
    "data": ("error", False),
    "transfer": ("warning", False),
    "forward": ("primary", False),
    "backward": ("secondary", False),
    "optimizer": ("accent", False),
    "communication": ("warning", False),
    "parameters": ("primary", False),
    "gradients": ("secondary", False),
    "activations": ("warning", False),
    "other": ("grey", False),
}
_RAISED = {"selected": "panel"}  # kind -> theme variable of its background, where it is not that of the screen


def plain_style(variables: dict[str, str]) -> Style:
    """Of text that is of no kind. variables: of the theme in use (`App.theme_variables`)."""
    front, back = (Color.parse(variables[name]).rich_color for name in ("foreground", "background"))
    return Style(color=front, bgcolor=back)


def text_styles(variables: dict[str, str]) -> TextStyles:
    """variables: of the theme in use (`App.theme_variables`)."""
    return TextStyles(
        {
            kind: Style(
                color=Color.parse(variables[front]).rich_color,
                bgcolor=Color.parse(variables[_RAISED.get(kind, "background")]).rich_color,
                bold=bold or None,
            )
            for kind, (front, bold) in _KINDS.items()
        },
        inherit=False,
    )
