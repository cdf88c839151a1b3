"""A model laid out for sweeping, and the sweeps over it, split over threads where that pays."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise

import numpy as np

from rlnet.mdp.iterate import RELAXATION
from rlnet.mdp.model import FiniteMDP, index_dtype
from rlnet.mdp.system import System

THREAD_STATES = 30_000  # states of a sweep from which a second thread repays its dispatch
PADDING = 1.5  # padded rows are used up to this many times the memory of ragged ones


@cache
def threads() -> int:
    """How many threads large sweeps are split over: the cores that this process may use."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads(), thread_name_prefix="rlnet-mdp")


class PackedSweeps:
    """v and the sweeps that improve it. n states, P pairs, K outcomes per pair (0: ragged).

    The results of a sweep do not depend on timing: Jacobi sweeps write elsewhere, and Gauss-Seidel sweeps run on
    alternate blocks that no other running block reads.
    """

    def __init__(self, model: FiniteMDP | System, gamma: float) -> None:
        from rlnet.mdp import kernels

        self.run, self.gamma = kernels, gamma
        pair_ptr, outcome_ptr, columns = _source(model)
        self.n, n_pairs = len(pair_ptr) - 1, len(outcome_ptr) - 1
        widest, total = int(np.diff(outcome_ptr).max(initial=0)), len(columns[0])
        self.width = widest if widest and widest * n_pairs <= PADDING * total and widest <= 64 else 0
        self.like = (0,) * self.width
        self.pair_ptr = pair_ptr
        magnitude = self._pack(outcome_ptr, columns, n_pairs)
        if isinstance(model, System):
            self.reward, magnitude = model.reward, model.magnitude
            self.leaks = bool(model.ends.any())
        self.terms = (model.terms if isinstance(model, System) else widest) + 6
        self.largest_reward = float(magnitude.max(initial=0.0))
        self.acts = np.diff(pair_ptr) > 0
        self.leaks |= not self.acts.all()
        arrays = (pair_ptr, self.outcome_ptr, self.successor, self.chance, self.width)
        found = in_parts(lambda lo, hi: kernels.reach(lo, hi, *arrays), self.n)
        self.reach = int(max(far for far, _ in found))
        # What one state overshoots by is handed on: it must die out along the sweep, or it grows beyond all measure.
        self.relax = RELAXATION if RELAXATION * max(most for _, most in found) < 1.0 else 1.0
        self.far = 4 * self.reach > self.n
        self.v = np.zeros(self.n)
        self.other = np.zeros(self.n)
        self.choice = np.full(self.n, -1, dtype=index_dtype(n_pairs))
        self.policy: tuple[np.ndarray, ...] | None = None
        self.gathered: tuple[np.ndarray, ...] | None = None
        self.forward = False  # the first sweep goes from the last state to the first: goals tend to come late
        self.one_way = False  # always from the first state to the last: successors come first
        self.active = (0, self.n)

    def _pack(self, outcome_ptr: np.ndarray, columns: tuple[np.ndarray, ...], n_pairs: int) -> np.ndarray:
        """Fill successor, chance [P K] (or ragged, with outcome_ptr), reward [P] and leaks; Σ p |r| [P]."""
        size = self.width * n_pairs if self.width else len(columns[0])
        self.outcome_ptr = np.zeros(1 if self.width else n_pairs + 1, dtype=index_dtype(size))
        self.successor = np.empty(size, dtype=index_dtype(self.n))
        self.chance = np.empty(size)
        self.reward, magnitude = np.empty(n_pairs), np.empty(n_pairs)
        arrays = (self.width, self.outcome_ptr, self.successor, self.chance, self.reward, magnitude)
        pack = lambda lo, hi: self.run.pack_outcomes(lo, hi, outcome_ptr, *columns, *arrays)  # noqa: E731
        # Ragged rows follow each other, so they are laid out in one go.
        self.leaks = any(in_parts(pack, n_pairs) if self.width else [pack(0, n_pairs)])
        return magnitude

    def rounding(self, further: float = 0.0) -> float:
        """An upper bound on the rounding error of one backup of one state (as `System.rounding`), for
        values that are `further` larger."""
        largest = float(np.abs(self.v).max(initial=0.0)) + further
        return 0.5 * self.terms * float(np.finfo(float).eps) * (self.largest_reward + 2.0 * largest)

    def backup(self, bonus: float = 0.0) -> tuple[float, float]:
        """v ← Tv (reward + bonus) for all states and the greedy policy; the least and the largest change."""
        arrays = (*self.model, self.gamma, bonus, self.v, self.other, self.choice)
        changes = in_parts(lambda lo, hi: self.run.backup(lo, hi, *arrays), self.n)
        self.v, self.other = self.other, self.v
        self.policy, self.active = None, (0, self.n)
        return min(c[0] for c in changes), max(c[1] for c in changes)

    def backup_in_place(self, bonus: float = 0.0, ignore: float = 0.0) -> float:
        """One Gauss-Seidel sweep of optimal backups where changes can arrive, and their policy; the largest change."""
        self.forward = self.one_way or not self.forward
        (lo, hi), self.policy = self.active, None
        arrays = (self.forward, *self.model, self.gamma, bonus, self.v, ignore, self.choice)
        return self._narrow(self._alternating(lambda a, b: self.run.backup_in_place(a, b, *arrays), lo, hi), lo, hi)

    def follow(self, bonus: float = 0.0) -> tuple[float, float]:
        """One Jacobi sweep of the greedy policy of the last backup; the least and the largest change."""
        arrays = (self.like, *self.policy_rows(), self.gamma, bonus, self.v, self.other)
        changes = in_parts(lambda lo, hi: self.run.follow(lo, hi, *arrays), self.n)
        self.v, self.other = self.other, self.v
        return min(c[0] for c in changes), max(c[1] for c in changes)

    def follow_in_place(self, bonus: float = 0.0, ignore: float = 0.0) -> float:
        """One over-relaxed Gauss-Seidel sweep of the greedy policy where changes of more than `ignore` can arrive; the
        largest change."""
        self.forward = self.one_way or not self.forward
        lo, hi = self.active
        arrays = (self.forward, self.like, *self.policy_rows(), self.gamma, bonus, self.v, ignore, self.relax)
        return self._narrow(self._alternating(lambda a, b: self.run.follow_in_place(a, b, *arrays), lo, hi), lo, hi)

    def _narrow(self, changes: list, lo: int, hi: int) -> float:
        """Next time only the states that this sweep's changes can have reached; the largest change."""
        first, last = min(c[1] for c in changes), max(c[2] for c in changes)
        if first < hi:
            self.active = (max(0, first - self.reach), min(self.n, last + self.reach + 1))
        return max(c[0] for c in changes)

    def values(self) -> np.ndarray:
        """float64 [n]."""
        return self.v

    def action_values(self) -> np.ndarray:
        """q(s, a) of every pair for the present values, float64 [P]."""
        q = np.empty(len(self.reward))
        arrays = (*self.model, self.gamma, self.v, q)
        in_parts(lambda lo, hi: self.run.action_values(lo, hi, *arrays), self.n)
        return q

    def start(self, bonus: float = 0.0) -> bool:
        """Values to start from, where one pass back from the ends finds good ones: deterministic models. Whether so."""
        if self.width != 1:
            return False
        from rlnet.mdp.walks import walk_back

        arrays = (self.pair_ptr, self.reward, self.successor, self.chance)
        walk_back(*arrays, self.gamma, bonus, self.v, 4 * self.n)
        return True

    def path_lengths(self) -> np.ndarray | None:
        """Steps to the end of the greedy policy, float64 [n], where the model is deterministic and it ends."""
        if self.width != 1:
            return None
        from rlnet.mdp.walks import path_lengths

        steps = np.zeros(self.n)
        path_lengths(self.choice, self.successor, self.chance, steps)
        return steps if np.isfinite(steps).all() else None

    def follow_pairs(self, pairs: np.ndarray) -> None:
        """Make `pairs` (int [n], −1 where there is none) the policy that `follow` sweeps."""
        self.choice[:] = pairs
        self.policy, self.active = None, (0, self.n)

    def shift(self, by: float) -> None:
        """Add a constant to the value of every state that acts."""
        if by != 0.0:
            self.v[self.acts] += by

    @property
    def model(self) -> tuple:
        """What the sweeps of all actions read."""
        return self.like, self.pair_ptr, self.outcome_ptr, self.reward, self.successor, self.chance

    def policy_rows(self) -> tuple[np.ndarray, ...]:
        """(choice, outcome_ptr, reward, successor, chance) of the current policy."""
        if self.policy is None and self.width == 0:
            self.policy = (self.choice, self.outcome_ptr, self.reward, self.successor, self.chance)
        elif self.policy is None:
            if self.gathered is None:
                held, size = np.full(self.n, -1, self.choice.dtype), self.n * self.width
                self.gathered = (held, np.zeros(self.n), np.zeros(size, self.successor.dtype), np.zeros(size))
            arrays = (self.like, self.choice, self.reward, self.successor, self.chance, *self.gathered)
            in_parts(lambda lo, hi: self.run.gather(lo, hi, *arrays), self.n)
            held, *rows = self.gathered
            self.policy = (held, self.outcome_ptr, *rows)
        return self.policy

    def _alternating(self, call: Callable, lo: int, hi: int) -> list:
        """In-place sweeps over 2T blocks, the even ones at once, then the odd ones: a block reads at most `reach`
        states beyond its border, which lie in a block that rests."""
        count = threads()
        if count == 1 or hi - lo < 2 * THREAD_STATES or self.reach * 2 * count > hi - lo:
            return [call(lo, hi)]
        edges = np.linspace(lo, hi, 2 * count + 1).astype(int)
        blocks = list(pairwise(edges.tolist()))
        first, second = (blocks[::2], blocks[1::2]) if self.forward else (blocks[1::2], blocks[::2])
        return _at_once(call, first) + _at_once(call, second)


def _source(model: FiniteMDP | System) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """(pair_ptr, outcome_ptr, (next_state, probability, reward, terminated))."""
    if isinstance(model, FiniteMDP):
        columns = (model.next_state, model.probability, model.reward, model.terminated)
        return model.pair_ptr, model.outcome_ptr, columns
    p = model.transition
    ptr = np.zeros(model.n + 1, dtype=index_dtype(p.shape[0]))
    np.cumsum(np.bincount(model.pair_state, minlength=model.n), out=ptr[1:])
    index = p.indices.astype(index_dtype(p.shape[1]), copy=False)
    rewards = np.zeros(p.nnz)  # the expected reward is known; the outcomes here only carry the probabilities
    return ptr, p.indptr, (index, p.data, rewards, np.zeros(p.nnz, dtype=bool))


def in_parts(call: Callable, n: int) -> list:
    """`call(lo, hi)` for parts of 0..n that the threads take at once, or for the whole where that is small."""
    if threads() == 1 or n < 2 * THREAD_STATES:
        return [call(0, n)]
    edges = np.linspace(0, n, threads() + 1).astype(int).tolist()
    return _at_once(call, list(pairwise(edges)))


def _at_once(call: Callable, blocks: list[tuple[int, int]]) -> list:
    running = [_pool().submit(call, lo, hi) for lo, hi in blocks]
    try:
        wait(running)
    except KeyboardInterrupt:
        wait(running)  # never leave a sweep writing into values that are about to be reported
        raise
    return [future.result() for future in running]
