"""Models with rewards of very different scale, solved in parts so that huge avoidable rewards cost no precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rlnet.mdp.errors import ImproperPolicyError
from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.graph import row_any, steps_to_end
from rlnet.mdp.operators.bellman import EPS, system_of
from rlnet.mdp.solvers.protocol import Result

APART = 1000.0  # pairs whose rewards exceed the largest one divided by this are huge
HIDES = 64.0  # times the rounding of the largest reward: what it may hide
STEPS = 1000.0  # over which such errors may add up at γ = 1


def by_scale(mdp: FiniteMDP, gamma: float, tol: float, solve: Callable[[FiniteMDP], Result]) -> Result:
    """Solve by scale: where rewards are so huge that rounding hides `tol`, without the avoidable ones first.

    The states are cut in two. Some act without huge costs and without any action that may leave them: they are solved
    as if other actions were not available. The rest is solved with the values of these behind its exits. An action
    that was left out is not optimal if it is worth less than the value by more than both bounds, which is checked;
    where it is not, its state belongs to the rest. Then v* of both parts is v*, since v = Tv.
    """
    if HIDES * EPS * mdp.largest_reward <= tol * max(1.0 - gamma, 1.0 / STEPS):
        return solve(mdp)
    magnitude = system_of(mdp).magnitude
    huge = magnitude * APART > magnitude.max(initial=0.0)
    if huge.all():
        return solve(mdp)
    earns = huge & (mdp.expected_reward > 0.0)
    every = np.ones(mdp.n_pairs, dtype=bool)
    rest = np.isfinite(steps_to_end(mdp.pair_state, mdp.transition, earns, every))
    while True:
        use = _stay_outside(mdp, rest, huge)
        if rest[~mdp.terminal].all():
            return solve(mdp)
        try:
            calm = by_scale(_part(mdp, use), gamma, tol, solve)
        except ImproperPolicyError as error:
            if rest[error.states].all():
                raise
            rest[error.states] = True  # these end at a huge cost alone, if at all
            continue
        if not np.isfinite(calm.bound):
            return solve(mdp)
        found = calm
        if rest[~mdp.terminal].any():
            found = _joined(mdp, gamma, rest, calm, by_scale(_beside(mdp, rest, calm.v, gamma), gamma, tol, solve))
        doubtful = ~use & ~rest[mdp.pair_state] & ~_worse(mdp, gamma, found)
        if not doubtful.any():
            return found._replace(q=_action_values(mdp, found.v, gamma))
        rest[mdp.pair_state[doubtful]] = True


def _stay_outside(mdp: FiniteMDP, rest: np.ndarray, huge: np.ndarray) -> np.ndarray:
    """bool [P]: the pairs that are not huge and surely stay outside `rest`, which grows by the states without any."""
    p = mdp.transition
    while True:
        use = ~huge & ~rest[mdp.pair_state] & ~row_any(p, rest[p.indices])
        without = ~mdp.terminal & ~rest
        without[mdp.pair_state[use]] = False
        if not without.any():
            return use
        rest |= without


def _part(mdp: FiniteMDP, use: np.ndarray, **columns: np.ndarray) -> FiniteMDP:
    """The model with the pairs in `use` (bool [P]) alone, and with other `columns` of its outcomes, [K]."""
    counts = np.diff(mdp.outcome_ptr)
    kept = np.repeat(use, counts)
    names = ("next_state", "probability", "reward", "terminated")
    return replace(
        mdp,
        pair_ptr=np.append(0, np.cumsum(np.bincount(mdp.pair_state[use], minlength=mdp.n_states))),
        pair_action=mdp.pair_action[use],
        outcome_ptr=np.append(0, np.cumsum(counts[use])),
        events=None,  # sets of the outcomes of all pairs
        **{name: columns.get(name, getattr(mdp, name))[kept] for name in names},
    )


def _beside(mdp: FiniteMDP, rest: np.ndarray, v: np.ndarray, gamma: float) -> FiniteMDP:
    """The model of the states in `rest`, which ends where it leaves them, with what waits there, γv, as a reward."""
    leaves = ~mdp.terminated & ~rest[mdp.next_state]
    reward = np.where(leaves, mdp.reward + gamma * v[mdp.next_state], mdp.reward)
    return _part(mdp, rest[mdp.pair_state], reward=reward, terminated=mdp.terminated | leaves)


def _joined(mdp: FiniteMDP, gamma: float, rest: np.ndarray, calm: Result, other: Result) -> Result:
    """Both parts. `rest` is left once at most: what is wrong with the values behind its exits counts once."""
    size = float(np.abs(calm.v).max(initial=0.0)) + float(np.abs(mdp.reward).max(initial=0.0))
    further = gamma * calm.bound + 2.0 * EPS * size
    bounds = np.where(rest, _of_states(other, mdp) + further, _of_states(calm, mdp))
    bounds[mdp.terminal] = 0.0
    v, policy = np.where(rest, other.v, calm.v), np.where(rest[:, None], other.policy, calm.policy)
    # Neither the values behind the exits nor the policy there are exact.
    loss = calm.loss + other.loss + 2.0 * further
    return Result(v, calm.q, policy, float(bounds.max()), calm.done, bounds, loss)


def _of_states(found: Result, mdp: FiniteMDP) -> np.ndarray:
    return np.full(mdp.n_states, found.bound) if found.bounds is None else found.bounds


def _worse(mdp: FiniteMDP, gamma: float, found: Result) -> np.ndarray:
    """bool [P]: the pairs that are surely worth less than the value of their state."""
    system, bounds = system_of(mdp), _of_states(found, mdp)
    most = system.q(found.v, gamma) + gamma * (system.transition @ bounds) + 2.0 * system.slack(found.v, gamma)
    return most < (found.v - bounds)[mdp.pair_state]


def _action_values(mdp: FiniteMDP, v: np.ndarray, gamma: float) -> np.ndarray:
    table = np.full((mdp.n_states, mdp.n_actions), -np.inf)
    table[mdp.pair_state, mdp.pair_action] = system_of(mdp).q(v, gamma)
    return table
