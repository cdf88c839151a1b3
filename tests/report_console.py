"""Consoles whose output can be read back."""

from __future__ import annotations

import io

from rich.console import Console


def console(width: int = 80, colour: bool = False, encoding: str = "utf-8") -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    return Console(
        file=file, width=width, force_terminal=colour, color_system="truecolor" if colour else None, _environ={}
    )


def text_of(out: Console) -> str:
    out.file.flush()
    return out.file.buffer.getvalue().decode(out.file.encoding)
