"""Figures that compare methods over many runs: intervals, performance profiles, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlnet.numerics.statistics import interval, iqm, profile
from rlnet.report.curves import AXES, by_member, mean_and_band
from rlnet.report.scatter_figure import STYLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (6, 2, 1, 2)))  # beside the colours
MOST = len(STYLES)  # methods in one picture; more cannot be told apart


def interval_figure(names: Sequence[str], samples: Sequence[Sequence[np.ndarray]], what: str) -> Figure:
    """Interval plot: the interquartile mean of each method with its 95 % stratified bootstrap interval.

    Args:
        names: of the methods.
        samples: of each method the runs of each task, [n].
        what: the score.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.34 * len(names) + 1.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    for k, sample in enumerate(samples):
        low, high = (float(x) for x in interval(sample, iqm))
        middle = float(iqm(*sample))
        if np.isfinite(low):
            axes.plot([low, high], [k, k], color="#56b4e9", linewidth=7, solid_capstyle="butt")
        if np.isfinite(middle):
            axes.plot([middle], [k], "|", color="#303030", markersize=13, markeredgewidth=2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(f"interquartile mean of {what}, 95 % interval")
    axes.grid(axis="x", color="#e0e0e0", linewidth=0.6)
    return figure


def profile_figure(names: Sequence[str], samples: Sequence[Sequence[np.ndarray]], what: str) -> Figure:
    """Performance profiles: the share of runs above each threshold, with 95 % bands (of returns: right is better)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 3.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    everything = np.concatenate([run for sample in samples for run in sample])
    everything = everything[np.isfinite(everything)]
    low, high = (everything.min(), everything.max()) if len(everything) else (0.0, 1.0)
    room = max(0.03 * (high - low), 1e-9)
    thresholds = np.linspace(low - room, high + room, 101)
    for k, (name, sample) in enumerate(zip(names[:MOST], samples[:MOST], strict=True)):
        share, below, above = profile(sample, thresholds)
        axes.fill_between(thresholds, below, above, color=STYLES[k][0], alpha=0.15, linewidth=0, step="post")
        axes.step(thresholds, share, where="post", color=STYLES[k][0], linestyle=DASHES[k], label=name)
    axes.set_xlabel(f"{what} τ")
    axes.set_ylabel("share of runs above τ")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(color="#e0e0e0", linewidth=0.6)
    axes.legend(fontsize=7, framealpha=0.8, edgecolor="none")
    return figure


def compared_curves(names: Sequence[str], rows: Sequence[Sequence[Mapping[str, str]]], column: str) -> Figure:
    """One learning curve for each method: the mean over its seeds with a 95 % band."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    figure = Figure(figsize=(5.4, 3.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    for k, (name, mine) in enumerate(zip(names[:MOST], rows[:MOST], strict=True)):
        steps, values = by_member(mine, column)
        mean, low, high = mean_and_band(np.where(np.isfinite(values), values, np.nan))
        if len(values) > 2:
            axes.fill_between(steps, low, high, color=STYLES[k][0], alpha=0.15, linewidth=0)
        marker = "." if len(steps) < 3 else ""
        axes.plot(steps, mean, color=STYLES[k][0], linestyle=DASHES[k], marker=marker, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"{column}, {AXES[column]}" if column in AXES else column)
    axes.grid(color="#e0e0e0", linewidth=0.6)
    axes.legend(fontsize=7, framealpha=0.8, edgecolor="none")
    return figure
