"""Sampled training returns (of the behaviour policy, exploration included), beside the exact J(π)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlnet.report.html import number

UNDISCOUNTED, DISCOUNTED = "return/mean", "return/discounted"
MEANINGS = {
    UNDISCOUNTED: "undiscounted return of training episodes, exploration included",
    DISCOUNTED: "discounted return of training episodes, exploration included",
}
LAST = 0.1  # of the logged rows: how much of the end of a run a return is taken from


def rows_by_member(rows: Sequence[dict[str, str]]) -> dict[int, list[dict[str, str]]]:
    """The rows of metrics.csv of each member, in their order."""
    found: dict[int, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(int(row["member"]), []).append(row)
    return found


def at_the_end(rows: Sequence[Mapping[str, str]], name: str) -> float:
    """The mean of the returns of one member that were logged last; nan where no episode ended."""
    logged = [float(row[name]) for row in rows if row.get(name)]
    last = logged[-max(1, round(LAST * len(logged))) :]
    return float(np.mean(last)) if last else float("nan")


def beside_exact(rows: Sequence[dict[str, str]], value: Any, objective: str) -> str:
    """The returns of training in one sentence beside J(π), means over members; empty where no episode ended.

    Args:
        rows: of metrics.csv, all members.
        value: J(π).
        objective: what J counts, as in comparison.json.
    """
    members = rows_by_member(rows).values()
    plain, discounted = (
        float(np.mean([at_the_end(own, name) for own in members])) for name in (UNDISCOUNTED, DISCOUNTED)
    )
    if np.isnan(plain) or np.isnan(discounted):
        return ""
    alone = "" if objective == "reward" else ", of the reward alone"
    return (
        f"Discounted return: J(π) = {number(value)} of the judged policy, computed; {number(discounted)} of training "
        f"episodes at the end, exploration included{alone}. Undiscounted, those earned {number(plain)}."
    )
