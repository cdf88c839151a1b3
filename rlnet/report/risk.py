"""The section of a page on risk: exact probabilities of events, and what test episodes could show of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlnet.compare.risk import seen_in, trials_to_tell
from rlnet.report.curves import STYLES
from rlnet.report.html import embedded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TO_TELL = "To tell the learned from the optimal policy by counting (5 % significance, power 80 %):"
FLAT = 0.1  # of the height of the picture
Places = tuple[np.ndarray, np.ndarray]  # (probability, return)
TRIALS = (100, 1_000, 10_000, 100_000)


def risk_section(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the template shows of each event of the model; empty where it names none."""
    return [_event(found) for found in comparison.get("events", [])]


def _event(found: Mapping[str, Any]) -> dict[str, Any]:
    name, horizon = found["event"], found["horizon"]
    probability = float(np.median([point["probability"] for point in found["members"]]))
    where = "in an episode" if horizon is None else f"within {horizon} steps"
    rows = [
        [
            "of the learned policy" + (", median of the members" if len(found["members"]) > 1 else ""),
            _short(probability),
        ],
        ["of the optimal policy", _short(found["optimal"])],
        ["the least that any policy attains", _short(found["least"])],
    ]
    if "constraint" in found:
        under = found["constraint"]
        price = f"(λ* = {_short(under['multiplier'])})"
        rows[1][0] = f"of the optimum under constraint.limit={under['limit']:g} {price}"
    tests = [[f"{n:,}", _count(probability * n), _interval(probability, n)] for n in TRIALS]
    needed = trials_to_tell(probability, found["optimal"])
    told = "they are equally likely to end in one." if not np.isfinite(needed) else f"{needed:,.0f} episodes of each."
    return {
        "name": name,
        "head": [f"probability of {name} {where}, computed", ""],
        "rows": rows,
        "tests_head": ["test episodes", f"expected with {name}", "what they would say (95 % interval)"],
        "tests": tests,
        "told": f"{_most(found)}{TO_TELL} {told}",
        "picture": embedded(frontier_figure(found), f"return against the probability of {name}"),
    }


def _most(found: Mapping[str, Any]) -> str:
    """A sentence on the best return under a constraint; empty without one."""
    under = found.get("constraint", {})
    if "optimal_return" not in under:
        return ""
    most = f"Under constraint.limit={under['limit']:g} the frontier attains a return of {under['optimal_return']:.5g}"
    anyone = under["optimal_return_of_all_policies"]
    rest = "" if anyone is None else f", a policy that knows the steps left at most {anyone:.5g}"
    return f"{most}{rest}. "


def _short(probability: float) -> str:
    return f"{probability:.4g}"


def _count(expected: float) -> str:
    return f"{expected:,.0f}" if expected >= 100 else f"{expected:.2g}"


def _interval(probability: float, trials: int) -> str:
    """An interval with as many decimals as tell its ends, and what is small, apart from 0 and from 1."""
    low, high = seen_in(probability, trials)
    least = min((x for x in (low, high - low, 1.0 - high) if x > 1e-12), default=1.0)
    decimals = 1 - math.floor(math.log10(least))
    return " to ".join(f"{x:.{decimals}f}".rstrip("0").rstrip(".") for x in (low, high))


def frontier_figure(found: Mapping[str, Any]) -> Figure:
    """Return against risk: the optimal policies as the event costs more and more, and where the members are.

    Args:
        found: an entry of `events` in comparison.json.
    """
    from matplotlib.figure import Figure

    risk, ret = _columns(found["frontier"])
    x, y = _columns(found["members"])
    span = ret.max() - np.min(np.append(ret, y[np.isfinite(y)]))
    flat = 0 < np.ptp(ret) < FLAT * span  # beside policies that are far below the frontier looks like a line
    figure = Figure(figsize=(11.2 if flat else 6.4, 4.2), dpi=100, layout="constrained")
    both = figure.subplots(1, 2 if flat else 1, squeeze=False).ravel()
    for axes, title, shown in zip(both, ("return against risk", "the frontier alone"), (True, False), strict=False):
        _draw(axes, found, (risk, ret), (x, y) if shown else (x[:0], y[:0]))
        axes.set_title(title, fontsize=10)
    return figure


def _columns(points: Sequence[Mapping[str, Any]]) -> Places:
    """Probabilities and returns, which JSON holds as text where they are infinite."""
    probability, ret = (np.array([float(point[key]) for point in points]) for key in ("probability", "return"))
    return probability, ret


def _draw(axes: Axes, found: Mapping[str, Any], frontier: Places, members: Places) -> None:
    (risk, ret), (x, y) = frontier, members
    axes.plot(
        risk,
        ret,
        "o-",
        color="#303030",
        linewidth=1.8,
        markersize=7,
        markerfacecolor="none",
        label=f"optimal as {found['event']} costs more",
    )
    if len(x):
        axes.plot(x, y, "o", color=STYLES[1][0], markersize=5, label="learned")
    if "constraint" not in found and "optimal_return" in found:
        axes.plot(found["optimal"], found["optimal_return"], "*", color="#303030", markersize=12, label="optimal")
    if "constraint" in found:
        under = found["constraint"]
        axes.axvline(under["limit"], color="#808080", linestyle="--", linewidth=1.0, label="limit of the constraint")
        axes.plot(under["probability"], under["return"], "*", color="#303030", markersize=12, label="best under it")
    both = np.concatenate([risk, x])
    if both[both > 0].size and both.max() > 100 * both[both > 0].min():
        axes.set_xscale("symlog", linthresh=float(both[both > 0].min()))
    axes.set_xlabel(f"probability of {found['event']}")
    axes.set_ylabel("expected return, without the price of the event")
    left, right = axes.get_xlim()  # a margin beside the points, of a single one too, but little beyond 0 and 1
    axes.set_xlim(max(left, -0.03), min(right, 1.03 if axes.get_xscale() == "linear" else 1.5))
    axes.grid(color="#e0e0e0", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="best")
