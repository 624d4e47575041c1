"""For terminals that show no Unicode: each glyph of ours as the nearest ASCII sign, at the very end of all drawing."""

from __future__ import annotations

import locale

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_SIGNS = {
    **dict(zip("▁▂▃▄▅▆▇█", "_.,-=+*#", strict=True)),
    **dict(zip("▏▎▍▌▋▊▉", "..::--=", strict=True)),
    **dict(zip("▓▒░", "%o.", strict=True)),
    **dict(zip("─━│┃┌┐└┘├┤┬┴┼╭╮╰╯", "--||+++++++++++++", strict=True)),
    **dict(zip("▶▸▾▼▲●○◆·•…—–×µ°", ">>vv^*o*..~--xud", strict=True)),
    **dict(zip("¹²³⁴⁵⁶⁷⁸⁹⁰", "1234567890", strict=True)),
    **dict(zip("←→↑↓", "<>^v", strict=True)),
}
_TABLE = str.maketrans(_SIGNS)


def locale_has_unicode() -> bool:
    """Whether the C library's character set is UTF-8. The interpreter's own UTF-8 mode says nothing of the terminal."""
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        return False  # it names a locale that this machine lacks: then it is "C"
    return locale.nl_langinfo(locale.CODESET).upper().replace("-", "") == "UTF8"


def to_ascii(text: str) -> str:
    """`text` with as many columns as before; what has no sign is a question mark for each column."""
    if text.isascii():
        return text
    return "".join(sign if sign.isascii() else "?" * cell_len(sign) for sign in text.translate(_TABLE))


class AsciiFilter(LineFilter):
    """Textual's own widgets (scroll bars, the palette) come through here as well as ours."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [segment._replace(text=to_ascii(segment.text)) for segment in segments]
