"""Scores of a population: every member's learned tables against the exact solution of its own problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlnet.compare.scores import Truth, score_member, search_scores


@dataclass(frozen=True)
class Tables:
    """Learned tables of a population on all states, float64."""

    policy: np.ndarray  # [M, S, A] the policy that each member stands for; rows of terminal states are 0
    v: np.ndarray | None = None  # [M, S]
    q: np.ndarray | None = None  # [M, S, A]
    searched: np.ndarray | None = None  # [M, S, A], what a search that they guide does, where it can come to act


@dataclass(frozen=True)
class Comparison:
    """The scores of a population."""

    scalars: dict[str, np.ndarray]  # name → [M]
    v: np.ndarray | None  # [M, S], as learned, or as its q implies
    v_exact: np.ndarray  # [M, S]
    q_exact: np.ndarray  # [M, S, A]
    v_limited: np.ndarray | None  # [M, S], as v_exact with the whole time limit ahead; None without one


def score_population(
    truths: Sequence[Truth], tables: Tables, against: str, visits: np.ndarray | None = None
) -> Comparison:
    """`score_member` for every member.

    Args:
        truths: M, each at its member's γ.
        tables: what was learned.
        against: see `score_member`.
        visits: [M, S, A].
    """

    def pick(array: np.ndarray | None, m: int) -> np.ndarray | None:
        return None if array is None else array[m]

    scores = [
        score_member(truth, tables.policy[m], against, v=pick(tables.v, m), q=pick(tables.q, m), visits=pick(visits, m))
        for m, truth in enumerate(truths)
    ]
    each = [s.scalars for s in scores]
    if tables.searched is not None:
        each = [
            own | search_scores(*pair)
            for own, pair in zip(each, zip(truths, tables.searched, strict=True), strict=True)
        ]
    scalars = {name: np.array([own[name] for own in each]) for name in each[0]}
    stacked: dict[str, Any] = {
        name: None if getattr(scores[0], name) is None else np.stack([getattr(s, name) for s in scores])
        for name in ("v", "v_exact", "q_exact", "v_limited")
    }
    return Comparison(scalars, **stacked)
