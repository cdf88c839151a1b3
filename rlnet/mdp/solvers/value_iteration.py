"""Value iteration, Gauss-Seidel and modified policy iteration for γ < 1, until the error bound is met."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rlnet.mdp.operators.bellman import ROW_SUM

Callback = Callable[[int, float, float], None]

FAST_MIXING = 0.75  # contraction of the span per Jacobi sweep below which extrapolated Jacobi sweeps win
JACOBI_GOAL = 0.3  # policy sweeps shrink the span to this fraction at least: see `_follow`
JACOBI_LIMIT = 40
FEW = 1e-3  # of the states: a policy that changes in no more than these is swept as if it were the last
INNER_GOAL = 0.1  # policy sweeps go on until their change is this fraction of the last improvement's
INNER_LIMIT = 4  # times
AT_ONCE = 3  # sweeps: looking at the change, and handing it between threads, takes time too
TURNS_OF_TRIAL = (1, 3, 7, 15)  # in which the way of sweeping is chosen: what the values depend on shows late
RELAXATION = 1.45  # of Gauss-Seidel policy sweeps: halves their number on grids; given up where it does not converge
AVERAGED = 10  # sweeps of value iteration without progress, after which the chain may have a period
NEAR_FLOOR = 10.0  # times the part of the bound that rounding makes: there, rounding may be all that is left
PATIENCE = 60  # certified backups without progress near the rounding floor before the tolerance is given up


def patience(gamma: float) -> int:
    """Certified backups without 1 % of progress after which no more is expected: a γ-contraction makes that much in
    0.01 / (1 − γ) of them, so ten times as many are a fault of the arithmetic, and the iteration must end."""
    return PATIENCE + int(min(0.1 / (1.0 - gamma), 1e9))


class Certifiable(Protocol):
    """Values whose Jacobi backups prove an error bound: see `certified`."""

    gamma: float
    leaks: bool  # an episode can end
    terms: int  # the most outcomes of a pair

    def backup(self, *, keep: bool = False) -> tuple[float, float]: ...
    def rounding(self, further: float = 0.0) -> float: ...


class Sweeps(Protocol):
    """Interface of sweeps on a device: see `rlnet.mdp.solvers.compiled.sweeps.PackedSweeps`."""

    gamma: float
    leaks: bool  # an episode can end
    far: bool  # successors lie all over the index, so that in-place sweeps carry nothing along
    n: int
    terms: int  # the most outcomes of a pair
    relax: float  # by how much a policy sweep in place overshoots
    changed: float  # the share of states whose choice the last backup changed
    v: np.ndarray

    def backup(self, bonus: float = 0.0, keep: bool = False) -> tuple[float, float]: ...
    def backup_in_place(self, bonus: float = 0.0, ignore: float = 0.0) -> float: ...
    def follow(self, bonus: float = 0.0) -> tuple[float, float]: ...
    def follow_in_place(self, bonus: float = 0.0, times: int = 1) -> float: ...
    def try_ways(self, bonus: float = 0.0) -> int: ...
    def average(self) -> None: ...
    def shift(self, by: float) -> None: ...
    def values(self) -> np.ndarray: ...
    def action_values(self) -> np.ndarray: ...
    def rounding(self, further: float = 0.0) -> float: ...


class UndiscountedSweeps(Sweeps, Protocol):
    """Interface of sweeps at γ = 1."""

    pair_ptr: np.ndarray
    acts: np.ndarray
    choice: np.ndarray

    def start(self, bonus: float = 0.0) -> bool: ...
    def follow_pairs(self, pairs: np.ndarray) -> None: ...
    def path_lengths(self) -> np.ndarray | None: ...
    def counting(self, guess: np.ndarray | None) -> AbstractContextManager[None]: ...
    def after(self, w: np.ndarray) -> np.ndarray: ...
    def move(self, by: np.ndarray) -> None: ...


@dataclass
class Progress:
    """Progress of a solve: counts sweeps, reports them, and records why the iteration stopped."""

    callback: Callback | None = None
    began: float = 0.0
    max_sweeps: int | None = None
    sweeps: int = 0
    bound: float = np.inf
    interrupted: bool = False

    def report(self, bound: float) -> None:
        """Call the callback with (sweeps, bound, seconds)."""
        self.bound = bound
        if self.callback is not None:
            self.callback(self.sweeps, bound, time.perf_counter() - self.began)

    @property
    def exhausted(self) -> bool:
        return self.max_sweeps is not None and self.sweeps >= self.max_sweeps


def reported(progress: Progress, bound: float) -> None:
    """`progress.report`; a KeyboardInterrupt in it is recorded, not raised."""
    try:
        progress.report(bound)
    except KeyboardInterrupt:
        progress.interrupted = True


def discounted(sweeps: Sweeps, tol: float, method: str, progress: Progress) -> tuple[float, str]:
    """Iterate until the values are within `tol` of v*: (bound, what was done). The values are left in `sweeps`.

    `method`: "value_iteration" (Jacobi), "gauss_seidel" or "modified_policy_iteration": extrapolated Jacobi sweeps
    where sweeps in place carry nothing along, as long as they contract fast, else Gauss-Seidel sweeps. Every bound
    comes from a Jacobi backup: see `certified`.
    """
    best, stale, last = np.inf, 0, False  # whether this backup is expected to be the last
    jacobi = method == "value_iteration" or (method == "modified_policy_iteration" and sweeps.far)
    while True:
        low, high, bound, floor = certified(sweeps, last)
        progress.sweeps += 1
        progress.report(bound)
        best, stale = (bound, 0) if bound < 0.99 * best else (best, stale + 1)
        stuck = stale >= (PATIENCE if bound < NEAR_FLOOR * floor else patience(sweeps.gamma))
        if bound <= tol or bound <= 1.1 * floor or stuck or progress.exhausted:
            break
        # Half of what the certificate will ask of the change.
        goal = max(0.5 * (tol - floor) * (1.0 - sweeps.gamma), 0.1 * floor * (1.0 - sweeps.gamma))
        if method == "value_iteration":
            last = bound * sweeps.gamma <= tol
            if stale and stale % AVERAGED == 0:
                sweeps.average()  # changes that go round in turns cancel; others lose half a sweep
        elif jacobi:
            span, jacobi = _follow(sweeps, high - low, goal, progress)
            last = span <= goal
        else:
            in_place(sweeps, min(goal, 0.1 * (high - low)), method == "gauss_seidel", progress)
            last = True
    sweeps.shift(sweeps.gamma / (1.0 - sweeps.gamma) * (low + high) / 2.0)
    return bound, _named(method, jacobi)


def certify(sweeps: Sweeps) -> float:
    """One backup and the bound on what it leaves; the values are moved to the middle."""
    low, high, bound, _ = certified(sweeps)
    sweeps.shift(sweeps.gamma / (1.0 - sweeps.gamma) * (low + high) / 2.0)
    return bound


def certified(sweeps: Certifiable, last: bool = True) -> tuple[float, float, float, float]:
    """A Jacobi backup: (lo, hi, bound, the part of the bound that rounding makes). Its action values are within the
    bound too, once they are moved as the values are; they are kept if this may be the `last`.

    With lo ≤ Tv − v ≤ hi, v* − Tv lies between γ/(1−γ) lo and γ/(1−γ) hi, where lo ≤ 0 ≤ hi are forced if episodes can
    end. Only the *span* of the change counts, which contracts with the mixing of the chain and not with γ.
    (MacQueen 1966; Puterman 1994, th. 6.6.2.)
    """
    low, high = sweeps.backup(keep=last)
    if sweeps.leaks:
        low, high = min(low, 0.0), max(high, 0.0)
    # Rows sum to 1 up to rounding; what is missing in 1 − γ because of it counts against the bound, and so does the
    # rounding of the values where they are going to be moved to.
    gamma = sweeps.gamma * (1.0 + ROW_SUM * sweeps.terms)
    if gamma >= 1.0:
        return low, high, np.inf, np.inf
    far = gamma / (1.0 - gamma) * max(abs(low), abs(high))
    floor = 2.0 * sweeps.rounding(far) / (1.0 - gamma)
    return low, high, gamma * (high - low) / (2.0 * (1.0 - gamma)) * (1.0 + 1e-12) + floor, floor


def in_place(
    sweeps: Sweeps, goal: float, only_improve: bool, progress: Progress, bonus: float = 0.0, limit: int = 1000
) -> None:
    """Gauss-Seidel improvements, at most `limit`, each followed by sweeps of its policy, until one changes ≤ `goal`.

    Improving in place matters: a Jacobi improvement carries a new value one step, and the policy sweeps between cannot
    carry it beyond, since the policy out there is still arbitrary.
    """
    ignore, best, worse, least, stale = 0.05 * goal, np.inf, 0, np.inf, 0
    for turn in range(limit):
        change = sweeps.backup_in_place(bonus, ignore)
        progress.sweeps += 1
        least, stale = (change, 0) if change < 0.99 * least else (least, stale + 1)
        if change <= goal or progress.exhausted or (sweeps.gamma < 1.0 and stale > patience(sweeps.gamma)):
            return  # where nothing moves the certified backups decide
        worse = worse + 1 if change > best else 0
        best = min(best, change)
        if worse >= 8:
            sweeps.relax = 1.0
        progress.report(progress.bound)
        if not only_improve:
            progress.sweeps += sweeps.try_ways(bonus) if turn in TURNS_OF_TRIAL else 0
            _follow_in_place(sweeps, change, progress, bonus)


def _follow_in_place(sweeps: Sweeps, change: float, progress: Progress, bonus: float) -> None:
    """Sweeps of the policy until one changes a fraction of `change`, what its improvement changed."""
    for _ in range(INNER_LIMIT):
        last = sweeps.follow_in_place(bonus, AT_ONCE)
        progress.sweeps += AT_ONCE
        if last <= INNER_GOAL * change:
            break
        if last > 4.0 * change:  # over-relaxation diverges here
            sweeps.relax = 1.0


def _follow(sweeps: Sweeps, span: float, goal: float, progress: Progress) -> tuple[float, bool]:
    """Jacobi sweeps of the greedy policy until the span of the change is `goal`, or a fraction of `span`: the share of
    states that changed their choice, since that is what a better policy can bring. (What it is, whether it fell fast.)
    """
    before, count = span, 0
    if sweeps.changed > FEW:
        goal = max(goal, before * min(sweeps.changed, JACOBI_GOAL))
    while span > goal and count < JACOBI_LIMIT:
        low, high = sweeps.follow()
        span, count = high - low, count + 1
    progress.sweeps += count
    return span, span <= FAST_MIXING**count * before


def _named(method: str, jacobi: bool) -> str:
    if method == "modified_policy_iteration":
        return f"{method} ({'Jacobi, span' if jacobi else 'Gauss-Seidel'})"
    return method
