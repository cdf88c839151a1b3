"""Grids in the terminal: a number and arrows in every cell, panels side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from rlnet.mdp.cells import Cells, Kind, cells_of, few_starts
from rlnet.mdp.marks import MARKS, meanings, short
from rlnet.report.colours import NEUTRAL, colour_at, style_on
from rlnet.report.panels import (
    ERROR,
    VALUE,
    Panel,
    Scale,
    Unit,
    chosen_actions,
    finite_values,
    grid_states,
    has_arrows,
    scale_of,
)
from rlnet.report.text import coloured, print_text, say
from rlnet.report.text_layout import GAP, Plan, plan_of, units_and_widths

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from rlnet.mdp import FiniteMDP

WALL_STYLE = "#3a3a3a"
# Several arrows in one character: lines towards each of them.
COMBINED = {
    "↑↓": "│", "→←": "─", "↑→": "└", "↑←": "┘", "→↓": "┌", "↓←": "┐",
    "↑→↓": "├", "↑↓←": "┤", "↑→←": "┴", "→↓←": "┬", "↑→↓←": "┼",
}  # fmt: skip
MANY = "*"


@dataclass(frozen=True)
class Sheet:
    """The data from which the cells of all panels are drawn."""

    mdp: FiniteMDP
    grid: np.ndarray  # int [rows, cols], -1 where there is not a Markov state
    cells: Cells
    plan: Plan
    scales: dict[str, Scale]
    units: dict[str, Unit]
    starts: frozenset[int]
    apart: int  # characters that keep the arrows of neighbouring cells apart, where no colours do

    def room(self, kind: str) -> int:
        """The number of characters for the arrows of a cell."""
        return self.plan.widths[kind] - self.apart if self.plan.numbers else 1


def show_grid(console: Console, mdp: FiniteMDP, panels: Sequence[Panel]) -> None:
    """Print the panels of a model with a shape. The panels must fit the model (`check_panels`)."""
    grid, cells = grid_states(mdp), cells_of(mdp)
    units, widths = units_and_widths(console, mdp, panels, cells)
    plan = plan_of(console, mdp, grid, panels, widths)
    scales = {kind: scale_of(mdp, panels, kind) for kind in (VALUE, ERROR)}
    starts, apart = frozenset(few_starts(mdp).tolist()), int(not coloured(console))
    sheet = Sheet(mdp, grid, cells, plan, scales, units, starts, apart)
    for block in plan.blocks:
        if len(plan.blocks) > 1:
            say(console, f"Columns {block.start}–{block.stop - 1}:")
        for group in _groups(console, sheet, panels, block):
            _print_group(console, sheet, group, block)
    _print_legend(console, sheet, panels)


def _groups(console: Console, sheet: Sheet, panels: Sequence[Panel], block: slice) -> list[list[Panel]]:
    """The panels that stand side by side: as many as the width takes, the rest below."""
    groups: list[list[Panel]] = []
    left = 0
    for panel in panels:
        width = sheet.plan.widths[panel.kind] * (block.stop - block.start)
        if not groups or width + GAP > left:
            groups.append([])
            left = console.width + GAP
        groups[-1].append(panel)
        left -= width + GAP
    return groups


def _print_group(console: Console, sheet: Sheet, group: Sequence[Panel], block: slice) -> None:
    from textwrap import wrap

    from rich.text import Text

    # A second line per row of cells is for arrows and marks, so only where there are some.
    notes = any(shows_policy(sheet.mdp, panel) for panel in group) or bool(
        (sheet.cells.marked & sheet.cells.acts).any()
    )
    height = 2 if sheet.plan.numbers and notes else 1
    widths = [sheet.plan.widths[panel.kind] * (block.stop - block.start) for panel in group]
    titles = [
        wrap(panel.title + sheet.units[panel.kind].suffix, width) for panel, width in zip(group, widths, strict=True)
    ]
    most = max(map(len, titles))
    columns = []
    for panel, title, width in zip(group, titles, widths, strict=True):
        head = [Text(line.ljust(width), style="bold") for line in [""] * (most - len(title)) + title]
        columns.append(head + _body(sheet, panel, block, height))
    for parts in zip(*columns, strict=True):
        print_text(console, Text(" " * GAP).join(parts))
    console.print()


def _body(sheet: Sheet, panel: Panel, block: slice, height: int) -> list[Text]:
    """The lines of one panel's cells over some columns, `height` per row of cells."""
    from rich.text import Text

    shown = panel.policy is not None and has_arrows(sheet.mdp)
    chosen = chosen_actions(sheet.mdp, cast(np.ndarray, panel.policy)) if shown else None
    lines = []
    for row in range(*sheet.plan.rows.indices(sheet.grid.shape[0])):
        cells = [_cell(sheet, panel, (row, col), chosen) for col in range(block.start, block.stop)]
        for line in range(height):
            lines.append(Text.assemble(*((text[line], style) for text, style in cells)))
    return lines


def _cell(sheet: Sheet, panel: Panel, at: tuple[int, int], chosen: np.ndarray | None) -> tuple[tuple[str, str], str]:
    """The two lines (not both are always drawn) and the style of one cell, at (row, column)."""
    width, small, state = sheet.plan.widths[panel.kind], not sheet.plan.numbers, int(sheet.grid[at])
    kind = Kind(sheet.cells.kind[at])
    if kind is Kind.WALL:
        return ("█" * width,) * 2, WALL_STYLE
    if not sheet.cells.acts[at]:
        mark = _fitting(sheet, at, 1 if small else width - 1)
        return (mark.center(width), " " * width), style_on(MARKS[kind].colour)
    value = panel.v[state]
    scale, unit = sheet.scales[panel.kind], sheet.units[panel.kind]
    colour = colour_at(panel.kind, scale.fraction(value)) if np.isfinite(value) else NEUTRAL
    arrows = "" if chosen is None else "".join(np.array(sheet.mdp.action_labels)[chosen[state]])
    marked = kind in MARKS
    if small:
        glyph = arrows if len(arrows) <= 1 else COMBINED.get("".join(sorted(arrows, key="↑→↓←".find)), MANY)
        if panel.kind == ERROR and not glyph:
            glyph = "+" if value > 0 else "-" if value < 0 else " "
        return ((MARKS[kind].letter if marked else glyph).center(width), ""), style_on(colour)
    start, room = "S" if state in sheet.starts else "", sheet.room(panel.kind)
    arrows = arrows if len(start + arrows) + marked <= room else MANY
    mark = _fitting(sheet, at, room - len(start + arrows)) if marked else ""
    return (unit.text(value).center(width), (start + mark + arrows).center(width)), style_on(colour)


def _fitting(sheet: Sheet, at: tuple[int, int], room: int) -> str:
    """The mark of a cell with its reward, or its letter alone where that does not fit."""
    mark = short(sheet.cells, *at)
    return mark if len(mark) <= room else mark[0]


def _print_legend(console: Console, sheet: Sheet, panels: Sequence[Panel]) -> None:
    for kind in (VALUE, ERROR):
        of_kind = [panel for panel in panels if panel.kind == kind]
        if of_kind and len(finite_values(sheet.mdp, of_kind, kind)):
            _print_scale(console, kind, sheet.scales[kind], sheet.units[kind], len(of_kind))
    _print_key(console, sheet, panels)
    if sheet.plan.remark:
        say(console, sheet.plan.remark)
    if not has_arrows(sheet.mdp) and any(panel.policy is not None for panel in panels):
        say(console, "The policy is not drawn: the actions have no directions.")


def _print_key(console: Console, sheet: Sheet, panels: Sequence[Panel]) -> None:
    """What the marks mean, as far as they occur."""
    from rich.text import Text

    window = sheet.plan.rows, slice(sheet.plan.blocks[0].start, sheet.plan.blocks[-1].stop)
    visible, kinds = sheet.grid[window], sheet.cells.kind[window]
    states = visible[sheet.cells.acts[window]]
    with_arrows = [panel for panel in panels if shows_policy(sheet.mdp, panel)]
    key: list[Text] = []
    if sheet.plan.numbers and with_arrows and sheet.starts & set(states.tolist()):
        key.append(Text("S start"))
    seen = Cells(sheet.cells.acts[window], kinds, sheet.cells.reward[window])
    key += [
        Text.assemble((MARKS[kind].letter, style_on(MARKS[kind].colour)), text[1:]) for kind, text in meanings(seen)
    ]
    if (kinds == Kind.WALL).any():
        key.append(Text.assemble(("██", WALL_STYLE), " wall"))
    if with_arrows:
        key.append(Text("arrows: most probable actions"))
        if _crowded(sheet, with_arrows, states):
            key.append(Text(f"{MANY} more than fit" if sheet.plan.numbers else f"lines and {MANY}: several"))
    if key:
        print_text(console, Text(", ").join(key), wrap=True)


def _crowded(sheet: Sheet, panels: Sequence[Panel], states: np.ndarray) -> bool:
    """Whether some cell of the states int [n] has more arrows than it can hold."""
    marked = np.isin(states, sheet.grid[sheet.cells.marked])
    marks = (np.isin(states, list(sheet.starts)).astype(int) + marked) * sheet.plan.numbers
    policies = [(cast(np.ndarray, panel.policy), panel.kind) for panel in panels]
    counts = [(chosen_actions(sheet.mdp, policy)[states].sum(axis=1), kind) for policy, kind in policies]
    return any(bool((count + marks > sheet.room(kind)).any()) for count, kind in counts)


def _print_scale(console: Console, kind: str, scale: Scale, unit: Unit, n_panels: int) -> None:
    from rich.text import Text

    name = ("error" if kind == ERROR else "value") + unit.suffix
    line = Text(f"{name}: {unit.text(scale.low)}")
    if not scale.flat:
        line.append(" ")
        if coloured(console):
            for step in range(16):
                red, green, blue = colour_at(kind, step / 15)
                line.append(" ", f"on #{red:02x}{green:02x}{blue:02x}")
        else:
            line.append("to")
        line.append(f" {unit.text(scale.high)}")
    if n_panels > 1 and coloured(console):
        line.append(" (one scale for all)")
    print_text(console, line)


def shows_policy(mdp: FiniteMDP, panel: Panel) -> bool:
    """Whether a panel's policy can be drawn as arrows."""
    return panel.policy is not None and has_arrows(mdp)
