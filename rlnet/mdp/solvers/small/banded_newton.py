"""Policy iteration (Newton's method on v = Tv) by band matrices, for models with local transitions."""

from __future__ import annotations

import numpy as np
import scipy as sp

from rlnet.mdp.operators.bellman import System, max_norm
from rlnet.mdp.operators.products import csr_product, greedy_rows
from rlnet.mdp.solvers.value_iteration import Progress, reported

LANES = {np.float32: 32, np.float64: 16}  # BLAS adds up columns in steps of so many entries, and any rest one by one
PADDING = 3.0  # rows are padded to the longest, up to this many times what they hold
NARROW = 3.0  # the band of a model of local moves is at most m / NARROW wide
WORK = (8e6, 3.5e7)  # products of one factorization up to which band matrices are used; the second: narrow ones
COSTLY = 3e5  # products of one factorization from which some steps and backups more are worth one less
KEPT = (0.01, 0.3)  # factors are kept while a step leaves at most this share of the change; the second: if costly
AHEAD = (0, 3)  # backups before a factorization
AHEAD_FIRST = 2  # at least, before the first one
SOON = 20  # backups in which most episodes of a model with costs may end: then factors are not worth their time yet
FIRST_GAMMA = 0.99  # of the values to start from, which serve every γ
TRUSTING = 15  # factorizations after which none is kept: policy iteration alone is sure to settle
MAX_FACTORS = 50
NEAR_ROUNDING = 64.0  # times the rounding error of a backup: below, one step more is all that can be hoped for


class Bands:
    """The matrices I − γP of policies over m states, each state choosing one of `width` rows.

    Single precision, but for the narrowest, where conversions take longer than they save: a step need only point the
    right way, and what it leaves is seen by the next backup. The matrices are diagonally dominant by rows, so that the
    factors of their transposes need no pivoting.
    """

    def __init__(self, rows: sp.sparse.csr_matrix, reward: np.ndarray, width: int) -> None:
        """`rows` csr [width m, m] and `reward` [width m]: state s of choice a is row a m + s."""
        self.width, self.m = width, rows.shape[1]
        self.rows, self.reward, self.order = rows, reward, None
        self.above, self.below = _reach(rows)
        if max(self.above, self.below) > 2.0 * np.sqrt(self.m):  # some other order of the states may do better
            order, (above, below) = _close(rows, width)
            if above + below < self.above + self.below:
                self.order, self.above, self.below = order, above, below
                own = (self.m * np.arange(width)[:, None] + order).ravel()
                self.rows, self.reward = rows[own][:, order], reward[own]
        reach = self.above + self.below
        self.dtype = np.float64 if self.above <= LANES[np.float64] else np.float32
        self.above = -(-self.above // LANES[self.dtype]) * LANES[self.dtype]
        self.depth = 2 * self.above + self.below + 1  # LAPACK keeps `above` places for what pivoting would fill
        counts = np.diff(self.rows.indptr)
        longest, held = int(counts.max()), len(self.rows.data) + len(counts)
        self.work = work = self.m * self.above * max(self.below, 1)
        narrow = NARROW * reach <= self.m
        self.useful = work <= WORK[narrow] and (longest + 1) * len(counts) <= PADDING * held
        self.narrow = self.useful and narrow
        self.kept, self.ahead = KEPT[work > COSTLY], AHEAD[work > COSTLY]
        self.number = np.arange(width * self.m).reshape(width, self.m)
        self.in_place = np.arange(self.m, dtype=np.int32).tobytes()  # pivots of a factorization without any
        self.place: np.ndarray  # of the entries, once `at` was called
        self.gamma = -1.0

    def _lay_out(self) -> None:
        """Where the entries of each row lie in a flat band matrix, the diagonal first, and what they are at γ = 1."""
        counts = np.diff(self.rows.indptr)
        size, columns = len(counts), int(counts.max()) + 1
        state = np.arange(size) % self.m
        own, step = np.repeat(state, counts), _steps(self.rows)
        column = np.arange(1, len(own) + 1) - np.repeat(self.rows.indptr[:-1].astype(np.intp), counts)
        column[step == 0] = 0
        entry = np.repeat(columns * np.arange(size), counts) + column
        place = np.repeat(self.depth * state, columns)  # what is not used: never read
        place[::columns] += self.above + self.below
        place[entry] = self.depth * own + (self.above + self.below) + step
        weight = np.zeros(size * columns)
        weight[entry] = -self.rows.data
        self.place, self.weight = place.reshape(size, columns), weight.reshape(size, columns)

    def at(self, gamma: float, costs: bool = False) -> None:
        """Prepare the rows γP and the entries of I − γP for this γ; `costs`: whether every step costs something."""
        if self.gamma < 0.0:
            self._lay_out()
            self.buffer = np.zeros((self.m + 1) * self.depth, dtype=self.dtype)
            self.product = csr_product()
            self.first = self._settled() if costs and self.work > COSTLY else None
            if self.first is None:
                self.first = self._of_all_choices()
        if gamma != self.gamma:
            self._discount(gamma)

    def _discount(self, gamma: float) -> None:
        p = self.rows
        self.gamma, self.discounted = gamma, (p.indptr, p.indices, gamma * p.data)
        self.entries = self._entries(gamma).astype(self.dtype)

    def _entries(self, gamma: float) -> np.ndarray:
        entries = gamma * self.weight
        entries[:, 0] += 1.0
        return entries

    def _settled(self) -> np.ndarray | None:
        """The values after some backups of zeros, [m]; None where the last one still changes half of what the first
        did."""
        self._discount(FIRST_GAMMA)
        v = before = self.backup(np.zeros(self.m))[1]
        change = max_norm(v)
        for _ in range(SOON):
            before, v = v, self.backup(v)[1]
        return v if max_norm(v - before) < 0.5 * change else None

    def _of_all_choices(self) -> np.ndarray | None:
        """The values of the policy that takes every choice as often, [m]; None where it has no factors."""
        factors = Factors(self)
        entries = (self._entries(FIRST_GAMMA) / self.width).astype(self.dtype).reshape(self.width, self.m, -1)
        for place, entry in zip(self.place.reshape(entries.shape), entries, strict=True):
            factors.flat[place] += entry  # in one row no two entries share a place that is read
        reward = np.add.reduce(self.reward.reshape(self.width, -1), 0) / self.width
        return factors.solve(reward, max_norm(reward)) if factors.found() else None

    def backup(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bellman backup of v [m]: (q flat [A m], its maximum [m])."""
        q = self.reward.copy()
        self.product(len(q), self.m, *self.discounted, v, q)
        return q, np.maximum.reduce(q.reshape(self.number.shape), 0)

    def greedy(self, q: np.ndarray, top: np.ndarray) -> np.ndarray:
        """Greedy policy, int [m]: the row of a choice of largest q in each state."""
        return greedy_rows(q.reshape(self.number.shape), top, self.number)

    def in_order(
        self, v: np.ndarray, q: np.ndarray, top: np.ndarray, bound: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """(v [m], q flat [A m], its maximum [m], the bound), in the order in which the states came."""
        if self.order is None:
            return v, q, top, bound
        rank = np.argsort(self.order)
        return v[rank], q.reshape(self.number.shape)[:, rank].ravel(), top[rank], bound


class Factors:
    """The factors of I − γP of one policy after the other, in the buffer of `bands`."""

    def __init__(self, bands: Bands) -> None:
        above, below, m, depth = bands.above, bands.below, bands.m, bands.depth
        self.bands, self.double = bands, bands.dtype is np.float64
        self.flat = bands.buffer
        matrix = lambda start: self.flat[start : start + m * depth].reshape(m, depth)  # noqa: E731
        self.matrix, self.used = matrix(0).T, matrix(0)[:, above:]  # Fortran's view, and the part that it reads
        self.upper, self.lower = matrix(above).T, matrix(above + below).T

    def of(self, rows: np.ndarray) -> bool:
        """Factor I − γP of the policy of these rows, int [m]; whether that succeeded."""
        self.used.fill(0.0)
        self.flat[self.bands.place.take(rows, 0)] = self.bands.entries.take(rows, 0)
        return self.found()

    def found(self) -> bool:
        """Factor the matrix in the buffer; whether that succeeded."""
        factor = sp.linalg.lapack.dgbtrf if self.double else sp.linalg.lapack.sgbtrf
        _, pivots, failed = factor(self.matrix, self.bands.above, self.bands.below, overwrite_ab=1)
        return failed == 0 and pivots.tobytes() == self.bands.in_place

    def solve(self, b: np.ndarray, size: float) -> np.ndarray:
        """Solve (I − γP) x = b for x [m], in single precision to about 6 digits; `size` is max |b|."""
        if self.double:
            x = sp.linalg.blas.dtbsv(self.bands.below, self.upper, b, trans=1)
            return sp.linalg.blas.dtbsv(self.bands.above, self.lower, x, lower=1, trans=1, diag=1, overwrite_x=1)
        size = size or 1.0
        x = (b / size).astype(np.float32)
        x = sp.linalg.blas.stbsv(self.bands.below, self.upper, x, trans=1, overwrite_x=1)
        x = sp.linalg.blas.stbsv(self.bands.above, self.lower, x, lower=1, trans=1, diag=1, overwrite_x=1)
        return np.multiply(x, size, dtype=np.float64)


def newton(
    bands: Bands, system: System, gamma: float, tol: float, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float] | None:
    """(v [m], q flat [A m], its maximum [m], bound), or None where that does not meet `tol`: the factors are too
    rough, MAX_FACTORS too few, or rounding is in the way.

    v ← v + (I − γP)⁻¹ (Tv − v), P of the policy greedy for v: policy iteration, written as Newton's method (Puterman &
    Brumelle 1979). While the change shrinks fast enough, P may stay an earlier policy's; a step that makes it grow is
    taken back. It starts from the values of the policy that takes every action as often, whose greedy policy is good
    where rewards are rare; where every step costs and most episodes end soon, from those after some backups.
    """
    bands.at(gamma, system.cost > 0.0)
    if bands.first is None:
        return None
    v, kept, count, settled = bands.first, False, 0, False
    factors: Factors | None = None
    last: tuple = (np.inf,)  # (change, v, q, its maximum, step) of the backup before
    while True:
        q, top = bands.backup(v)
        step = top - v
        change, rounding = max_norm(step), system.rounding(v)
        bound = system.bound(v, change + rounding, gamma)
        progress.sweeps += 1
        reported(progress, bound)
        if bound <= tol or progress.exhausted or progress.interrupted:
            return bands.in_order(v, q, top, bound)
        if settled:
            return None
        settled = change <= NEAR_ROUNDING * rounding
        if kept and change > last[0]:  # the factors misled
            (change, v, q, top, step), kept = last, False
        else:
            left = change / last[0]
            last_step = kept and left * bound <= 0.5 * tol  # and cheaper than new factors
            kept = 0 < count <= TRUSTING and (left <= bands.kept or last_step)
        last = (change, v, q, top, step)
        if factors is None or not kept:
            ahead = bands.ahead if count else max(bands.ahead, AHEAD_FIRST)
            for _ in range(ahead):
                v = top
                q, top = bands.backup(v)
            if ahead:
                step = top - v
                change = max_norm(step)
            factors = Factors(bands) if factors is None else factors
            count += 1
            if count > MAX_FACTORS or not factors.of(bands.greedy(q, top)):
                return None
        v = v + factors.solve(step, change)


def _close(rows: sp.sparse.csr_matrix, width: int) -> tuple[np.ndarray, tuple[int, int]]:
    """An order of the states, int [m], in which those that reach each other lie close, and how far they reach in it."""
    m = rows.shape[1]
    by_state = rows[np.arange(width * m).reshape(width, m).T.ravel()]
    pattern = sp.sparse.csr_matrix((by_state.data, by_state.indices, by_state.indptr[::width]), shape=(m, m))
    order = sp.sparse.csgraph.reverse_cuthill_mckee(pattern, symmetric_mode=False)
    return order, _reach(rows, np.argsort(order))


def _reach(rows: sp.sparse.csr_matrix, rank: np.ndarray | None = None) -> tuple[int, int]:
    """How far `rows` reach above (at least 1) and below their own state, where state s has the place rank[s]."""
    step = _steps(rows, rank)
    return max(int(step.max(initial=0)), 1), int(-step.min(initial=0))


def _steps(rows: sp.sparse.csr_matrix, rank: np.ndarray | None = None) -> np.ndarray:
    """int [K]: how far each entry of `rows` lies from its row's own state, where state s has the place rank[s]."""
    own = np.repeat(np.arange(rows.shape[0]) % rows.shape[1], np.diff(rows.indptr))
    return rows.indices - own if rank is None else rank[rows.indices] - rank[own]
