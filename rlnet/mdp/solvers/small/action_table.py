"""Dense table layout [A, m] of the (state, action) pairs of a small model."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.graph import steps_to_end
from rlnet.mdp.operators.bellman import max_norm, system_of
from rlnet.mdp.solvers.policy_iteration import DIRECT_STATES
from rlnet.mdp.solvers.small.banded_newton import Bands
from rlnet.mdp.solvers.small.deterministic import Paths

DENSE_STATES = 150  # up to here policies are evaluated by a dense LU of the table's rows
DENSE_ENTRIES = 100_000  # of the table's rows, at most
WHOLE = 2.0**52  # whole numbers below are added exactly


class Table:
    """The pairs of the m non-terminal states as [A, m]; a state with fewer than A actions repeats its first.

    `moves`: every pair goes to one state or ends, so that backups need no product. `solves`: policies can be evaluated
    by a dense LU. `small`: the rows are kept as a sparse matrix, for backups and band matrices. A table that can do
    none of it is none: see `taken`.
    """

    def __init__(self, mdp: FiniteMDP) -> None:
        self.system = system = system_of(mdp)
        self.states, begin = system.first_pairs()
        self.counts = np.diff(np.append(begin, len(system.pair_state)))
        self.width, self.m = int(self.counts.max(initial=0)), len(begin)
        p = system.transition
        goes_on = np.diff(p.indptr)
        self.moves = bool(len(begin)) and int(goes_on.max()) <= 1 and bool((p.data == 1.0).all())
        entries = self.width * self.m
        self.small = 0 < self.m <= DIRECT_STATES
        self.solves = 0 < self.m <= DENSE_STATES and entries * self.m <= DENSE_ENTRIES
        self.wasteful = entries > 2 * len(system.pair_state)
        if not self.useful:
            return
        number = np.arange(self.width)[:, None]
        pairs = (begin + np.where(number < self.counts, number, 0)).ravel()
        ordinal = np.arange(len(system.pair_state)) - np.repeat(begin, self.counts)
        place = ordinal * self.m + np.repeat(np.arange(self.m), self.counts)  # of each pair
        self.source = np.full((mdp.n_states, mdp.n_actions), entries)  # in the flat table; else behind it
        self.source[mdp.pair_state, mdp.pair_action] = place
        self.ones, self.acts = np.ones(self.width), ~mdp.terminal
        self.reward = system.reward[pairs]
        self.columns = np.arange(self.m)
        self.listed = number < self.counts
        self.full = bool(self.listed.all())
        self.whole = self.full and self.source.shape == (self.m, self.width)
        whole = bool((self.reward == np.rint(self.reward)).all()) and max_norm(self.reward) < WHOLE
        self.costs = self.moves and system.terms == 1 and whole and system.costs
        if self.moves:
            number_of = np.full(system.n, self.m)  # where no value waits
            number_of[self.states] = self.columns
            to = np.full(len(goes_on), self.m)
            to[goes_on > 0] = number_of[p.indices]
            every = np.ones(len(goes_on), dtype=bool)
            steps = np.append(steps_to_end(system.pair_state, p, goes_on == 0, every)[self.states], 0.0)
            self.paths = Paths(self.reward, to[pairs], steps)
        elif self.small:  # states that do not act are worth 0
            self.sparse = p[pairs][:, self.states]
            self.bands = Bands(self.sparse, self.reward, self.width)
        if self.solves:
            self.rows, self.gamma = p.toarray()[pairs][:, self.states], -1.0

    @cached_property
    def can_end(self) -> bool:
        """Whether an end can be reached from every state."""
        p, ends, every = self.system.transition, self.system.ends, np.ones(len(self.system.ends), dtype=bool)
        return bool(np.isfinite(steps_to_end(self.system.pair_state, p, ends, every)[self.states]).all())

    @property
    def useful(self) -> bool:
        return (self.moves or self.small) and not self.wasteful

    def at(self, gamma: float) -> None:
        """Prepare the matrices I − γP of all pairs, and of the policy that takes each as often, for this γ."""
        if gamma != self.gamma:
            self.gamma, self.weights = gamma, gamma * self.rows
            self.matrix = np.tile(np.eye(self.m), (self.width, 1)) - self.weights
            self.mean_matrix = self.matrix.reshape(self.width, self.m, self.m).mean(axis=0)
            self.mean_reward = self.reward.reshape(self.width, self.m).mean(axis=0)

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
        v = np.zeros(len(self.source))
        np.place(v, self.acts, x)
        return v, self._spread(q, -np.inf), self._spread(share.ravel(), 0.0)

    def _spread(self, flat: np.ndarray, nothing: float) -> np.ndarray:
        """[S, A] from the flat table [A m], `nothing` where an action is not available."""
        filled = np.empty(len(flat) + 1)
        filled[:-1], filled[-1] = flat, nothing
        return filled.take(self.source)


def taken(mdp: FiniteMDP) -> Table:
    """The table of a model, which keeps it between solves; `put_back` returns it.

    Solvers write into a table. Whoever has taken it is alone with it: another thread makes its own.
    """
    kept = mdp.__dict__.pop("_table", None)
    return Table(mdp) if kept is None else kept


def put_back(mdp: FiniteMDP, table: Table) -> None:
    """Keep a table with its model, for the next solve."""
    mdp.__dict__["_table"] = table
