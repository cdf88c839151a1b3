"""Printing for any console: with or without colours, Unicode or ASCII."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlnet.config.files import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

ASCII = (
    str.maketrans("↑→↓←↗↘↙↖·", "^>v</\\/\\.")
    | str.maketrans("│─└┘┌┐├┤┴┬┼█", "|-L++++++++#")
    | str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    | str.maketrans({"−": "-", "–": "-", "…": "...", "≈": "~", "×": "x", "γ": "gamma", "π": "pi"})
)


def fit(console: Console, text: str) -> str:
    """The text without control characters; its nearest ASCII where the console's encoding lacks its characters."""
    text = printable(text, keep="\n")
    return text.translate(ASCII).encode("ascii", "replace").decode() if console.options.ascii_only else text


def print_text(console: Console, text: Text, wrap: bool = False) -> None:
    """Print text; without `wrap` a line stays one line, cut where the console ends."""
    if console.options.ascii_only:
        text = text.copy()
        text.plain = fit(console, text.plain)
    console.print(text, no_wrap=not wrap, overflow="fold" if wrap else "crop", crop=not wrap)


def say(console: Console, sentence: str) -> None:
    """Print a plain sentence, wrapped."""
    console.print(fit(console, sentence), markup=False, highlight=False)


def coloured(console: Console) -> bool:
    """Whether the console shows colours."""
    return console.color_system is not None and not console.no_color
