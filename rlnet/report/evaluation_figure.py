"""Pictures of evaluation episodes: predicted against obtained returns, and the distribution of returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rlnet.compare.episodes import Reliability

COLOURS = ("#0072b2", "#d55e00")  # differ in lightness too
HATCHES = ("", "///")
BARS = 24


def reliability_figure(found: Reliability, what: str = "V(s)") -> Figure:
    """Mean obtained over mean predicted return in bins of steps, with 95 % intervals; on the diagonal: calibrated."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.0), dpi=100, layout="constrained")
    axes = figure.subplots()
    ends = [min(found.predicted.min(), found.low.min()), max(found.predicted.max(), found.high.max())]
    axes.plot(ends, ends, color="#808080", linewidth=1, zorder=0)
    errors = np.maximum([found.obtained - found.low, found.high - found.obtained], 0.0)
    style: dict[str, Any] = {"color": COLOURS[0], "ecolor": COLOURS[0], "elinewidth": 1.2, "capsize": 3}
    axes.errorbar(found.predicted, found.obtained, errors, fmt="o-", markersize=5, linewidth=1.2, **style)
    axes.set_xlabel(f"predicted, mean {what} of a bin")
    axes.set_ylabel("obtained, mean discounted return")
    axes.set_title("predicted against obtained returns\nbelow the line: over-estimated", fontsize=10)
    axes.grid(color="#e8e8e8", linewidth=0.6)
    return figure


def returns_figure(returns: Mapping[str, np.ndarray]) -> Figure:
    """Histogram of the undiscounted returns of episodes of each policy, with their means as vertical lines.

    Args:
        returns: policy → [N], N of all members together.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.6, 4.0), dpi=100, layout="constrained")
    axes = figure.subplots()
    every = np.concatenate(list(returns.values()))
    low, high = every.min(), every.max()
    if high - low <= 1e-9 * max(abs(low), 1.0):
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BARS + 1).tolist()
    for (name, own), colour, hatch in zip(returns.items(), COLOURS, HATCHES, strict=False):
        weights = np.full(len(own), 100 / len(own))
        axes.hist(own, edges, weights=weights, color=colour, alpha=0.35, hatch=hatch, edgecolor=colour, label=name)
        axes.axvline(own.mean(), color=colour, linewidth=1.6, linestyle="-" if not hatch else "--")
    axes.xaxis.set_major_locator(MaxNLocator(6))  # far apart enough for numbers with decimals
    axes.set_xlabel("undiscounted return of an episode")
    axes.set_ylabel("% of episodes")
    axes.set_title("distribution of returns\nlines: means", fontsize=10)
    axes.grid(color="#e8e8e8", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False)
    return figure
