"""Learning curves over the members of a run, from the rows of its metrics.csv."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlnet.numerics.statistics import MANY, NORMAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pictures = Sequence[tuple[str, Sequence[str]]]
# One picture each: title, columns. A column that the run does not have is left out.
PICTURES: Pictures = (
    ("error against the exact solution", ("exact/v_rmse", "exact/q_rmse")),
    ("regret of the policy, J* − J(π)", ("exact/regret",)),
    ("NashConv: what best responses gain", ("exact/nash_conv", "exact/nash_conv_search")),
    ("undiscounted return", ("evaluation/return", "return/mean")),
    ("undiscounted return in training", ("return/mean",)),
    ("discounted return", ("exact/return", "return/discounted")),
    ("episodes with the event", ("evaluation/event_rate", "constraint/event_rate")),
    ("multiplier of the constraint", ("constraint/multiplier", "exact/constraint_multiplier")),
)
LEGENDS = {  # other columns stand there by their names
    "exact/return": "J(π) of the judged policy, computed",
    "return/discounted": "training episodes, exploration included",
    "return/mean": "training episodes, exploration included",
    "evaluation/return": "evaluation episodes",
    "evaluation/event_rate": "evaluation episodes",
    "constraint/event_rate": "training episodes, exploration included",
    "constraint/multiplier": "λ, learned",
    "exact/constraint_multiplier": "λ*, exact",
}
AXES = {
    "exact/v_rmse": "root mean square error",
    "exact/q_rmse": "root mean square error",
    "exact/regret": "discounted return",
    "exact/nash_conv": "discounted return, of both seats",
    "exact/nash_conv_search": "discounted return, of both seats",
    "exact/return": "discounted return",
    "return/discounted": "discounted return",
    "return/mean": "undiscounted return",
    "evaluation/return": "undiscounted return",
    "evaluation/event_rate": "share of the episodes",
    "constraint/event_rate": "share of the episodes",
    "constraint/multiplier": "what an event costs",
}
SHARES = frozenset(("evaluation/event_rate", "constraint/event_rate"))  # on a linear axis from 0
HALF_INTERVAL = "_half_interval"  # behind the name of a column: half its 95 % interval over what it is the mean of
STYLES = (("#0072b2", "-"), ("#d55e00", "--"), ("#303030", "-."))  # differ in lightness and dashes too
MAX_LINES = 16  # members; with more, single lines hide the band
MIN_BAND = 3  # members; with fewer, an interval means nothing
RESAMPLES = 2000


def curves_figure(rows: Iterable[Mapping[str, object]], pictures: Pictures = PICTURES) -> Figure:
    """Draw learning curves (error, regret, return) over the steps, side by side.

    Thin lines are members, the thick one is their mean, the band its 95 % bootstrap interval over members (from three
    members on); of a single member the interval that was logged beside its numbers, if there is one. Positive
    quantities that span more than two decades get a logarithmic axis.

    Args:
        rows: as `csv.DictReader` gives them, one per step and member: step, member and any scalars; blanks allowed.
        pictures: which, as (title, columns).

    Raises:
        ValueError: no rows, a row without step or member, or none of the columns that are drawn has a number.
    """
    from matplotlib.figure import Figure

    rows = list(rows)
    curves = {name: by_member(rows, name) for _, names in pictures for name in names}
    halves = {name: by_member(rows, name + HALF_INTERVAL) for name in curves}
    drawn = [(title, [name for name in names if np.isfinite(curves[name][1]).any()]) for title, names in pictures]
    drawn = list({tuple(names): (title, names) for title, names in drawn if names}.values())  # each once
    if not drawn:
        raise ValueError(f"no numbers in any of {', '.join(curves)}")
    figure = Figure(figsize=(4.6 * len(drawn), 3.4), dpi=100, layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(drawn), squeeze=False).ravel(), drawn, strict=True):
        _draw(axes, title, {name: curves[name] for name in names}, halves)
    return figure


def by_member(rows: Sequence[Mapping[str, object]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column as (steps int [K], values float [M, K]), nan where a member has no number at a step.

    Of several rows for one step and member, as after a resumed run, the last one counts.

    Raises:
        ValueError: no rows, or a row has no step or member.
    """
    if not rows:
        raise ValueError("no rows to draw")
    if not all(str(row.get(key, "")).strip() for row in rows for key in ("step", "member")):
        raise ValueError("every row needs a step and a member")
    members, line = np.unique([int(float(str(row["member"]))) for row in rows], return_inverse=True)
    filled = [k for k, row in enumerate(rows) if row.get(name) is not None and str(row[name]).strip()]
    steps, column = np.unique([int(float(str(rows[k]["step"]))) for k in filled], return_inverse=True)
    values = np.full((len(members), len(steps)), np.nan)
    values[line[filled], column] = [float(str(rows[k][name])) for k in filled]
    return steps.astype(np.int64), values


def mean_and_band(values: np.ndarray, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, low, high), each [K], of values [M, K] over the members that are finite there; nan where none is.

    low and high are the 95 % percentile bootstrap interval of the mean, resampling members; of `MANY` members or more
    its normal approximation. It stays within what was seen, so it is usable on a logarithmic axis.
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    count, n = known.sum(axis=0), len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=0) / count
    low, high = (np.full(values.shape[1], np.nan) for _ in range(2))
    some = count > 0
    if not some.any():
        return mean, low, high
    if n >= MANY:
        half = NORMAL * np.sqrt((np.where(known, filled - mean, 0.0) ** 2).sum(axis=0)) / np.maximum(count, 1)
        least = np.min(values, axis=0, where=known, initial=np.inf)
        most = np.max(values, axis=0, where=known, initial=-np.inf)
        low[some], high[some] = np.maximum(mean - half, least)[some], np.minimum(mean + half, most)[some]
        return mean, low, high
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = (counts @ filled) / (counts @ known)
    low[some], high[some] = np.nanpercentile(resampled[:, some], [2.5, 97.5], axis=0)
    return mean, low, high


Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]


def _draw(axes: Axes, title: str, curves: Curves, halves: Curves) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    missing = 0
    for (name, (steps, values)), (colour, dashes) in zip(curves.items(), STYLES, strict=False):
        finite = np.where(np.isfinite(values), values, np.nan)
        missing += int(np.isinf(values).sum())
        mean, low, high = mean_and_band(values)
        n = len(values)
        if 1 < n <= MAX_LINES:
            axes.plot(steps, finite.T, color=colour, linewidth=0.5, alpha=0.45)
        if n >= MIN_BAND:
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
        elif n == 1 and np.isfinite(halves[name][1]).any():
            at, half = halves[name]
            centre = mean[np.searchsorted(steps, at)]
            axes.fill_between(at, centre - half[0], centre + half[0], color=colour, alpha=0.2, linewidth=0)
        marker = "." if len(steps) < 3 else ""
        axes.plot(
            steps, mean, color=colour, linestyle=dashes, linewidth=1.8, marker=marker, label=LEGENDS.get(name, name)
        )
    if SHARES.isdisjoint(curves):
        _scale_axis(axes, np.concatenate([values.ravel() for _, values in curves.values()]))
    else:
        axes.set_ylim(bottom=0)
    members = max(len(values) for _, values in curves.values())
    band = ", 95 % band" if members >= MIN_BAND else ""
    axes.set_title(title + (f"\nmean of {members} members{band}" if members > 1 else ""), fontsize=10)
    axes.set_xlabel("environment steps" + (f" ({missing} infinite values not shown)" if missing else ""))
    axes.set_ylabel(AXES.get(next(iter(curves)), ""))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(color="#e0e0e0", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False)


def _scale_axis(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic where no value is negative and they span decades; linear near 0 if some are exactly 0."""
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if len(positive) and values.min() >= 0 and (len(positive) < len(values) or positive.max() > 100 * positive.min()):
        # Below a millionth of the largest value lies rounding, which is not worth the decades.
        floor = positive.max() * 1e-6
        smallest = positive[positive >= floor].min()
        if positive.max() <= 10 * smallest and len(positive) == len(values):
            return
        if len(positive) == len(values) and positive.min() >= floor:
            axes.set_yscale("log")
        else:
            axes.set_yscale("symlog", linthresh=smallest)
            axes.set_ylim(bottom=0)
