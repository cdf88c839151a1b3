"""Scatter plots: learned against exact values, and errors against visits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rlnet.report.panels import action_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rlnet.mdp import FiniteMDP

# Okabe and Ito's colours with a shape each: they can be told apart by colour-blind readers and in greyscale.
STYLES = (
    ("#0072b2", "o"), ("#d55e00", "^"), ("#009e73", "s"), ("#cc79a7", "D"),
    ("#303030", "v"), ("#e69f00", "P"), ("#56b4e9", "X"), ("#7a5c00", "*"),
)  # fmt: skip
BINS = 12  # of visits, in which the median error is drawn
MOST_POINTS = 20_000


def scatter_figure(mdp: FiniteMDP, learned: np.ndarray, exact: np.ndarray, states: np.ndarray) -> Figure:
    """Scatter plot of learned over exact values: points above the diagonal are over-estimated.

    Args:
        learned, exact: Q [S, A], an action in its own colour and shape, or V [S].
        states: bool [S], the states to show, e.g. those that can be reached.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.0), dpi=100, layout="constrained")
    if learned.ndim == 2:
        _against_exact(figure.subplots(), learned, exact, _pairs(mdp, states), action_names(mdp), "Q")
    else:
        chosen = (states & ~mdp.terminal)[:, None]
        _against_exact(figure.subplots(), learned[:, None], exact[:, None], chosen, ["V"], "V")
    return figure


def visits_figure(
    mdp: FiniteMDP, learned: np.ndarray, exact: np.ndarray, visits: np.ndarray, states: np.ndarray
) -> Figure:
    """Scatter plot of |learned − exact| over the visits of each state, or (s, a).

    Args:
        learned, exact: Q [S, A] or V [S].
        visits: [S, A] tries of each pair.
        states: bool [S], the states to show.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.0), dpi=100, layout="constrained")
    axes = figure.subplots()
    of_pairs = learned.ndim == 2
    chosen, count = (_pairs(mdp, states), visits) if of_pairs else (states & ~mdp.terminal, visits.sum(1))
    _against_visits(
        axes, np.abs(learned[chosen] - exact[chosen]), count[chosen], "|Q − exact|" if of_pairs else "|V − exact|"
    )
    axes.set_xlabel("times that (s, a) was tried" if of_pairs else "visits of the state")
    return figure


def _pairs(mdp: FiniteMDP, states: np.ndarray) -> np.ndarray:
    return (states & ~mdp.terminal)[:, None] & mdp.available


def _against_exact(
    axes: Axes, learned: np.ndarray, exact: np.ndarray, chosen: np.ndarray, names: list[str], kind: str
) -> None:
    """Draw values [S, K] of K names."""
    every = max(1, int(chosen.sum()) // MOST_POINTS)
    for action, name in enumerate(names):
        rows = np.flatnonzero(chosen[:, action])[::every]
        colour, marker = STYLES[action % len(STYLES)]
        axes.scatter(
            exact[rows, action],
            learned[rows, action],
            s=16,
            c=colour,
            marker=marker,
            alpha=0.7,
            linewidths=0,
            label=name,
        )
    both = np.concatenate([exact[chosen], learned[chosen]])
    both = both[np.isfinite(both)]
    ends = [both.min(initial=np.inf), both.max(initial=-np.inf)] if len(both) else [0.0, 1.0]
    axes.plot(ends, ends, color="#808080", linewidth=1, zorder=0)
    axes.set_xlabel(f"exact {kind}")
    axes.set_ylabel(f"learned {kind}")
    axes.set_title(f"{kind}: learned against exact\nabove the line: over-estimated", fontsize=10)
    axes.grid(color="#e8e8e8", linewidth=0.6)
    if 1 < len(names) <= len(STYLES):
        axes.legend(title="action", fontsize=8, title_fontsize=8, frameon=False)


def _against_visits(axes: Axes, error: np.ndarray, count: np.ndarray, what: str) -> None:
    """A point for each, and the median of the error in bins of visits. What was never visited stands at the left."""
    every = max(1, len(error) // MOST_POINTS)
    axes.scatter(count[::every], error[::every], s=12, c="#56b4e9", alpha=0.6, linewidths=0)
    seen = count > 0
    never = int((~seen).sum())
    if seen.any():
        edges = np.unique(np.geomspace(1, count.max() + 1, BINS + 1).astype(int))
        where = np.digitize(count, edges)
        groups = [k for k in range(1, len(edges)) if (where == k).any()]
        middle = [float(np.median(count[where == k])) for k in groups]
        axes.plot(middle, [float(np.median(error[where == k])) for k in groups], "k.-", linewidth=1.5, label="median")
        axes.legend(fontsize=8, frameon=False)
    if never:
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=-0.3)
    else:
        axes.set_xscale("log")
    positive = error[error > 0]
    if len(positive) and positive.max() > 100 * positive.min():
        axes.set_yscale("symlog", linthresh=float(np.quantile(positive, 0.05)))
    axes.set_ylim(bottom=0)
    axes.set_ylabel(what)
    note = f"\n{never} of {len(count)} never tried, at the left edge" if never else "\nall were tried"
    axes.set_title(f"error against visits{note}", fontsize=10)
    axes.grid(color="#e8e8e8", linewidth=0.6)
