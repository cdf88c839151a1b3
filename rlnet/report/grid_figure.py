"""Heatmaps of a grid with arrows, numbers and marks."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rlnet.mdp.cells import DIRECTIONS, Cells, Kind, cells_of
from rlnet.mdp.marks import ENDS, MARKS, meanings, short, signed
from rlnet.report.colours import text_on
from rlnet.report.panels import (
    ERROR,
    VALUE,
    Panel,
    Scale,
    Unit,
    chosen_actions,
    grid_states,
    has_arrows,
    scale_of,
    unit_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from rlnet.mdp import FiniteMDP

MAPS = {VALUE: "viridis", ERROR: "PuOr_r"}
MAX_NUMBERED = 180  # cells; with more, numbers would be too small to read
MAX_ARROWS = 2500  # cells; with more, arrows would be dust
MAX_WIDTH, FOOTER = 24.0, 0.4  # inches: of panels side by side; of the key below
WALL, NO_NUMBER, START, INK = "#404040", "#9a9a9a", "#ff2ea6", "#202020"
HATCHES = {Kind.LOSS: "xxxx", Kind.HAZARD: "xxxx"}  # where cells are too small for letters


def grid_figure(mdp: FiniteMDP, panels: Sequence[Panel], starts: np.ndarray) -> Figure:
    """One heatmap per panel for a model with a shape; `starts` int [n] are the states to mark as start."""
    from matplotlib.figure import Figure

    grid, cells = grid_states(mdp), cells_of(mdp)
    rows, cols = grid.shape
    # Inches: half a one per cell holds a number; without numbers the longer side is six, but no cell is huge or a dot.
    cell = 0.5 if grid.size <= MAX_NUMBERED else float(np.clip(6.0 / max(rows, cols), 0.06, 0.5))
    wide, high = max(cols * cell, 2.2), max(rows * cell, 0.5)
    # Everything has its place in inches: automatic layout would measure every text and double the time.
    left, right, top, bottom = (0.4, 0.4, 0.45, 0.85) if _is_wide(grid) else (0.4, 0.75, 0.45, 0.35)
    slot = (wide + left + right, high + top + bottom)
    n = len(panels)
    below = _is_wide(grid) or slot[0] * n > MAX_WIDTH
    width, height = slot[0] * (1 if below else n), slot[1] * (n if below else 1) + FOOTER
    figure = Figure(figsize=(width, height), dpi=100)

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    for index, panel in enumerate(panels):
        x = left + (0 if below else index * slot[0])
        y = FOOTER + bottom + ((n - 1 - index) * slot[1] if below else 0)
        axes = place(x, y, wide, high)
        bar = (
            place(x + 0.2 * wide, y - 0.5, 0.6 * wide, 0.12)
            if _is_wide(grid)
            else place(x + wide + 0.08, y, 0.13, high)
        )
        scale, unit = scale_of(mdp, panels, panel.kind), unit_of(mdp, panels, panel.kind)
        axes.set_title(fill(panel.title + unit.suffix, int(11 * (slot[0] - 0.2))), fontsize=10)
        image = draw_grid(axes, mdp, cells, panel, scale, unit, starts, 72 * cell)
        _draw_bar(figure, bar, image, scale, unit, "horizontal" if _is_wide(grid) else "vertical")
    key = fill(_key(mdp, grid, cells, panels, starts), int(14 * (width - 0.2)))
    figure.text(0.5, 0.06 / height, key, ha="center", va="bottom", fontsize=8, color="#404040")
    return figure


def _is_wide(grid: np.ndarray) -> bool:
    return grid.shape[1] > 2.5 * grid.shape[0]


def draw_grid(
    axes: Axes,
    mdp: FiniteMDP,
    cells: Cells,
    panel: Panel,
    scale: Scale,
    unit: Unit,
    starts: np.ndarray,
    side: float,
) -> AxesImage:
    """Draw one panel with cells of about `side` points.

    The image holds v by cell, masked where nobody acts: walls, ends, cliffs. Everything else lies over it.
    """
    from matplotlib.colors import Normalize

    grid = grid_states(mdp)
    by_cell = np.where(cells.acts, panel.v[grid], np.nan)
    pad = max(abs(scale.low), 1.0) / 2 if scale.flat else 0.0
    image = axes.imshow(
        np.ma.masked_invalid(by_cell),
        cmap=_colour_map(panel.kind),
        norm=Normalize(scale.low - pad, scale.high + pad),
        interpolation="nearest",
        aspect="equal",
    )
    rows, cols = grid.shape
    axes.set_xticks(np.arange(0, cols, -(-cols // 13)))
    axes.set_yticks(np.arange(0, rows, -(-rows // 13)))
    axes.tick_params(length=0, labelsize=7, colors="#606060")
    numbers = grid.size <= MAX_NUMBERED
    if numbers:
        _draw_numbers(axes, cells, by_cell, unit, image)
    elif panel.kind == ERROR:
        _draw_signs(axes, by_cell, image, side)
    if panel.policy is not None and has_arrows(mdp) and grid.size <= MAX_ARROWS:
        _draw_arrows(axes, mdp, np.where(cells.acts, grid, -1), panel, image, at_edge=numbers)
    _draw_marks(axes, cells, np.isin(grid, starts), numbers)
    axes.set_xlim(-0.5, cols - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    return image


def _draw_bar(figure: Figure, axes: Axes, image: AxesImage, scale: Scale, unit: Unit, orientation: str) -> None:
    bar = figure.colorbar(image, cax=axes, orientation=orientation)
    axes.tick_params(labelsize=7)
    ticks = np.linspace(scale.low, scale.high, 1 if scale.flat else 5)
    bar.set_ticks(ticks.tolist(), labels=[unit.text(x) for x in ticks])


def _colour_map(kind: str) -> Any:
    import matplotlib

    return matplotlib.colormaps[MAPS[kind]].with_extremes(bad=NO_NUMBER)


def _inks(image: AxesImage, values: np.ndarray) -> np.ndarray:
    """The colour of text on each value [n] of an image: str [n], "black" or "white"."""
    colours = image.cmap(image.norm(np.ma.masked_invalid(values)))
    return np.array([text_on(cast(Any, colour), largest=1.0) for colour in colours], dtype=object)


def _draw_numbers(axes: Axes, cells: Cells, by_cell: np.ndarray, unit: Unit, image: AxesImage) -> None:
    places = np.argwhere(cells.acts)
    values = by_cell[cells.acts]
    for (row, col), value, ink in zip(places, values, _inks(image, values), strict=True):
        text = unit.text(value)
        size = 8 if len(text) <= 5 else 6.5
        axes.text(col, row, text, ha="center", va="center", fontsize=size, color=ink)


def _draw_signs(axes: Axes, by_cell: np.ndarray, image: AxesImage, side: float) -> None:
    """A dash in cells of negative error: a diverging map alone has no sign in greyscale."""
    row, col = np.nonzero(np.nan_to_num(by_cell) < 0)
    style: dict[str, Any] = {"c": _inks(image, by_cell[row, col]), "linewidths": 0.04 * side, "label": "negative"}
    axes.scatter(col, row, marker="_", s=(0.4 * side) ** 2, in_layout=False, **style)


def _draw_arrows(axes: Axes, mdp: FiniteMDP, grid: np.ndarray, panel: Panel, image: AxesImage, at_edge: bool) -> None:
    """An arrow head per chosen action: at the cell's edge, around the number, or an arrow from its middle."""
    chosen = chosen_actions(mdp, cast(np.ndarray, panel.policy))
    cells = np.argwhere(grid >= 0)
    states = grid[cells[:, 0], cells[:, 1]]
    ink = _inks(image, panel.v[states])
    for action, label in enumerate(mdp.action_labels or ()):
        down, right = DIRECTIONS[label]
        take = chosen[states, action]
        if not take.any():
            continue
        style = {"c": ink[take], "label": label}
        row, col = cells[take, 0].astype(float), cells[take, 1].astype(float)
        if label == "·":
            axes.scatter(col, row + (0.25 if at_edge else 0), s=6, **style)
        elif at_edge:
            angle = np.degrees(np.arctan2(-right, -down))
            axes.scatter(col + 0.37 * right, row + 0.37 * down, marker=(3, 0, angle), s=14, **style)
        else:
            unit = 0.38 / np.hypot(down, right)
            axes.quiver(
                col, row, np.full(len(col), right * unit), np.full(len(row), down * unit), color=ink[take], label=label,
                angles="xy", scale_units="xy", scale=1, units="xy", width=0.08, headwidth=4, headlength=4,
            )  # fmt: skip


def _draw_marks(axes: Axes, cells: Cells, begins: np.ndarray, numbers: bool) -> None:
    """Walls, starts (`begins`, bool [rows, cols]) and what `rlnet.mdp.marks` has a letter for.

    A mark fills its cell where nobody acts; elsewhere it is a frame, so that the value can be read.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    def squares(where: np.ndarray, size: float, **style: Any) -> None:
        boxes = [Rectangle((col - size / 2, row - size / 2), size, size) for row, col in np.argwhere(where)]
        if boxes:
            axes.add_collection(PatchCollection(boxes, match_original=False, **style))

    wall = {"facecolor": WALL, "edgecolor": "#6a6a6a", "hatch": "////", "linewidth": 0, "label": "wall"}
    squares(cells.kind == Kind.WALL, 1.0, **wall)
    for kind, mark in MARKS.items():
        here, colour, label = cells.kind == kind, np.array(mark.colour) / 255, kind.name.lower()
        hatch = None if numbers else HATCHES.get(kind)
        squares(here & ~cells.acts, 1.0, facecolor=colour, edgecolor=INK, linewidth=0.5, hatch=hatch, label=label)
        if kind in ENDS:
            squares(here & ~cells.acts, 0.8, facecolor="none", edgecolor=INK, linewidth=0.8, label="end of an episode")
        squares(here & cells.acts, 0.8, facecolor="none", edgecolor=colour, linewidth=1.4, label=label)
    squares(begins, 0.9, facecolor="none", edgecolor=START, linewidth=1.4, label="start")
    if numbers:
        _draw_letters(axes, cells)
        for row, col in np.argwhere(begins):
            axes.text(col - 0.36, row - 0.36, "S", ha="left", va="top", fontsize=6, weight="bold", color=START)


def _draw_letters(axes: Axes, cells: Cells) -> None:
    """The letter of a mark over its reward; both in a corner where the cell has a value."""
    for row, col in np.argwhere(cells.marked):
        kind, reward = Kind(cells.kind[row, col]), signed(cells.reward[row, col])
        if cells.acts[row, col]:
            box = {"facecolor": np.array(MARKS[kind].colour) / 255, "edgecolor": "none", "pad": 0.6}
            place = {"x": col + 0.47, "y": row - 0.45, "ha": "right", "va": "top", "fontsize": 6}
            axes.text(**place, s=short(cells, row, col), color=INK, bbox=box)
        else:
            text = f"{MARKS[kind].letter}\n{reward}" if reward else MARKS[kind].letter
            axes.text(col, row, text, ha="center", va="center", fontsize=8, linespacing=1.0, color=INK)


def _key(mdp: FiniteMDP, grid: np.ndarray, cells: Cells, panels: Sequence[Panel], starts: np.ndarray) -> str:
    """What the marks mean, as far as they occur."""
    with_policy = [panel for panel in panels if panel.policy is not None]
    parts = [
        ("framed, S: start", len(starts) > 0),
        *((text, True) for _, text in meanings(cells, letters=grid.size <= MAX_NUMBERED)),
        ("hatched: wall", bool((cells.kind == Kind.WALL).any())),
        ("arrows: most probable actions", bool(with_policy) and has_arrows(mdp) and grid.size <= MAX_ARROWS),
        ("the actions have no directions, so no arrows", bool(with_policy) and not has_arrows(mdp)),
        ("too many cells for arrows", bool(with_policy) and has_arrows(mdp) and grid.size > MAX_ARROWS),
        ("dash: negative", grid.size > MAX_NUMBERED and any(panel.kind == ERROR for panel in panels)),
        ("grey: not a finite number", not all(np.isfinite(panel.v[grid[cells.acts]]).all() for panel in panels)),
    ]
    return " · ".join(text for text, occurs in parts if occurs)
