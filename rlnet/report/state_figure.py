"""Figure of a model that is no grid: learned beside exact values over the states, errors below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlnet.report.panels import ERROR, VALUE, Panel, as_chain, grid_states, state_names, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rlnet.mdp import FiniteMDP

MAX_BARS = 40  # states; with more, bars become curves and lose their names
MAX_SHAPES = 5000  # states; with more, errors are one area instead of a bar each, which take minutes
# Okabe and Ito's colours, which colour-blind readers and a grey print tell apart. The last panel is the dark one.
EXACT, OTHERS = "#303030", ("#56b4e9", "#e69f00", "#009e73", "#cc79a7")
OVER, UNDER = "#e08214", "#8073ac"  # as in the diverging map of the grids


def state_figure(mdp: FiniteMDP, panels: Sequence[Panel]) -> Figure:
    """Bars, or curves for many states. Terminal states are left out; a chain keeps its order."""
    from matplotlib.figure import Figure

    kinds = [kind for kind in (VALUE, ERROR) if any(panel.kind == kind for panel in panels)]
    states = _order(mdp, panels)
    few = len(states) <= MAX_BARS
    figure = Figure(
        figsize=(float(np.clip(0.45 * len(states) + 2, 6, 12)), 2.8 * len(kinds) + 0.6), dpi=100, layout="constrained"
    )
    all_axes = figure.subplots(len(kinds), 1, sharex=True, squeeze=False).ravel()
    for axes, kind in zip(all_axes, kinds, strict=True):
        shown = [panel for panel in panels if panel.kind == kind]
        _draw(axes, shown, states, few)
        name = shown[0].title if len(shown) == 1 else kind
        axes.set_ylabel(name + unit_of(mdp, panels, kind).suffix)
        if few or kind == ERROR:
            axes.axhline(0, color="#808080", linewidth=0.8, zorder=0)
        axes.grid(axis="y", color="#e0e0e0", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if len(shown) > 1:
            axes.legend(fontsize=8, frameon=False)
        scale = 10.0 ** unit_of(mdp, panels, kind).exponent
        axes.yaxis.set_major_formatter(lambda y, _, scale=scale: f"{y / scale:g}")
    bottom = all_axes[-1]
    if few:
        names = state_names(mdp)
        bottom.set_xticks(np.arange(len(states)), [names[s] for s in states], rotation=45, ha="right", fontsize=8)
    key = "states along the chain" if as_chain(mdp) else "states, sorted by " + _reference(panels).title
    bottom.set_xlabel(key + (", without the terminal ones" if mdp.terminal.any() else ""))
    return figure


def _reference(panels: Sequence[Panel]) -> Panel:
    """The panel that states are sorted by: the last of kind value, or else the first of all."""
    return next((panel for panel in reversed(panels) if panel.kind == VALUE), panels[0])


def _order(mdp: FiniteMDP, panels: Sequence[Panel]) -> np.ndarray:
    """int [n]: the non-terminal states from left to right."""
    if as_chain(mdp):
        states = grid_states(mdp).ravel()
        states = states[states >= 0]
    else:
        states = np.argsort(_reference(panels).v, kind="stable")  # nan comes last
    return states[~mdp.terminal[states]]


def _draw(axes: Axes, panels: Sequence[Panel], states: np.ndarray, few: bool) -> None:
    x = np.arange(len(states))
    for index, panel in enumerate(panels):
        y = np.where(np.isfinite(panel.v[states]), panel.v[states], np.nan)
        colour = EXACT if index == len(panels) - 1 else OTHERS[index % len(OTHERS)]
        if panel.kind == ERROR and len(states) > MAX_SHAPES:
            for sign, side in ((1, OVER), (-1, UNDER)):
                axes.fill_between(x, 0.0, sign * np.maximum(sign * y, 0.0), color=side, linewidth=0)
        elif panel.kind == ERROR:
            axes.bar(x, y, width=0.8 if few else 1.0, color=np.where(y < 0, UNDER, OVER), label=panel.title)
        elif few:
            width = 0.8 / len(panels)
            axes.bar(x + (index - (len(panels) - 1) / 2) * width, y, width=width, color=colour, label=panel.title)
        elif index == len(panels) - 1:
            axes.plot(x, y, color=colour, linewidth=1.5, label=panel.title, zorder=3)
        else:
            axes.plot(x, y, ".", color=colour, markersize=3, label=panel.title)
