"""Layout of grids in the terminal: units, widths of cells, blocks of columns, or a window of a large grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rlnet.mdp.cells import Cells
from rlnet.mdp.marks import short
from rlnet.report.panels import ERROR, VALUE, Panel, Unit, unit_of
from rlnet.report.text import coloured

if TYPE_CHECKING:
    from rich.console import Console

    from rlnet.mdp import FiniteMDP

GAP = 2  # columns between panels
MAX_ROWS = 20  # more rows of cells than this do not get numbers
MAX_SMALL_ROWS = 40
LEAST_WIDTH = 3  # characters of a cell's number or mark
LONGEST_MARK = 5  # characters; a longer one is cut to its letter rather than widen every cell
MAX_MEASURED = 1000  # marks looked at for the width of a cell
WINDOW_ROWS = 11  # of a grid that does not fit at all


@dataclass(frozen=True)
class Plan:
    """Layout of the cells, the same for all panels."""

    numbers: bool  # a number and a line of arrows; otherwise one glyph on the colour
    widths: dict[str, int]  # characters per cell, by kind of panel
    rows: slice
    blocks: tuple[slice, ...]  # of columns, drawn below each other
    remark: str  # what is not shown; empty where everything is


def units_and_widths(
    console: Console, mdp: FiniteMDP, panels: Sequence[Panel], cells: Cells
) -> tuple[dict[str, Unit], dict[str, int]]:
    """Units and widths per cell of each kind; with a decimal less if that puts all panels side by side."""
    units = {kind: unit_of(mdp, panels, kind) for kind in (VALUE, ERROR)}
    shorter = {kind: replace(unit, decimals=max(unit.decimals - 1, 1)) for kind, unit in units.items()}
    shorter = {kind: min(unit, units[kind], key=lambda u: u.decimals) for kind, unit in shorter.items()}
    options = [units, units | {ERROR: shorter[ERROR]}, shorter]
    measured = [(option, _widths(mdp, panels, option, cells)) for option in options]
    for option, widths in measured:
        columns = cells.kind.shape[1]
        line = sum(columns * widths[panel.kind] for panel in panels) + GAP * (len(panels) - 1)
        if line <= console.width:
            return option, widths
    return measured[0]


def _widths(mdp: FiniteMDP, panels: Sequence[Panel], units: dict[str, Unit], cells: Cells) -> dict[str, int]:
    marks = [len(short(cells, row, col)) for row, col in np.argwhere(cells.marked)[:MAX_MEASURED]]
    longest = max([LEAST_WIDTH, *(length for length in marks if length <= LONGEST_MARK)])
    return {
        kind: 1 + max([len(unit.text(x)) for p in panels if p.kind == kind for x in p.v[~mdp.terminal]] + [longest])
        for kind, unit in units.items()
    }


def plan_of(
    console: Console, mdp: FiniteMDP, grid: np.ndarray, panels: Sequence[Panel], widths: dict[str, int]
) -> Plan:
    """Choose the layout: numbers where they fit, else one glyph per cell (needs colours), else a window."""
    rows, cols = grid.shape
    size = f"The grid has {rows} × {cols} cells"
    small = (dict.fromkeys(widths, 2), MAX_SMALL_ROWS, f"{size}, too many for numbers here.")
    for cells, most_rows, remark in ((widths, MAX_ROWS, ""), small):
        if cells is not widths and not coloured(console):
            continue
        n_blocks = -(-cols // max(1, console.width // max(cells.values())))
        if rows * n_blocks <= (most_rows if n_blocks == 1 else MAX_ROWS):
            step = -(-cols // n_blocks)
            blocks = tuple(slice(at, min(at + step, cols)) for at in range(0, cols, step))
            return Plan(cells is widths, cells, slice(0, rows), blocks, remark)
    centre, name = _interesting_cell(mdp, grid, panels)
    row = _window(rows, WINDOW_ROWS, centre[0])
    col = _window(cols, max(1, console.width // max(widths.values())), centre[1])
    remark = (
        f"{size}. Shown are rows {row.start}–{row.stop - 1} and columns {col.start}–{col.stop - 1}, around {name}; "
        "scales are those of the whole grid."
    )
    return Plan(True, widths, row, (col,), remark)


def _interesting_cell(mdp: FiniteMDP, grid: np.ndarray, panels: Sequence[Panel]) -> tuple[tuple[int, int], str]:
    """The cell that a window should show: where an error is largest, or else the likeliest start."""
    errors = [np.where(mdp.terminal | ~np.isfinite(p.v), 0.0, np.abs(p.v)) for p in panels if p.kind == ERROR]
    state = int(np.argmax(np.max(errors, axis=0) if errors else mdp.start))
    row, col = (int(x[0]) for x in np.nonzero(grid == state))
    return (row, col), "the largest error" if errors else "the start"


def _window(size: int, most: int, centre: int) -> slice:
    first = int(np.clip(centre - most // 2, 0, max(size - most, 0)))
    return slice(first, min(first + most, size))
