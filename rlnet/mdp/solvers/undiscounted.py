"""Iterative methods at γ = 1 with an error bound: a value function above v*, and a policy's value below."""

from __future__ import annotations

import numpy as np

from rlnet.mdp.solvers.value_iteration import Progress, UndiscountedSweeps, in_place

STEP_SWEEPS = 20_000  # sweeps granted to the expected steps of a policy before it counts as never ending
UNSETTLED_SWEEPS = 500  # the same, when a sweep was interrupted: the caller waits
PROGRESS = 0.999  # a round that leaves less of the change made progress; a round is a sweep, or some thirty
PROGRESS_OF_MODIFIED = 0.9  # the same of modified policy iteration, of hundreds: what settles takes about three rounds
ROUNDS = 8
FIRST_SWEEPS = 5  # of the policy that ends from everywhere
TURNS_FROM_BELOW = 100  # improvements from it, where sweeping did not settle


def undiscounted(
    sweeps: UndiscountedSweeps, tol: float, method: str, progress: Progress, proper: np.ndarray, patience: int
) -> tuple[float, str]:
    """Iterate until the values are within `tol` of v* at γ = 1: (bound, what was done).

    `proper` int [n] is the pair of each state (−1: terminal) by a policy that ends from everywhere. Every step is paid
    θ > 0 extra while sweeping. Once T_θ v ≤ v + θ, we have Tv ≤ v, so that v ≥ V^π for every policy that ends: v ≥ v*.
    With δ = max(v − T_π v) for the greedy π and W ≥ 1 + P_π W, checked by a sweep, v − δW ≤ V^π ≤ v*. The values are
    moved to the middle of the two, and θ shrinks until they are close enough. (Bertsekas & Tsitsiklis 1991.)

    Infinite where `patience` rounds of sweeps brought nothing: there may be no value to settle to.
    """
    paths = sweeps.start()
    if not paths:
        sweeps.follow_pairs(proper)
        for _ in range(FIRST_SWEEPS):
            sweeps.follow_in_place()
            progress.sweeps += 1
    # Paths have at most n steps, and θ costs them nothing; sweeps settle the later, the smaller it is.
    theta, steps, bound = max(tol / (2.0 * sweeps.n if paths else 20.0), 8.0 * sweeps.rounding()), None, np.inf
    for _ in range(ROUNDS):
        sweeps.start(theta)
        low, high = _settled(sweeps, theta, method, progress, patience)
        if progress.exhausted:
            return reached(sweeps, progress), method
        if not np.isfinite(high):
            return np.inf, method
        slack = sweeps.rounding()
        steps = _steps(sweeps, steps, progress)
        if steps is None or max(high, 0.0) + slack > theta:
            return np.inf, method
        below = (theta - min(low, 0.0) + 2.0 * slack) * steps
        bound = 0.5 * float(below.max(initial=0.0)) * (1.0 + 1e-12) + slack
        progress.report(bound)
        if bound <= tol or theta <= 8.0 * slack:
            sweeps.move(-0.5 * below)
            return bound, method
        theta = max(0.7 * theta * tol / bound, 8.0 * slack)
    sweeps.move(-0.5 * below)
    return bound, method


def from_below(sweeps: UndiscountedSweeps, tol: float, progress: Progress, proper: np.ndarray) -> None:
    """Sweep up from the policy `proper`, which ends, with nothing paid besides: to v* where no reward is negative, but
    nothing tells how near."""
    sweeps.start()
    sweeps.follow_pairs(proper)
    for _ in range(FIRST_SWEEPS):
        sweeps.follow_in_place()
        progress.sweeps += 1
    in_place(sweeps, 0.01 * tol, False, progress, limit=TURNS_FROM_BELOW)


def reached(sweeps: UndiscountedSweeps, progress: Progress) -> float:
    """Error bound of values that have not settled, which are moved to its middle; inf if none is proved, or after
    KeyboardInterrupt.

    With W as in `undiscounted`, v + κW ≥ T(v + κW) wherever κ (W − P_a W) ≥ r_a + P_a v − v for every pair; then
    v − δW ≤ V^π ≤ v* ≤ v + κW. There is such a κ where what is still to be gained leads nearer to the end.
    """
    try:
        sweeps.backup()
        progress.sweeps += 1
        steps = _steps(sweeps, None, progress, UNSETTLED_SWEEPS)
    except KeyboardInterrupt:
        steps = None
    if steps is None:
        return np.inf
    own = np.repeat(np.arange(sweeps.n), np.diff(sweeps.pair_ptr))
    slack, size = 2.0 * sweeps.rounding(), float(steps.max(initial=0.0))
    gain = sweeps.action_values() - sweeps.values()[own]
    nearer = steps[own] - sweeps.after(steps) - 4.0 * sweeps.rounding(size)
    below = slack - float(gain[sweeps.choice[sweeps.acts]].min(initial=0.0))
    up = nearer > 0.0
    above = float(((gain + slack)[up] / nearer[up]).max(initial=0.0)) * (1.0 + 1e-12)
    if (above * (1.0 + 1e-12) * nearer[~up] < (gain + slack)[~up]).any():
        return np.inf
    sweeps.move(0.5 * (above - below) * steps)
    return 0.5 * (above + below) * size * (1.0 + 1e-12) + slack


def _settled(
    sweeps: UndiscountedSweeps, theta: float, method: str, progress: Progress, patience: int
) -> tuple[float, float]:
    """Sweep with θ more a step until a Jacobi backup changes nothing by more than θ/2: its (least, largest) change."""
    goal, best, stale = theta / 2.0, np.inf, 0
    left = PROGRESS_OF_MODIFIED if method == "modified_policy_iteration" else PROGRESS
    while not progress.exhausted:
        low, high = sweeps.backup(theta)
        progress.sweeps += 1
        progress.report(progress.bound)
        change = max(-low, high)
        if change <= goal:
            return low, high
        stale = 0 if change < left * best else stale + 1
        best = min(best, change)
        if stale > patience:
            return low, np.inf  # a loop whose rewards cancel, or pay: there is no value to settle to
        if method != "value_iteration":
            in_place(sweeps, goal / 4.0, method == "gauss_seidel", progress, theta, 30)
    return -np.inf, np.inf


def _steps(
    sweeps: UndiscountedSweeps, guess: np.ndarray | None, progress: Progress, limit: int = STEP_SWEEPS
) -> np.ndarray | None:
    """W ≥ 1 + P_π W for the greedy policy, float [n], None if none was found. Finite only where the policy ends.

    From w with w − P_π w ≥ c > 0, W = w / c. The sweeps aim at the expected number of steps, where c = 1.
    """
    known = sweeps.path_lengths()
    guess = guess if known is None else known
    with sweeps.counting(guess):
        for k in range(1, limit):
            sweeps.follow_in_place(1.0)
            progress.sweeps += 1
            if k % 10 == 0 or k == 1:
                before = np.array(sweeps.values())
                _, rise = sweeps.follow(1.0)  # 1 + P w − w
                if rise <= 0.25:
                    acts = np.where(sweeps.acts, before, 0.0)
                    return acts / (1.0 - rise - 1e-12 * (1.0 + float(before.max())))
                if not np.isfinite(rise) or before.max() > 1e13:
                    return None
        return None
