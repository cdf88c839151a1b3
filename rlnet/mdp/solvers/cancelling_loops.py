"""Exact test of whether rewards are differences of a potential, so that they cancel around every loop."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from rlnet.mdp.operators.bellman import System

FRACTIONS = 2000  # pairs at most that are looked at in fractions


def exactly_cancel(system: System, pairs: np.ndarray, potential: np.ndarray) -> np.ndarray:
    """bool [k]: whether r + h(s') − h(s), h the `potential` [n], is 0 for these pairs (int [k], none ends): by each of
    their outcomes, whatever its chance, or in the mean, with chances that are made to sum to 1."""
    model = system.model
    if model is None:
        return np.zeros(len(pairs), dtype=bool)
    own = pairs if system.behind is None else system.behind[pairs]
    h = potential if system.of is None else potential[system.of]
    counts = np.diff(model.outcome_ptr)[own]
    ptr = np.append(0, np.cumsum(counts))
    outcome = np.arange(ptr[-1]) + np.repeat(model.outcome_ptr[own].astype(np.int64) - ptr[:-1], counts)
    here = np.repeat(h[model.pair_state[own]], counts)
    off = ~_zero(model.reward[outcome], h[model.next_state[outcome]], here)
    hits = np.append(0, np.cumsum(off))
    cancels = (own >= 0) & (hits[ptr[1:]] == hits[ptr[:-1]])
    doubtful = np.flatnonzero((own >= 0) & ~cancels)
    if len(doubtful) <= FRACTIONS:
        for k in doubtful:
            span = outcome[ptr[k] : ptr[k + 1]]
            gains = [Fraction(float(x)) for x in model.reward[span]]
            there = [Fraction(float(x)) for x in h[model.next_state[span]]]
            chance = [Fraction(float(x)) for x in model.probability[span]]
            mean = sum(c * (r + t) for c, r, t in zip(chance, gains, there, strict=True))
            cancels[k] = mean == sum(chance) * Fraction(float(h[model.pair_state[own[k]]]))
    return cancels


def _zero(reward: np.ndarray, there: np.ndarray, here: np.ndarray) -> np.ndarray:
    """bool: whether reward + there − here is 0 in exact numbers (the difference with its error, Knuth's TwoSum)."""
    difference = there - here
    back = difference - there
    error = (there - (difference - back)) - (here + back)
    return (reward + difference) + error == 0.0
