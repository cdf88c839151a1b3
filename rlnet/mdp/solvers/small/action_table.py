"""Dense table layout [A, m] of the (state, action) pairs of a small model."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy as sp

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.graph import steps_to_end
from rlnet.mdp.operators.bellman import max_norm, system_of
from rlnet.mdp.solvers.policy_iteration import DIRECT_STATES
from rlnet.mdp.solvers.small.banded_newton import Bands
from rlnet.mdp.solvers.small.deterministic import Paths

DENSE_STATES = 150  # up to here policies are evaluated by a dense LU of the table's rows
DENSE_ENTRIES = 100_000  # of the table's rows, at most
ABSENT = np.array([-np.inf, 0.0])  # q and the share of an action that is not available
WHOLE = 2.0**52  # whole numbers below are added exactly


class Table:
    """The pairs of the m non-terminal states as [A, m]; a state with fewer than A actions repeats its first.

    `moves`: every pair goes to one state or ends, so that backups need no product. `solves`: policies can be evaluated
    by a dense LU. `small`: the rows are kept as a sparse matrix, for backups and band matrices. `useful`: it can do
    something of that, and repeats no more pairs than there are; else it holds nothing more.
    """

    def __init__(self, mdp: FiniteMDP) -> None:
        self.system = system = system_of(mdp)
        states, begin = system.first_pairs()
        self.states = states.astype(np.intp)  # what numpy indexes with fastest
        self.counts = np.diff(np.append(begin, len(system.pair_state)))
        self.width, self.m = int(self.counts.max(initial=0)), len(begin)
        p = system.transition
        goes_on = np.diff(p.indptr)
        self.moves = bool(len(begin)) and int(goes_on.max()) <= 1 and bool((p.data == 1.0).all())
        entries = self.width * self.m
        self.small = 0 < self.m <= DIRECT_STATES
        self.solves = 0 < self.m <= DENSE_STATES and entries * self.m <= DENSE_ENTRIES
        self.useful = (self.moves or self.small) and entries <= 2 * len(system.pair_state)
        if not self.useful:
            return
        number = np.arange(self.width)[:, None]
        pairs = (begin + np.where(number < self.counts, number, 0)).ravel()
        self.ones = np.ones(self.width)
        self.reward = system.reward[pairs]
        self.columns = np.arange(self.m)
        self.listed = number < self.counts
        self.full = bool(self.listed.all())
        self.whole = self.full and (mdp.n_states, mdp.n_actions) == (self.m, self.width)
        if not self.whole:
            ordinal = np.arange(len(system.pair_state)) - np.repeat(begin, self.counts)
            place = ordinal * self.m + np.repeat(np.arange(self.m), self.counts)  # of each pair
            # Where q and the policy [2, S, A] lie in (q, policy, ABSENT), both flat.
            source = np.full((2, mdp.n_states * mdp.n_actions), ((2 * entries,), (2 * entries + 1,)))
            pair = mdp.pair_state.astype(np.intp) * mdp.n_actions + mdp.pair_action
            source[0][pair], source[1][pair] = place, place + entries
            self.source = source.reshape(2, mdp.n_states, mdp.n_actions)
        whole = bool((self.reward == np.rint(self.reward)).all()) and max_norm(self.reward) < WHOLE
        self.costs = self.moves and system.terms == 1 and whole and system.costs
        number_of = np.full(system.n, self.m)  # where no value waits
        number_of[self.states] = self.columns
        if self.moves:
            to = np.full(len(goes_on), self.m)
            to[goes_on > 0] = number_of[p.indices]
            every = np.ones(len(goes_on), dtype=bool)
            steps = np.append(steps_to_end(system.pair_state, p, goes_on == 0, every)[self.states], 0.0)
            self.paths = Paths(self.reward, to[pairs], steps)
        elif self.small:  # states that do not act are worth 0
            rows = p[pairs]
            successors = number_of[rows.indices].astype(rows.indices.dtype)
            self.sparse = sp.sparse.csr_matrix((rows.data, successors, rows.indptr), shape=(entries, self.m))
            self.bands = Bands(self.sparse, self.reward, self.width)
        if self.solves:
            self.rows, self.gamma = p.toarray()[pairs][:, self.states], -1.0

    @cached_property
    def can_end(self) -> bool:
        """Whether an end can be reached from every state."""
        p, ends, every = self.system.transition, self.system.ends, np.ones(len(self.system.ends), dtype=bool)
        return bool(np.isfinite(steps_to_end(self.system.pair_state, p, ends, every)[self.states]).all())

    def at(self, gamma: float) -> None:
        """Prepare the rows of I − γP of all pairs, and the values `first` of the policy that takes each as often."""
        if gamma != self.gamma:
            self.gamma, self.weights = gamma, gamma * self.rows
            self.matrix = np.tile(np.eye(self.m), (self.width, 1)) - self.weights
            mean = self.matrix.reshape(self.width, self.m, self.m).mean(axis=0)
            self.first = sp.linalg.lapack.dgesv(mean, self.reward.reshape(self.width, self.m).mean(axis=0))[2]

    def laid_out(
        self, x: np.ndarray, q: np.ndarray, top: np.ndarray, bound: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(v [S], q [S, A], policy [S, A]) from the values [m] of the states that act, q flat [A m] and its maximum.

        As in `rlnet.mdp.solvers.optimal_actions`, those within what the error of v and rounding may hide are listed:
        2γ bound + 2 rounding ≤ 2 bound, since bound ≥ rounding / (1 − γ).
        """
        by_action = q.reshape(self.width, self.m)
        share = (by_action >= top - 2.0 * bound).astype(float)
        if not self.full:
            share *= self.listed
        share /= self.ones.dot(share)
        if self.whole:
            return x, by_action.T, share.T
        v = np.zeros(self.source.shape[1])
        v[self.states] = x
        values, policy = np.concatenate((q, share.ravel(), ABSENT)).take(self.source)
        return v, values, policy


def spare_tables(mdp: FiniteMDP) -> list[Table]:
    """The tables of a model that no solve is using; a solver takes one out, or makes one, and puts it back.

    Solvers write into a table, so threads never share one.
    """
    kept = mdp.__dict__.get("_tables")
    return mdp.__dict__.setdefault("_tables", []) if kept is None else kept
