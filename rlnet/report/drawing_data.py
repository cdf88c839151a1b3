"""Data and scripts of drawings on a page that answer to clicks: a board of a game, a road."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlnet.report.html import TEMPLATES

RANGE = 32_767  # numbers are whole multiples of the largest one / RANGE


def packed(arrays: Mapping[str, np.ndarray], numbers: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Arrays as `unpacked` in drawing.js reads them: one after the other, each from a multiple of 8 bytes on.

    Args:
        arrays: kept as they are.
        numbers: kept as whole multiples of a unit, the `scale` of each.
    """
    scale, every = {}, dict(arrays)
    for name, x in numbers.items():
        sound = np.nan_to_num(np.asarray(x, float), posinf=0.0, neginf=0.0)
        scale[name] = float(np.abs(sound).max(initial=0.0) or 1.0) / RANGE
        every[name] = np.round(sound / scale[name]).astype(np.int16)
    parts = []
    for array in every.values():
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        parts.append(content + b"\0" * (-len(content) % 8))
    return {
        "packed": base64.b64encode(zlib.compress(b"".join(parts), 9)).decode("ascii"),
        "arrays": [[name, array.dtype.name, len(array)] for name, array in every.items()],
        "scale": scale,
    }


def drawing_script(name: str) -> str:
    """The script of a drawing, NAME.js, after what all drawings need."""
    return "\n".join((TEMPLATES / f"{part}.js").read_text(encoding="utf-8") for part in ("drawing", name))
