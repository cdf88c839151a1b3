"""Policy of a tree search in all states of a finite model in which it can have to move.

These are the states that can be reached from the start when the searching player follows the search and the opponent,
if there is one, plays any actions. The value of the policy against a best response depends on them alone, so only they
are searched, breadth first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlnet.mdp import FiniteMDP

# (state int64 [B]) → the policy there, float64 [B, A]
PolicyAt = Callable[[np.ndarray], np.ndarray]


def policy_where_reachable(mdp: FiniteMDP, policy_at: PolicyAt, elsewhere: np.ndarray) -> tuple[np.ndarray, int]:
    """Policy [S, A]: `policy_at` in the states that it can reach, `elsewhere` [S, A] in all others.

    Returns:
        The policy, and the number of states in which `policy_at` was evaluated.
    """
    policy = elsewhere.copy()
    known = np.zeros(mdp.n_states, bool)  # `policy_at` was evaluated
    met = np.zeros((2, mdp.n_states), bool)  # with the player who searches to move, or with the opponent
    begin = np.flatnonzero((mdp.start > 0) & ~mdp.terminal)
    fresh = [begin, begin if mdp.sign is not None else begin[:0]]  # of two players either may begin
    while len(fresh[0]) or len(fresh[1]):
        for side in (0, 1):
            met[side, fresh[side]] = True
        asked = fresh[0][~known[fresh[0]]]
        if len(asked):
            policy[asked], known[asked] = policy_at(asked), True
        after = [_moved(mdp, fresh[0], policy), _moved(mdp, fresh[1], None)]
        fresh = []
        for side in (0, 1):  # who stays to move, and whose turn it becomes
            reached = np.unique(np.concatenate((after[side][0], after[1 - side][1])))
            fresh.append(reached[~met[side, reached]])
    return policy, int(known.sum())


def _moved(mdp: FiniteMDP, states: np.ndarray, policy: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The successors of states in which the same player moves again, and those in which the other one does.

    Args:
        policy: [S, A], whose actions are taken; None: any.
    """
    count = np.diff(mdp.pair_ptr)[states]
    pair = np.repeat(mdp.pair_ptr[states] - np.append(0, np.cumsum(count)[:-1]), count) + np.arange(count.sum())
    if policy is not None:
        pair = pair[policy[mdp.pair_state[pair], mdp.pair_action[pair]] > 0]
    first, size = mdp.outcome_ptr[pair], np.diff(mdp.outcome_ptr)[pair]
    outcome = np.repeat(first - np.append(0, np.cumsum(size)[:-1]), size) + np.arange(size.sum())
    outcome = outcome[~mdp.terminated[outcome] & (mdp.probability[outcome] > 0)]
    other = np.zeros(len(outcome), bool) if mdp.sign is None else mdp.sign[outcome] < 0
    return mdp.next_state[outcome[~other]], mdp.next_state[outcome[other]]
