"""Colours of the terminal: the same two maps as in the figures, without loading matplotlib."""

from __future__ import annotations

from rlnet.mdp.marks import RGB
from rlnet.report.panels import ERROR

# matplotlib's viridis and PuOr_r at nine even steps. Both can be told apart by colour-blind readers; viridis grows
# lighter all the way, so it also reads in greyscale.
VIRIDIS = (0x440154, 0x472D7B, 0x3B528B, 0x2C728E, 0x21918C, 0x28AE80, 0x5EC962, 0xADDC30, 0xFDE725)
PURPLE_ORANGE = (0x2D004B, 0x5F3A91, 0x9990BF, 0xCFCFE5, 0xF7F7F6, 0xFED59F, 0xEE9B39, 0xBD6109, 0x7F3B08)
NEUTRAL = (128, 128, 128)  # what has no place on a scale: nan, inf


def colour_at(kind: str, fraction: float) -> RGB:
    """The colour (red, green, blue in 0..255) at a place in [0, 1] of the map for panels of this kind."""
    anchors = PURPLE_ORANGE if kind == ERROR else VIRIDIS
    place = fraction * (len(anchors) - 1)
    index = min(int(place), len(anchors) - 2)
    weight = place - index
    low, high = (((anchor >> 16) & 255, (anchor >> 8) & 255, anchor & 255) for anchor in anchors[index : index + 2])
    red, green, blue = (round((1 - weight) * a + weight * b) for a, b in zip(low, high, strict=True))
    return red, green, blue


def text_on(background: tuple[float, float, float], largest: float = 255.0) -> str:
    """ "black" or "white": the one of higher contrast (WCAG 2 relative luminance) on channels in [0, largest]."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / largest for x in background[:3])
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"


def style_on(background: RGB) -> str:
    """A rich style: text of the right contrast on this background."""
    ink = "#000000" if text_on(background) == "black" else "#ffffff"
    return "{} on #{:02x}{:02x}{:02x}".format(ink, *background)
