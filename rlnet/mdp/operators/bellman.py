"""Bellman backup of a model, q = r + γ P v, as vectors and a sparse matrix; in a game, of signed values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy as sp

from rlnet.mdp.model.finite_mdp import FiniteMDP

EPS = float(np.finfo(np.float64).eps)
ROW_SUM = 1.1e-15  # per outcome: how far from 1 the probabilities of a pair may sum (builders rescale them)


@dataclass(frozen=True, eq=False)
class System:
    """The backup q = r + γ P v over (state, action) pairs, sorted by state. n states, P pairs."""

    pair_state: np.ndarray  # int [P]
    reward: np.ndarray  # float64 [P], expected
    magnitude: np.ndarray  # float64 [P], Σ p |r|: the scale of the rounding error of `reward`
    transition: sp.sparse.csr_matrix  # [P, n], the mass that goes on
    ends: np.ndarray  # bool [P], whether the pair may end the episode
    terms: int  # the most outcomes of any pair
    model: FiniteMDP | None = None  # that this comes from, where it is known
    of: np.ndarray | None = None  # int [S], the state here of each of the model's; None: the same
    behind: np.ndarray | None = None  # int [P], the model's pair, −1 where there is none; None: the same
    signed: sp.sparse.csr_matrix | None = None  # [P, n] of a game: `transition`, negative where the other player moves

    @cached_property
    def _largest_reward(self) -> float:
        return float(self.magnitude.max(initial=0.0))

    @property
    def n(self) -> int:
        return self.transition.shape[1]

    def first_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(states int [m] that have pairs, the first pair of each int [m])."""
        return self._first

    @cached_property
    def _first(self) -> tuple[np.ndarray, np.ndarray]:
        first = np.ones(len(self.pair_state), dtype=bool)
        first[1:] = self.pair_state[1:] != self.pair_state[:-1]
        begin = np.flatnonzero(first)
        return self.pair_state[begin], begin

    def q(self, v: np.ndarray, gamma: float) -> np.ndarray:
        """Action values q = r + γ P v, float64 [P]."""
        return self.reward + gamma * (self.carried @ v)

    @cached_property
    def lost(self) -> np.ndarray | None:
        """bool [P]: the pairs that end so rarely that sums of their probabilities do not show it; None if none does."""
        if not self.ends.any():
            return None
        rest = 1.0 - self.transition @ np.ones(self.n)
        lost = self.ends & (rest <= 2.0 * (self.terms + 8) * EPS)
        return lost if lost.any() else None

    @cached_property
    def rows(self) -> np.ndarray | sp.sparse.csr_matrix:
        """`transition`, as a dense array where it is tiny."""
        small = self.transition.shape[0] * self.n <= DENSE_ENTRIES
        return self.transition.toarray() if small else self.transition

    @cached_property
    def carried(self) -> np.ndarray | sp.sparse.csr_matrix:
        """What a pair's value takes of its successors' values: `rows`, in a game `signed`."""
        if self.signed is None:
            return self.rows
        return self.signed.toarray() if isinstance(self.rows, np.ndarray) else self.signed

    def rounding(self, v: np.ndarray, largest: float | None = None) -> float:
        """An upper bound on the rounding error of one entry of `q` (and of q − v), for these values, and for rewards
        (Σ p |r|) of at most `largest`, by default that of all pairs.

        A sum of k products is off by at most (k + 1) u Σ|terms|, u = ε/2 (Higham 2002, ch. 3); k counts outcomes, those
        that were added up included, and the rows sum to 1 up to rounding.
        """
        scale = (self._largest_reward if largest is None else largest) + 2.0 * (max_norm(v) if len(v) else 0.0)
        return 0.5 * (self.terms + 6) * EPS * scale

    def slack(self, v: np.ndarray, gamma: float) -> np.ndarray:
        """float64 [P]: `rounding` for each pair, by what it adds up itself: what is large elsewhere is no matter."""
        own = np.abs(v)
        return 0.5 * (self.terms + 6) * EPS * (self.magnitude + gamma * (self.rows @ own) + own.take(self.pair_state))

    @cached_property
    def costs(self) -> bool:
        """Whether every pair that never ends the episode costs something."""
        return bool((self.reward[~self.ends] < 0.0).all())

    @cached_property
    def cost(self) -> float:
        """The least cost of any pair; not positive if some may cost nothing."""
        return -float((self.reward + (self.terms + 1) * EPS * self.magnitude).max(initial=-np.inf))

    def bound(self, v: np.ndarray, change: float, gamma: float) -> float:
        """max |v − v*| plus the rounding of a backup, from `change` ≥ |Tv − v|, rounding included; inf if none follows.

        γ < 1: T is a γ-contraction. Where every step costs c > 0, at any γ: with e = `change` and η = e / (c − e),
        T(1 − η)v ≤ (1 − η)v, so that v* ≤ v + η|v|, and T_π (1 + η)v ≥ (1 + η)v for the greedy π, which at γ = 1
        therefore ends, and is worth at least v − η|v|.
        """
        rest = self.cost - change
        bound = change * (1.0 + max_norm(v) / rest) * (1.0 + 1e-12) if rest > 0.0 else np.inf
        if gamma < 1.0:
            rest = 1.0 - gamma * (1.0 + ROW_SUM * (self.terms + 6))
            bound = min(bound, change / rest) if rest > 0.0 else bound
        return bound


def max_norm(x: np.ndarray) -> float:
    """max |x| of a vector that is not empty, NaN if it holds any; argmax is faster than max on short vectors."""
    x = np.abs(x)
    return x.item(x.argmax())


KEPT_OUTCOMES = 1_000_000  # a model of up to this many keeps its System: it is asked for again and again in training
DENSE_ENTRIES = 100_000  # [P, n] up to which a dense copy makes a backup faster than a sparse product's set-up


def system_of(mdp: FiniteMDP) -> System:
    """The backup of a model, cached."""
    kept = mdp.__dict__.get("_system")
    if kept is None:
        kept = _system_of(mdp)
        if mdp.n_outcomes <= KEPT_OUTCOMES:
            mdp.__dict__["_system"] = kept
    return kept


def _system_of(mdp: FiniteMDP) -> System:
    size = np.abs(mdp.reward) * mdp.probability
    begin = mdp.outcome_ptr[:-1]
    magnitude = np.add.reduceat(size, begin) if mdp.n_pairs else np.zeros(0)
    ends = np.logical_or.reduceat(mdp.terminated, begin) if mdp.n_pairs else np.zeros(0, dtype=bool)
    reward = mdp.expected_reward
    # A mean of rewards that cancel is 0, not their rounding error: whether a loop is free depends on it at γ = 1.
    reward = np.where(np.abs(reward) <= 4 * EPS * magnitude, 0.0, reward)
    terms = int(np.diff(mdp.outcome_ptr).max(initial=0))
    signed = None if mdp.sign is None else mdp.carried(mdp.sign)
    return System(mdp.pair_state, reward, magnitude, mdp.transition, ends, terms, mdp, signed=signed)


def quotient(
    system: System, component: np.ndarray, inside: np.ndarray, stays: bool = True
) -> tuple[System, np.ndarray, np.ndarray]:
    """(system over merged states, class int [n] of each state, pair int [P'] behind each row, −1 for "stay").

    Every end component becomes one state, its inner pairs go, and if it `stays`, it gains a pair that stays for ever,
    at 0, and ends.
    """
    merged = component >= 0
    label = np.where(merged, component, component.max(initial=-1) + 1 + np.arange(system.n))
    _, of = np.unique(label, return_inverse=True)
    n = int(of.max(initial=-1)) + 1
    stay = np.unique(of[merged]) if stays else np.zeros(0, dtype=of.dtype)
    kept = np.flatnonzero(~inside)
    to = sp.sparse.csr_matrix((np.ones(system.n), (np.arange(system.n), of)), shape=(system.n, n))
    rows = sp.sparse.vstack(
        [(system.transition @ to).tocsr()[kept], sp.sparse.csr_matrix((len(stay), n))], format="csr"
    )
    state = np.concatenate([of[system.pair_state[kept]], stay])
    order = np.argsort(state, kind="stable")
    nothing, row = np.zeros(len(stay)), np.concatenate([kept, np.full(len(stay), -1)])[order]
    smaller = System(
        state[order],
        np.concatenate([system.reward[kept], nothing])[order],
        np.concatenate([system.magnitude[kept], nothing])[order],
        rows[order],
        np.concatenate([system.ends[kept], np.ones(len(stay), dtype=bool)])[order],
        system.terms,
        system.model,
        of if system.of is None else of[system.of],
        np.where(row < 0, -1, row if system.behind is None else system.behind[row]),
    )
    return smaller, of, row
