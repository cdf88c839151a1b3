"""Pictures of hyperparameters: parallel coordinates of all settings, and a heatmap of two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlnet.report.hyperparameters import Hyperparameter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_AXES = 8
MOST_CELLS = 20  # along an axis of a heatmap
LOGARITHMIC = 50.0  # times the smallest, from which on a scale is logarithmic


def positions(values: Sequence[Any]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Where values stand on an axis from 0 to 1, and its ticks: (position, label)."""
    numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)
    if not numeric:
        texts = [str(x) for x in values]
        kinds = sorted(set(texts))
        places = {text: k / max(len(kinds) - 1, 1) for k, text in enumerate(kinds)}
        return np.array([places[text] for text in texts]), [(places[text], text[:18]) for text in kinds]
    numbers = np.array([float(x) for x in values])
    ends = numbers.min(), numbers.max()
    logarithmic = ends[0] > 0 and ends[1] / ends[0] >= LOGARITHMIC
    scaled = np.log(numbers) if logarithmic else numbers
    low, high = scaled.min(), scaled.max()
    at = (scaled - low) / (high - low) if high > low else np.full(len(numbers), 0.5)
    marked = np.unique(numbers) if len(np.unique(numbers)) <= 6 else np.array(ends)
    ticks = [(float(at[list(numbers).index(x)]), f"{x:.4g}") for x in marked]
    return at, ticks


def parallel_figure(found: Sequence[Hyperparameter], score: np.ndarray, what: str) -> Figure:
    """Parallel coordinates: a line for each setting through its hyperparameters to its score, in the score's colour."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    keep = np.isfinite(score)
    columns = [(one.name.rpartition(".")[2], one.values) for one in found[:MOST_AXES]]
    figure = Figure(figsize=(1.5 * (len(columns) + 1) + 1.0, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    places = [positions([x for x, kept in zip(values, keep, strict=True) if kept]) for _, values in columns]
    places.append(positions(score[keep].tolist()))
    names = [name.replace("$", r"\$") for name, _ in columns] + [what]
    lines = np.stack([at for at, _ in places], axis=1)
    for k in np.argsort(score[keep]):
        axes.plot(range(len(names)), lines[k], color=colormaps["viridis"](lines[k, -1]), linewidth=1.2, alpha=0.8)
    for x, (_, ticks) in enumerate(places):
        axes.axvline(x, color="#909090", linewidth=0.8)
        for y, label in ticks:
            axes.text(x + 0.03, y, label.replace("$", r"\$"), fontsize=7, va="center")
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    return figure


def heatmap_table(one: Hyperparameter, other: Hyperparameter, score: np.ndarray) -> tuple[list[Any], list[Any], Any]:
    """The mean score of the settings with each pair of values: rows, columns, [rows, columns]; nan where none is."""
    rows, columns = (_ordered(each) for each in (one, other))
    table = np.full((len(rows), len(columns)), np.nan)
    for i, x in enumerate(rows):
        for j, y in enumerate(columns):
            mine = [a == x and b == y for a, b in zip(one.values, other.values, strict=True)]
            if any(mine):
                table[i, j] = score[np.array(mine)].mean()
    return rows, columns, table


def _ordered(one: Hyperparameter) -> list[Any]:
    different = list({repr(x): x for x in one.values}.values())
    return sorted(different) if one.numeric else sorted(different, key=str)


def heatmap_figure(one: Hyperparameter, other: Hyperparameter, score: np.ndarray, what: str) -> Figure | None:
    """A heatmap of the mean score over two hyperparameters; None where they have too many values for one."""
    from matplotlib.figure import Figure

    rows, columns, table = heatmap_table(one, other, score)
    if max(table.shape) > MOST_CELLS or not np.isfinite(table).any():
        return None
    figure = Figure(figsize=(0.7 * len(columns) + 2.4, 0.45 * len(rows) + 1.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(np.where(np.isfinite(table), table, np.nan), cmap="viridis", aspect="auto")
    middle = float(np.nanmean(np.where(np.isfinite(table), table, np.nan)))
    for i, j in zip(*np.nonzero(~np.isnan(table)), strict=True):
        colour = "white" if table[i, j] < middle else "black"
        axes.text(j, i, f"{table[i, j]:.3g}", ha="center", va="center", fontsize=7, color=colour)
    labels = [[_label(x) for x in each] for each in (columns, rows)]
    axes.set_xticks(range(len(columns)), labels[0], fontsize=7, rotation=30 if max(map(len, labels[0])) > 8 else 0)
    axes.set_yticks(range(len(rows)), labels[1], fontsize=7)
    axes.set_xlabel(other.name)
    axes.set_ylabel(one.name)
    figure.colorbar(drawn, ax=axes, label=what)
    return figure


def _label(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text[:18].replace("$", r"\$")
