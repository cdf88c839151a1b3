"""The section of a page on risk: exact probabilities of events, and what test episodes could show of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rlnet.compare.risk import seen_in, trials_to_tell
from rlnet.report.curves import STYLES
from rlnet.report.html import embedded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        "told": f"To tell the learned from the optimal policy by counting (5 % significance, power 80 %): {told}",
        "picture": embedded(frontier_figure(found), f"return against the probability of {name}"),
    }


def _short(probability: float) -> str:
    return f"{probability:.4g}"


def _count(expected: float) -> str:
    return f"{expected:,.0f}" if expected >= 100 else f"{expected:.2g}"


def _interval(probability: float, trials: int) -> str:
    low, high = seen_in(probability, trials)
    return f"{low:.2g} to {high:.2g}"


def frontier_figure(found: Mapping[str, Any]) -> Figure:
    """Return against risk: the optimal policies as the event costs more and more, and where the members are.

    Args:
        found: an entry of `events` in comparison.json.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    risk, ret = (np.array([point[key] for point in found["frontier"]]) for key in ("probability", "return"))
    axes.plot(risk, ret, ".-", color="#303030", linewidth=1.8, label=f"optimal as {found['event']} costs more")
    x, y = (np.array([point[key] for point in found["members"]]) for key in ("probability", "return"))
    axes.plot(x, y, "o", color=STYLES[1][0], label="learned")
    if "constraint" in found:
        under = found["constraint"]
        axes.axvline(under["limit"], color="#808080", linestyle="--", linewidth=1.0, label="limit of the constraint")
        axes.plot(under["probability"], under["return"], "*", color="#303030", markersize=12, label="best under it")
    both = np.concatenate([risk, x])
    if both[both > 0].size and both.max() > 100 * both[both > 0].min():
        axes.set_xscale("symlog", linthresh=float(both[both > 0].min()))
    axes.set_xlabel(f"probability of {found['event']}")
    axes.set_ylabel("expected return, without the price of the event")
    axes.set_title("return against risk", fontsize=10)
    axes.grid(color="#e0e0e0", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="best")
    return figure
