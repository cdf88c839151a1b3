"""Interactive SVG drawings of states for the HTML page.

On a grid a cell is drawn as a cell; elsewhere states stand side by side, sorted by their exact value. The colours are
those of the terminal and of the figures, and panels of a kind share one scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from rlnet.mdp.cells import DIRECTIONS, Cells, Kind, cells_of, few_starts
from rlnet.mdp.marks import ENDS, MARKS, short, signed
from rlnet.report.colours import NEUTRAL, colour_at, text_on
from rlnet.report.panels import (
    ERROR,
    VALUE,
    Panel,
    Scale,
    chosen_actions,
    finite_values,
    grid_states,
    has_arrows,
    scale_of,
    unit_of,
)

if TYPE_CHECKING:
    from rlnet.mdp import FiniteMDP

CELL = 40  # units of a cell's side; the drawing itself scales with the page
MAX_NUMBERED = 180  # cells; with more, numbers would be too small to read
OVER, UNDER = "#e08214", "#8073ac"  # errors above and below 0, as in the figures
WALL, START, INK = "#404040", "#ff2ea6", "#202020"
LEAST_BAR, PLOT_HEIGHT, PLOT_WIDTH = 2.0, 150, 640  # units of a drawing without a grid


def maps(mdp: FiniteMDP, panels: Sequence[Panel], visits: np.ndarray) -> list[dict[str, str]]:
    """One drawing per panel, and one of the visits [S]: dicts of title, svg and scale (what the colours mean)."""
    drawings = []
    cells = cells_of(mdp)
    for panel in panels:
        unit, scale = unit_of(mdp, panels, panel.kind), scale_of(mdp, panels, panel.kind)
        texts = [unit.text(x) for x in panel.v]
        fill = [_hex(colour_at(panel.kind, scale.fraction(x)) if np.isfinite(x) else NEUTRAL) for x in panel.v]
        legend = _legend(panel.kind, unit.text(scale.low), unit.text(scale.high), scale)
        drawings.append(
            {"title": panel.title + unit.suffix, "svg": _grid(mdp, cells, fill, texts, panel), "scale": legend}
        )
    shade = np.log1p(visits) / max(np.log1p(visits.max(initial=0)), 1e-300)
    fill = [_hex(_blue(x)) for x in shade]
    texts = [_short(x) for x in visits]
    legend = f'<span class="ramp visits"></span> 0 to {visits.max(initial=0):,}, logarithmic'
    tried = Panel("visits in training", visits, kind=VALUE)
    drawings.append({"title": tried.title, "svg": _grid(mdp, cells, fill, texts, tried), "scale": legend})
    return drawings


def _grid(mdp: FiniteMDP, cells: Cells, fill: Sequence[str], texts: Sequence[str], panel: Panel) -> str:
    """The cells of a grid, each a group with the number of its state where it has one."""
    grid = grid_states(mdp)
    rows, cols = grid.shape
    numbers = grid.size <= MAX_NUMBERED
    chosen = chosen_actions(mdp, panel.policy) if panel.policy is not None and has_arrows(mdp) else None
    starts, names = set(few_starts(mdp).tolist()), mdp.action_labels or ()
    parts = [f'<rect width="{cols * CELL}" height="{rows * CELL}" fill="{WALL}"/>']
    for at, state in np.ndenumerate(grid):
        if cells.kind[at] == Kind.WALL:
            continue
        inner = []
        if cells.acts[at]:
            colour = fill[state]
            red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
            ink = text_on((red, green, blue))
            inner.append(_square(colour))
            if chosen is not None:
                inner += [_arrow(DIRECTIONS[names[a]], ink, numbers) for a in np.flatnonzero(chosen[state])]
            if cells.marked[at]:
                inner.append(_note(cells, at, numbers))
            if numbers:
                small = ' class="small"' if len(texts[state]) > 4 else ""
                place = f'x="{CELL / 2}" y="{CELL / 2 + 4}" fill="{ink}"{small}'
                inner.append(f"<text {place}>{escape(texts[state])}</text>")
            elif panel.kind == ERROR and panel.v[state] < 0:  # a sign that can be read in greyscale
                inner.append(f'<path d="M{0.3 * CELL} {CELL / 2}h{0.4 * CELL}" stroke="{ink}" stroke-width="3"/>')
        else:
            inner.append(_mark(cells, at))
        if state in starts:
            inner.append(_frame(1.5, START, "start"))
        parts.append(_group(state, f"translate({at[1] * CELL} {at[0] * CELL})", "".join(inner)))
    return _svg(cols * CELL, rows * CELL, panel.title, "".join(parts), crisp=not numbers)


def _square(colour: str) -> str:
    return f'<rect width="{CELL - 0.5}" height="{CELL - 0.5}" fill="{colour}"/>'


def _frame(margin: float, colour: str, name: str) -> str:
    side = CELL - 0.5 - 2 * margin
    return f'<rect x="{margin}" y="{margin}" width="{side}" height="{side}" class="{name}" stroke="{colour}"/>'


def _mark(cells: Cells, at: tuple[int, ...]) -> str:
    """A cell where nobody acts, filled with the colour of its kind: its letter over its reward."""
    kind, reward = Kind(cells.kind[at]), signed(cells.reward[at])
    parts = [_square(_hex(MARKS[kind].colour)), _frame(3, INK, "end") if kind in ENDS else ""]
    for y, text in ((CELL / 2 - 2, MARKS[kind].letter), (CELL / 2 + 11, reward)):
        parts.append(f'<text x="{CELL / 2}" y="{y}" fill="{INK}">{escape(text)}</text>' if text else "")
    return "".join(parts)


def _note(cells: Cells, at: tuple[int, ...], numbers: bool) -> str:
    """What a cell with a value is besides: a frame, and its letter and reward in the corner."""
    colour, text = _hex(MARKS[Kind(cells.kind[at])].colour), short(cells, *at)
    frame = _frame(3.5, colour, "mark")
    if not numbers:
        return frame
    width = 2.5 + 3.8 * len(text)
    box = f'<rect x="{CELL - 1.5 - width:g}" y="1.5" width="{width:g}" height="8" fill="{colour}"/>'
    return f'{frame}{box}<text x="{CELL - 1.5 - width / 2:g}" y="8" fill="{INK}" class="note">{escape(text)}</text>'


def _arrow(direction: tuple[int, int], ink: str, at_edge: bool) -> str:
    """A triangle towards where the action points, small at the edge where a number stands; a dot for staying."""
    down, right = direction
    if (down, right) == (0, 0):
        return f'<circle cx="{CELL / 2}" cy="{CELL - 7}" r="2.5" fill="{ink}"/>'
    angle = np.degrees(np.arctan2(down, right))
    half = CELL / 2
    far, size = (0.39 * CELL, 1) if at_edge else (0.2 * CELL, 2)
    place = f"translate({half + far * right:g} {half + far * down:g}) rotate({angle:.0f}) scale({size})"
    return f'<path d="M4 0L-3 4.5L-3 -4.5Z" fill="{ink}" transform="{place}"/>'


def bars(mdp: FiniteMDP, panels: Sequence[Panel], visits: np.ndarray) -> list[dict[str, str]]:
    """Bar charts for a model that is no grid: values, errors and visits over the states, sorted by exact value.

    A grid of one row keeps its order.
    """
    values = [panel for panel in panels if panel.kind == VALUE]
    errors = [panel for panel in panels if panel.kind == ERROR]
    order = np.argsort(values[-1].v, kind="stable") if mdp.shape is None else grid_states(mdp).ravel()
    states = order[(order >= 0) & ~mdp.terminal[order]]
    learned, exact = values[0].v[states], values[-1].v[states]
    low, high = (float(f(np.append(finite_values(mdp, values, VALUE), 0.0))) for f in (np.min, np.max))
    unit = unit_of(mdp, panels, VALUE)
    by = "sorted by their exact value" if mdp.shape is None else "from left to right"
    note = f"{unit.text(low)} to {unit.text(high)}{unit.suffix}; states {by}"
    drawings = [
        {
            "title": f"{values[0].title} (dots) and {values[-1].title} (bars)",
            "svg": _plot(states, low, high, exact, learned, "#9a9a9a", values[0].title),
            "scale": note,
        }
    ]
    for panel in errors:
        unit, scale = unit_of(mdp, panels, ERROR), scale_of(mdp, panels, ERROR)
        svg = _plot(states, scale.low, scale.high, panel.v[states], None, OVER, panel.title)
        note = f"{unit.text(scale.low)} to {unit.text(scale.high)}{unit.suffix}"
        drawings.append({"title": panel.title, "svg": svg, "scale": note})
    many = np.log1p(visits[states])
    svg = _plot(states, 0.0, float(many.max(initial=1e-9)), many, None, "#1d4e89", "visits")
    note = f"0 to {visits.max(initial=0):,}, logarithmic"
    return [*drawings, {"title": "visits in training", "svg": svg, "scale": note}]


def _plot(
    states: np.ndarray,
    low: float,
    high: float,
    heights: np.ndarray,
    dots: np.ndarray | None,
    colour: str,
    title: str,
) -> str:
    """A bar per state from 0 to its height, a dot at another number, and a full-height target for the pointer."""
    width = max(LEAST_BAR, PLOT_WIDTH / max(len(states), 1))
    span = max(high - low, 1e-300)

    def y(x: float) -> float:
        return float(np.clip((high - x) / span, 0, 1)) * PLOT_HEIGHT if np.isfinite(x) else PLOT_HEIGHT / 2

    parts = [f'<rect width="{width * len(states):.1f}" height="{PLOT_HEIGHT}" fill="#fff"/>']
    for k, state in enumerate(states):
        top, bottom = sorted((y(heights[k]), y(0.0)))
        paint = UNDER if colour == OVER and heights[k] < 0 else colour
        inner = f'<rect width="{width:.2f}" height="{PLOT_HEIGHT}" fill="transparent"/>'
        inner += f'<rect y="{top:.1f}" width="{0.8 * width:.2f}" height="{max(bottom - top, 0.5):.1f}" fill="{paint}"/>'
        if dots is not None:
            radius = min(max(0.4 * width, 1.5), 4.0)
            inner += f'<circle cx="{0.4 * width:.2f}" cy="{y(dots[k]):.1f}" r="{radius:.1f}" fill="#0072b2"/>'
        parts.append(_group(int(state), f"translate({k * width:.2f} 0)", inner))
    parts.append(f'<path d="M0 {y(0.0):.1f}H{width * len(states):.1f}" stroke="#404040" stroke-width="0.7"/>')
    return _svg(width * len(states), PLOT_HEIGHT, title, "".join(parts))


def _group(state: int, transform: str, inner: str) -> str:
    number = f' data-s="{state}"' if state >= 0 else ""
    return f'<g{number} transform="{transform}">{inner}</g>'


def _svg(width: float, height: float, title: str, inner: str, crisp: bool = False) -> str:
    rendering = ' shape-rendering="crispEdges"' if crisp else ""
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}"{rendering}>{inner}</svg>'


def _legend(kind: str, low: str, high: str, scale: Scale) -> str:
    name = "error" if kind == ERROR else "value"
    return low if scale.flat else f'{low} <span class="ramp {name}"></span> {high}'


def ramp(kind: str) -> str:
    """A CSS gradient of a colour map: "value", "error" or "visits"."""
    places = np.linspace(0, 1, 9)
    colours = [_hex(_blue(x) if kind == "visits" else colour_at(kind, x)) for x in places]
    return f"linear-gradient(90deg, {', '.join(colours)})"


def _blue(fraction: float) -> tuple[int, int, int]:
    """From nearly white to dark blue: darker all the way, so it reads in greyscale."""
    light, dark = np.array((247, 251, 255)), np.array((8, 48, 107))
    red, green, blue = (round(x) for x in light + fraction * (dark - light))
    return red, green, blue


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _short(count: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.3g}"
