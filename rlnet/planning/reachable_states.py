"""The policy of a search in the states of a finite model that matter: where the player who searches can ever move.

What a policy is worth against its best opponents depends on these states alone: those that are reached while one player
follows the policy and the other one, if there is one, does anything. They are found from the starts, a move at a time,
and only they are searched.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlnet.mdp import FiniteMDP

# (state int64 [B]) → the policy there, float64 [B, A]
PolicyAt = Callable[[np.ndarray], np.ndarray]


def policy_where_reachable(mdp: FiniteMDP, policy_at: PolicyAt, elsewhere: np.ndarray) -> tuple[np.ndarray, int]:
    """The policy [S, A] of `policy_at` wherever it can come to act, and `elsewhere` [S, A] in all other states; and the
    number of states that it was asked for."""
    policy = elsewhere.copy()
    known = np.zeros(mdp.n_states, bool)  # searched
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
