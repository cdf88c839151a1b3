"""Detection of unbounded values at γ = 1: end components with a policy of positive mean reward."""

from __future__ import annotations

import numpy as np
import scipy as sp

from rlnet.mdp.model.graph import end_components
from rlnet.mdp.operators.bellman import System

SWEEPS = 300  # after which what is not decided is left to exact policy iteration


def paying_states(system: System) -> tuple[np.ndarray, list[System], list[np.ndarray]]:
    """(int: the states of end components that surely pay, the components that sweeps cannot tell, their states).

    In an end component a policy can stay for ever, so that v* = +∞ there if its best mean reward g is positive. For any
    v, min (Tv − v) ≤ g ≤ max (Tv − v), T with the pairs that stay inside (Odoni 1969; Puterman 1994, th. 8.5.5).
    Averaged with their backup, v settle where loops have a period, too. Components without a positive reward never pay.
    """
    if not (~system.ends & (system.reward > 0.0)).any():
        return np.zeros(0, dtype=np.int64), [], []
    component, inside = end_components(system.pair_state, system.transition, ~system.ends)
    earns = np.zeros(component.max(initial=-1) + 1, dtype=bool)
    earns[component[system.pair_state[inside & (system.reward > 0.0)]]] = True
    if not earns.any():
        return np.zeros(0, dtype=np.int64), [], []
    states = np.flatnonzero((component >= 0) & earns[component])
    states = states[np.argsort(component[states], kind="stable")]
    paying, rest = np.zeros(0, dtype=np.int64), _part(system, states, inside)
    for _ in range(3):  # what is decided goes: a few components often take the longest
        low, high = _gains(rest, component[states])
        paying = np.concatenate([paying, states[low > 0.0]])
        left = (low <= 0.0) & (high >= 0.0)
        states = states[left]
        if len(states) == 0 or left.all():
            break
        rest = _part(system, states, inside)
    parts = [states[component[states] == c] for c in np.unique(component[states])]
    return np.sort(paying), [_part(system, part, inside) for part in parts], parts


def _part(system: System, states: np.ndarray, inside: np.ndarray) -> System:
    """The pairs `inside` of whole end components with these states, numbered as they come in `states`."""
    number = np.full(system.n, -1)
    number[states] = np.arange(len(states))
    pairs = np.flatnonzero(inside & (number[system.pair_state] >= 0))
    pairs = pairs[np.argsort(number[system.pair_state[pairs]], kind="stable")]
    return System(
        number[system.pair_state[pairs]],
        system.reward[pairs],
        system.magnitude[pairs],
        system.transition[pairs][:, states],
        system.ends[pairs],
        system.terms,
    )


def _gains(system: System, component: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [n] twice: bounds on the best mean reward of the component of each state, rounding included."""
    first = np.flatnonzero(np.diff(component, prepend=-1))
    counts = np.diff(np.append(first, len(component)))
    _, begin = system.first_pairs()
    v, least, most = np.zeros(system.n), np.full(len(first), -np.inf), np.full(len(first), np.inf)
    for _ in range(SWEEPS):
        q = system.q(v, 1.0)
        rise = np.maximum.reduceat(q, begin) - v
        slack = np.maximum.reduceat(system.slack(v, 1.0), begin)
        least = np.maximum(least, np.minimum.reduceat(rise - slack, first))
        most = np.minimum(most, np.maximum.reduceat(rise + slack, first))
        if ((least > 0.0) | (most < 0.0)).all():
            break
        v += 0.5 * rise
        v -= np.repeat(np.maximum.reduceat(v, first), counts)  # only differences count, and large values round
    return np.repeat(least, counts), np.repeat(most, counts)


def with_escape(system: System, states: np.ndarray) -> System:
    """The system with an exit of reward 0 in `states` (int): its value is infinite exactly where a loop pays."""
    order = np.argsort(np.concatenate([system.pair_state, states]), kind="stable")
    zero = np.zeros(len(states))
    return System(
        np.concatenate([system.pair_state, states])[order],
        np.concatenate([system.reward, zero])[order],
        np.concatenate([system.magnitude, zero])[order],
        sp.sparse.vstack([system.transition, sp.sparse.csr_matrix((len(states), system.n))], format="csr")[order],
        np.concatenate([system.ends, np.ones(len(states), dtype=bool)])[order],
        system.terms,
    )
