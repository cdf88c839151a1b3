"""Compiled sweeps over a model, split over threads where that pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.index_type import index_dtype
from rlnet.mdp.operators.bellman import System, system_of
from rlnet.mdp.solvers.compiled.outcome_arrays import repeats, source
from rlnet.mdp.solvers.compiled.threading import THREAD_STATES, at_once, in_parts, threads
from rlnet.mdp.solvers.value_iteration import RELAXATION

CHAINS = 4  # stretches that a thread sweeps in turns: see `kernels.backup_in_place`
PADDING = 1.5  # a policy's rows are gathered, padded to the widest, up to this many times the memory of ragged ones
UNROLLED = 64  # outcomes of a pair up to which loops over them are unrolled
TRIAL = 4  # sweeps by which the ways of sweeping are compared
BETTER = 1.05


class PackedSweeps:
    """Values v and compiled sweeps that improve them. n states, P pairs, K outcomes. Arrays are not copied.

    The results of a sweep do not depend on timing: Jacobi sweeps write elsewhere, and Gauss-Seidel sweeps run on
    alternate blocks that no other running block reads.
    """

    def __init__(self, model: FiniteMDP | System, gamma: float) -> None:
        from rlnet.mdp.solvers.compiled import kernels

        self.run, self.gamma = kernels, gamma
        if isinstance(model, FiniteMDP) and repeats(model):
            model = system_of(model)
        self.pair_ptr, self.outcome_ptr, columns = source(model)
        self.n, n_pairs = len(self.pair_ptr) - 1, len(self.outcome_ptr) - 1
        self.acts = self.pair_ptr[1:] > self.pair_ptr[:-1]
        counts = np.diff(self.outcome_ptr)
        widest, total = int(counts.max(initial=0)), len(columns[0])
        self.deterministic = widest == 1
        usual = int(np.bincount(counts, minlength=2)[1:].argmax()) + 1
        self.like = (0,) * usual if usual <= UNROLLED else ()
        self.row = (0,) * widest if widest * n_pairs <= PADDING * total and widest <= UNROLLED else ()
        self.v = np.zeros(self.n)
        found = self._survey(model, columns)
        if isinstance(model, System):
            self.leaks = bool(model.ends.any())
        self.leaks |= not self.acts.all()
        for name in ("pair_ptr", "outcome_ptr", "reward", "successor", "chance"):
            setattr(self, name, _read_only(getattr(self, name)))
        self.terms = (model.terms if isinstance(model, System) else widest) + 6
        self.reach = int(max(far for *_, far, _ in found))
        self.far = 4 * self.reach > self.n
        # What one state overshoots by is handed on: it must die out along the sweep, or it grows beyond all measure.
        self.relax = RELAXATION if RELAXATION * max(most for *_, most in found) < 1.0 else 1.0
        self.other = np.zeros(self.n)
        self.choice = np.full(self.n, -1, dtype=index_dtype(n_pairs))
        self.changed = 1.0  # the share of states whose choice the last backup changed
        self.kept: np.ndarray | None = None
        self.policy: tuple[np.ndarray, ...] | None = None
        self.gathered: tuple[np.ndarray, ...] | None = None
        self.forward = True  # so that the first sweep goes back: goals tend to come late
        self.way, self.chains = 0, (0,) * CHAINS  # way of sweeps in place: see `try_ways`
        self.active, self.margin = (0, self.n), 1

    def _survey(self, model: FiniteMDP | System, columns: tuple[np.ndarray, ...]) -> list[tuple]:
        """Set reward [P], largest_reward, leaks, successor and chance [K]; what `kernels.survey` found, part by part.

        Outcomes that end must lead to states of value 0. Where their `next_state` is another, their chance becomes 0.
        """
        self.successor, self.chance, _, terminated = columns
        n_pairs = len(self.outcome_ptr) - 1
        self.reward, magnitude, best = np.empty(n_pairs), np.empty(n_pairs), np.empty(self.n)
        arrays = (self.pair_ptr, self.outcome_ptr, *columns)
        found = in_parts(lambda lo, hi: self.run.survey(lo, hi, *arrays, self.reward, magnitude, best), self.n)
        self.leaks = any(ends for ends, *_ in found)
        if any(misleads for _, misleads, *_ in found) or (self.leaks and self.deterministic):
            self.chance = np.where(terminated, 0.0, self.chance)
        if isinstance(model, System):
            self.reward, magnitude = model.reward, model.magnitude
        elif self.gamma < 1.0:
            self.v = best  # a backup of nothing
        self.largest_reward = float(magnitude.max(initial=0.0))
        return found

    def rounding(self, further: float = 0.0) -> float:
        """An upper bound on the rounding error of one backup of one state (as `System.rounding`), for
        values that are `further` larger."""
        largest = float(np.abs(self.v).max(initial=0.0)) + further
        return 0.5 * self.terms * float(np.finfo(float).eps) * (self.largest_reward + 2.0 * largest)

    def backup(self, bonus: float = 0.0, keep: bool = False) -> tuple[float, float]:
        """v ← Tv (reward + bonus) for all states and the greedy policy; the least and the largest change. With `keep`,
        `action_values` are those of this backup, until the next sweep."""
        kept = np.empty(len(self.reward) if keep else 0)
        arrays = (*self.model, self.gamma, bonus, self.v, self.other, self.choice, kept)
        found = in_parts(lambda lo, hi: self.run.backup(lo, hi, *arrays), self.n)
        self.v, self.other = self.other, self.v
        self.policy, self.active, self.kept = None, (0, self.n), kept if keep else None
        self.changed = sum(other for *_, other in found) / self.n
        return min(least for least, *_ in found), max(most for _, most, _ in found)

    def backup_in_place(self, bonus: float = 0.0, ignore: float = 0.0) -> float:
        """One Gauss-Seidel sweep of optimal backups where changes can arrive, and their policy; the largest change.
        From then on only states count that more than `ignore` can reach."""
        self._turn()
        lo, hi = max(0, self.active[0] - self.reach), min(self.n, self.active[1] + self.reach)
        arrays = (self.forward, *self.model, self.gamma, bonus, self.v, ignore, self.chains, self.choice)
        changes = self._alternating(lambda a, b: self.run.backup_in_place(a, b, *arrays), lo, hi)
        self.policy = self.kept = None
        self._narrow(min(c[1] for c in changes), max(c[2] for c in changes), lo, hi)
        return max(c[0] for c in changes)

    def follow(self, bonus: float = 0.0) -> tuple[float, float]:
        """One Jacobi sweep of the greedy policy of the last backup; the least and the largest change."""
        self.kept = None
        arrays = (self.row, *self.policy_rows(), self.gamma, bonus, self.v, self.other)
        changes = in_parts(lambda lo, hi: self.run.follow(lo, hi, *arrays), self.n)
        self.v, self.other = self.other, self.v
        return min(c[0] for c in changes), max(c[1] for c in changes)

    def follow_in_place(self, bonus: float = 0.0, times: int = 1) -> float:
        """Over-relaxed Gauss-Seidel sweeps of the greedy policy, of the states that count; the largest change of the
        last. A thread makes all of them before its block's neighbours are swept."""
        self.kept = None
        ways = np.array([self._turn() for _ in range(times)])
        arrays = (self.row, *self.policy_rows(), self.gamma, bonus, self.v, self.relax, self.chains)
        call = lambda lo, hi: self.run.follow_in_place(lo, hi, ways, *arrays)  # noqa: E731
        return max(self._alternating(call, *self.active))

    def _turn(self) -> bool:
        """The direction of the next sweep in place, whether forwards."""
        self.forward = self.way > 0 if self.way else not self.forward
        return self.forward

    def try_ways(self, bonus: float = 0.0) -> int:
        """Sweeps of the greedy policy in place, forwards and back from the same values; how many. From then on, sweeps
        go (`way`) from the first state to the last (1), back (−1), or, where neither moved the values further, to and
        fro (0): along the way that rewards travel, one sweep does what several do against it."""
        if len(self.chains) == 1:
            return 0
        start, moved, reached = self.v, {}, {}
        for self.way in (1, -1):
            self.v = start.copy()
            self.follow_in_place(bonus, TRIAL)
            moved[self.way], reached[self.way] = float(np.abs(self.v - start).sum()), self.v
        best = max(moved, key=lambda way: moved[way])
        self.way = best if moved[best] > BETTER * moved[-best] else 0
        self.v = reached[best]
        return 2 * TRIAL

    def average(self) -> None:
        """After a Jacobi sweep: the values become the mean of those before it and after it."""
        self.v += self.other
        self.v *= 0.5
        self.kept = None

    def keep_order(self, relax: bool) -> None:
        """Successors come first: sweep forwards, and no state before the one that it needs; over-relaxed or not."""
        self.way, self.chains, self.far = 1, (0,), False
        self.relax = self.relax if relax else 1.0

    def _narrow(self, first: int, last: int, lo: int, hi: int) -> None:
        """Restrict further sweeps to the states that changes of the states first..last can reach.

        A sweep carries a change a single step against its direction, but any number along it; the margin of states
        around them keeps changes away from the border.
        """
        if first < hi:
            touched = (lo > 0 and first < lo + self.reach) or (hi < self.n and last + self.reach >= hi)
            self.margin = 2 * self.margin if touched else max(self.margin // 2, 1)
            further = min(self.margin * self.reach, self.n)
            self.active = (max(0, first - further), min(self.n, last + further + 1))

    def values(self) -> np.ndarray:
        """The values, float64 [n]."""
        return self.v

    def action_values(self) -> np.ndarray:
        """q(s, a) of every pair for the present values, or as the last backup kept them, float64 [P]."""
        if self.kept is not None:
            return self.kept
        q = np.empty(len(self.reward))
        arrays = (*self.model, self.gamma, self.v, q)
        in_parts(lambda lo, hi: self.run.action_values(lo, hi, *arrays), self.n)
        return q

    def start(self, bonus: float = 0.0) -> bool:
        """Values to start from, where one pass back from the ends finds good ones: deterministic models. Whether so."""
        if not self.deterministic:
            return False
        from rlnet.mdp.solvers.compiled.deterministic import walk_back

        arrays = (self.pair_ptr, self.reward, self.successor, self.chance)
        walk_back(*arrays, self.gamma, bonus, self.v, 4 * self.n)
        return True

    def path_lengths(self) -> np.ndarray | None:
        """Steps to the end of the greedy policy, float64 [n], where the model is deterministic and it ends."""
        if not self.deterministic:
            return None
        from rlnet.mdp.solvers.compiled.deterministic import path_lengths

        steps = np.zeros(self.n)
        path_lengths(self.choice, self.successor, self.chance, steps)
        return steps if np.isfinite(steps).all() else None

    def follow_pairs(self, pairs: np.ndarray) -> None:
        """Make `pairs` (int [n], −1 where there is none) the policy that `follow` sweeps."""
        self.choice[:] = pairs
        self.policy, self.active = None, (0, self.n)

    @contextmanager
    def counting(self, guess: np.ndarray | None) -> Iterator[None]:
        """Meanwhile the policy pays nothing, and the values are `guess` [n] or 0: what it pays then counts steps."""
        values, (row, ptr, reward, to, p) = self.v, self.policy_rows()
        nothing = np.zeros_like(reward)
        self.policy = (row, ptr, nothing if reward.flags.writeable else _read_only(nothing), to, p)
        self.v = np.zeros(self.n) if guess is None else guess.copy()
        self.active = (0, self.n)
        try:
            yield
        finally:
            self.v, self.policy = values, (row, ptr, reward, to, p)
            self.active = (0, self.n)

    def after(self, w: np.ndarray) -> np.ndarray:
        """P w [P] of all pairs, for w [n] that is 0 in states that do not act; up to one more rounding."""
        values, self.v, self.kept = self.v, w, None
        try:
            return self.action_values() - self.reward
        finally:
            self.v = values

    def move(self, by: np.ndarray) -> None:
        """Add `by`, float64 [n], to the values."""
        self.v += by
        self.kept = None

    def shift(self, by: float) -> None:
        """Add a constant to the value of every state that acts, and to kept action values."""
        if by != 0.0:
            np.add(self.v, by, out=self.v, where=self.acts)
            if self.kept is not None:
                self.kept += by

    @property
    def model(self) -> tuple:
        """The arrays that sweeps over all actions read."""
        return self.like, self.pair_ptr, self.outcome_ptr, self.reward, self.successor, self.chance

    def policy_rows(self) -> tuple[np.ndarray, ...]:
        """(choice, outcome_ptr, reward, successor, chance) of the current policy; gathered ones have γ in `chance`."""
        if self.policy is not None:
            return self.policy
        if self.row:
            if self.gathered is None:
                held, size = np.full(self.n, -1, self.choice.dtype), self.n * len(self.row)
                self.gathered = (held, np.zeros(self.n), np.zeros(size, self.successor.dtype), np.zeros(size))
            model = (self.outcome_ptr, self.choice, self.reward, self.successor, self.chance, self.gamma)
            gathered = self.gathered
            in_parts(lambda lo, hi: self.run.gather(lo, hi, self.row, *model, *gathered), self.n)
            held, *rows = gathered
            self.policy = (held, self.outcome_ptr, *rows)
        else:
            self.policy = (self.choice, self.outcome_ptr, self.reward, self.successor, self.chance)
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
        return at_once(call, first) + at_once(call, second)


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written to: kernels are compiled once, not also for arrays that could be."""
    view = array.view()
    view.flags.writeable = False
    return view


def tabulated(mdp: FiniteMDP, q: np.ndarray, slack: float) -> tuple[np.ndarray, np.ndarray]:
    """(q, policy), both float64 [S, A], from q [P]: uniform over the actions within `slack` of the best."""
    from rlnet.mdp.solvers.compiled.kernels import tabulate

    shape = (mdp.n_states, mdp.n_actions)
    table, policy = np.empty(shape), np.empty(shape)
    arrays = (mdp.pair_ptr, mdp.pair_action, q, slack, table, policy)
    in_parts(lambda lo, hi: tabulate(lo, hi, *arrays), mdp.n_states)
    return table, policy
