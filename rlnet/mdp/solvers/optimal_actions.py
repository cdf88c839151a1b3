"""The set of optimal actions: those within the error of the values, if no policy over them loses more than is proved.

At γ < 1, where each of them falls short of v* by at most c, no policy over them loses more than c / (1 − γ). At γ = 1
an action that is greedy for nearly exact values need not be optimal: a loop of such actions may lose a little in every
round, or go on for so long that what is hidden in rounding adds up. What a pair loses is its gap g_a = v − q_a, with
the rounding error of q_a. Where ℓ ≥ g_a + P_a ℓ holds for all listed pairs, and ℓ ≥ 0, every policy over them, however
it picks, ends, since g_a > 0, and earns at least v − ℓ: u = v − ℓ has T_a u ≥ u. The least such ℓ is the largest sum of
gaps that a policy over the listed pairs can collect: a decision process of its own, solved by policy iteration; where
every step costs at least c > g, the largest gap, it is at most g |v| / (c − g), since no policy takes more steps.
"""

from __future__ import annotations

import numpy as np

from rlnet.mdp.model.graph import end_components, row_min, steps_to_end
from rlnet.mdp.operators.bellman import EPS, System, quotient
from rlnet.mdp.operators.linear_systems import DiscountedSystem, SingularChainError
from rlnet.mdp.solution import ROW_SUM
from rlnet.mdp.solvers.entropy_regularized import mixed_rows
from rlnet.mdp.solvers.policy_iteration import DIRECT_STATES, best_pairs, made_proper
from rlnet.mdp.solvers.value_iteration import Progress, in_place

ROUNDS = 30  # improvements of the worst policy
TURNS = 100  # of ten improvements each, in which sweeps have to count the steps
MISSED = 0.25  # of its gap: a pair whose ℓ − P_a ℓ falls short of g_a by no more is not worth another evaluation
GUILTY = 0.01  # of the largest share in what a change of policy loses: pairs with as much go
ALMOST = 1.0 - 1e-10  # a discount under which what goes on for ever has a value
TINY = 1e-24  # relative: a gap that is 0 in exact numbers still counts the steps


def near_pairs(pair_ptr: np.ndarray, q: np.ndarray, slack: float) -> np.ndarray:
    """bool [P]: the pairs whose q [P] lies within `slack` of the largest of their state; those of s are
    `pair_ptr[s]:pair_ptr[s + 1]`."""
    counts = np.diff(pair_ptr)
    begin = pair_ptr[:-1][counts > 0]
    return q >= (np.maximum.reduceat(q, begin) - slack).repeat(counts[counts > 0]) if len(q) else q >= 0.0


def slack_of(v: np.ndarray, bound: float) -> float:
    """By how much q may be off for values v [n], on both sides of a comparison: as v is, and rounding. A bound that
    failed leaves rounding alone."""
    return 32.0 * EPS * float(np.abs(v).max(initial=0.0)) + (2.0 * bound if np.isfinite(bound) else 0.0)


def discounted_loss(bound: float, slack: float, gamma: float) -> float:
    """The most that a policy over the pairs within `slack` of the best loses at γ < 1, q being r + γ P v for some v
    within `bound` of v*, and rounded by no more: none of them falls short of v* by more than 4 bound + slack."""
    rest = 1.0 - gamma * (1.0 + ROW_SUM)
    return (4.0 * bound + slack) / rest if rest > 0.0 else np.inf


def costly_loss(bound: float, slack: float, cost: float, largest: float) -> float:
    """The same at γ = 1 where every step costs at least `cost`, and |v| is at most `largest`.

    With g = 4 bound + slack and η = g / (cost − g), T_a (1 + η) v* ≥ (1 + η) v* for these pairs.
    """
    gap = 4.0 * bound + slack
    return gap / (cost - gap) * (largest + bound) * (1.0 + 1e-12) if gap < cost else np.inf


def listed_pairs(system: System, v: np.ndarray, q: np.ndarray, bound: float, tol: float) -> tuple[np.ndarray, float]:
    """(bool [P], the most that a policy over these pairs loses), for v [n] within `bound` of v* and its q [P].

    Candidates are the pairs within twice the bound of the best. Free loops that are worth 0 may be stayed in, with
    every pair; of a loop of candidates that has to be left, those stand that may bring the state nearer to a way out.
    Of what is left, pairs are dropped until no policy is proved to lose more than `tol`, or four times the bound if
    that is more. No state is left without a pair.
    """
    if len(q) == 0:
        return np.zeros(0, dtype=bool), 0.0
    known, scale = (bound if np.isfinite(bound) else 0.0), float(np.abs(v).max())
    rounding = system.slack(v, 1.0)
    gap = np.maximum(v.take(system.pair_state) - q, 0.0) + rounding + TINY * (1.0 + scale)
    # q is off by as much as v, on both sides of the comparison.
    _, begin = system.first_pairs()
    level = np.maximum.reduceat(q - 4.0 * rounding, begin) - 2.0 * known
    near = q + 4.0 * rounding >= level.repeat(np.diff(np.append(begin, len(q))))
    limit = max(tol, 4.0 * known, 1e-12 * scale)
    lost = costly_loss(0.0, float(np.where(near, gap, 0.0).max()), system.cost, scale)
    if lost <= limit:
        return near, bound + lost
    pairs, idle = np.zeros(len(q), dtype=bool), _idle(system, v, 2.0 * known + 32.0 * EPS * scale)
    if idle is None:
        pairs, lost = _safe(system, near, q, gap, limit)
        return pairs, bound + lost
    component, inside = idle
    smaller, of, origin = quotient(system, component, inside)
    real, worth = origin >= 0, np.zeros(smaller.n)
    worth[of] = np.abs(v)
    listed, lost = _safe(
        smaller,
        near[origin] | ~real,
        np.where(real, q[origin], 0.0),
        np.where(real, gap[origin], worth[smaller.pair_state] + TINY * (1.0 + scale)),
        limit,
    )
    pairs[inside] = True
    pairs[origin[listed & real]] = True
    return pairs, bound + lost


def _idle(system: System, v: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray] | None:
    """(component int [n], −1 outside; inside bool [P]) of the free loops worth no more than this; None if none is."""
    proper = made_proper(system)
    if proper.inside is None:
        return None
    component = np.where(np.abs(v) <= tolerance, proper.component, -1)
    inside = proper.inside & (component[system.pair_state] >= 0)
    return (component, inside) if inside.any() else None


def _safe(system: System, near: np.ndarray, q: np.ndarray, gap: np.ndarray, limit: float) -> tuple[np.ndarray, float]:
    """(bool [P], the largest ℓ): pairs in `near` among which every policy ends, with an ℓ that meets the limit if that
    of the fastest policy does."""
    near, leads = _without_loops(system, near, q)
    if system.n > DIRECT_STATES:
        return _swept(system, near, leads, gap, limit)
    found = _fastest(system, near, leads, gap, limit)
    if found is None:
        return leads, np.inf
    at, lost = found
    leads[at] = True
    return _grown(system, leads, gap, at, lost, max(limit, 2.0 * float(lost.max())))


def _swept(
    system: System, near: np.ndarray, leads: np.ndarray, gap: np.ndarray, limit: float
) -> tuple[np.ndarray, float]:
    """As `_safe`, for large models: every gap counts as the largest, so that ℓ is this times the most steps, w with
    w ≥ 1 + P_a w; by sweeps. Where those exceed the limit, the pairs stand by which the fewest steps fall."""
    most = _steps(system, leads, 1.0, limit / float(gap[leads].max()))
    if most is not None:
        return leads, float(gap[leads].max()) * float(most.max()) / (1.0 - MISSED)
    fewest = _steps(system, near, -1.0, np.inf)
    if fewest is None:
        return leads, np.inf
    listed = near & (fewest[system.pair_state] - system.transition @ fewest >= 1.0 - 2.0 * MISSED)
    return listed, float(gap[listed].max()) * float(fewest.max()) / (1.0 - 2.0 * MISSED)


def _steps(system: System, use: np.ndarray, sign: float, limit: float) -> np.ndarray | None:
    """float [n]: about the most (sign 1) or the fewest (sign −1) steps to the end by the pairs in `use`: what falls by
    1 − MISSED with each of these pairs, or with one in each state. None where that is above `limit`."""
    from rlnet.mdp.solvers.compiled.sweeps import PackedSweeps

    count = np.full(int(use.sum()), sign)
    pairs = System(system.pair_state[use], count, np.abs(count), system.transition[use], system.ends[use], system.terms)
    sweeps = PackedSweeps(pairs, 1.0)
    sweeps.start()
    for _ in range(TURNS):
        in_place(sweeps, 0.1 * MISSED, False, Progress(), limit=10)
        before = np.where(sweeps.acts, sweeps.values(), 0.0)
        low, high = sweeps.backup()
        if (high if sign > 0 else -low) <= MISSED:
            return sign * before
        if not np.abs(before).max() <= limit:
            return None
    return None


def _without_loops(system: System, near: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(near bool [P], its pairs that lead out of loops): with those, every policy ends. Where a loop in `near` has no
    way out, which only wrong values make, `near` is widened."""
    _, begin = system.first_pairs()
    top = np.maximum.reduceat(q, begin).repeat(np.diff(np.append(begin, len(q))))
    ends = system.ends if system.lost is None else system.ends & ~system.lost
    short = float((top - q)[near].max(initial=0.0)) + EPS * float(np.abs(q).max())
    while True:
        component, inside = end_components(system.pair_state, system.transition, near & ~ends)
        if not inside.any():
            return near, near.copy()
        leaving = near & ~inside & (component[system.pair_state] >= 0)
        steps = steps_to_end(system.pair_state, system.transition, leaving, inside | leaving)
        if np.isfinite(steps[component >= 0]).all():
            nearer = row_min(system.transition, steps[system.transition.indices]) < steps[system.pair_state]
            return near, near & (~inside | nearer)
        short = 100.0 * short
        near = q >= top - short


def _fastest(
    system: System, near: np.ndarray, leads: np.ndarray, gap: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """(pairs int [m], ℓ [n]) of the policy that collects the least gaps, or one that meets the limit: among the pairs
    in `leads`, or else in `near`. By policy iteration, from the policy that takes all of `leads` as often. None where
    floats cannot tell that any of them ends."""
    _, begin = system.first_pairs()
    weight = leads / np.add.reduceat(leads.astype(float), begin).repeat(np.diff(np.append(begin, len(leads))))
    allowed, at, sure, policy = leads, None, None, weight
    for _ in range(ROUNDS):
        lost = _collected(system, gap, policy)
        if at is not None and lost is not None and _certain(system, at, gap, lost):
            sure = at, lost
            if float(lost.max()) <= limit:
                break
        # What hardly ends has no gaps that can be computed: a discount tells which policy comes next.
        lost = _collected(system, gap, policy, ALMOST) if lost is None else lost
        if lost is None:
            break
        after = gap + system.rows @ lost
        best = best_pairs(np.where(allowed, -after, -np.inf), begin)
        new = best if at is None else np.where(after[best] < after[at] - 0.1 * gap[at], best, at)
        if at is not None and (new == at).all():
            if allowed is near:
                break
            allowed = near
            continue
        at = policy = new
    return sure


def _grown(
    system: System, allowed: np.ndarray, gap: np.ndarray, at: np.ndarray, lost: np.ndarray, limit: float
) -> tuple[np.ndarray, float]:
    """(the pairs in `allowed` that are safe, bool [P]; the largest ℓ), from the policy `at` int [m], whose ℓ is `lost`.

    Policy iteration towards the policy that loses most. Where a new policy loses more than the limit, the changes that
    account for it go: by π' in the place of π, ℓ grows by Σ_s visits_π'(s) (g + P ℓ_π − ℓ_π)(s, π'(s)).
    """
    states, begin = system.first_pairs()
    allowed = allowed.copy()
    for _ in range(ROUNDS):
        rise = gap + system.rows @ lost - lost[system.pair_state]
        best = best_pairs(np.where(allowed, rise / gap, -np.inf), begin)
        up = rise[best] > MISSED * gap[best]
        if not up.any():
            break
        new = np.where(up, best, at)
        solver, found = DiscountedSystem(system.rows[new][:, states], ALMOST), np.zeros(system.n)
        found[states] = x = solver.solve(gap[new])
        if _certain(system, new, gap, found) and float(found.max()) <= limit:
            at, lost = new, found
            continue
        worst = np.zeros(len(states))
        worst[np.abs(x).argmax()] = 1.0
        guilt = np.where(up, np.abs(solver.solve(worst, transposed=True)) * rise[best], 0.0)
        allowed[best[up & (guilt >= GUILTY * guilt.max())]] = False
    rise = gap + system.rows @ lost - lost[system.pair_state]
    return allowed & (rise <= MISSED * gap), float(lost.max()) / (1.0 - MISSED)


def _collected(system: System, gap: np.ndarray, policy: np.ndarray, discount: float = 1.0) -> np.ndarray | None:
    """ℓ [n]: the gaps that a policy collects, pairs int [m] or weights float [P]; None where it ends too seldom for
    floats."""
    states, begin = system.first_pairs()
    if policy.dtype.kind == "i":
        p, r = system.rows[policy][:, states], gap[policy]
    else:
        p, r = mixed_rows(system, policy), np.add.reduceat(policy * gap, begin)
    try:
        x = DiscountedSystem(p, discount).solve(r)
    except SingularChainError:
        return None
    if not (np.isfinite(x).all() and x.min() >= 0.0):
        return None
    lost = np.zeros(system.n)
    lost[states] = x
    return lost


def _certain(system: System, at: np.ndarray, gap: np.ndarray, lost: np.ndarray) -> bool:
    """Whether ℓ − P ℓ is the gap, but for a tenth, with the pairs `at` int [m]: rounding may hide it."""
    if not (np.isfinite(lost).all() and lost.min() >= 0.0):
        return False
    states, _ = system.first_pairs()
    return bool((lost[states] - system.rows[at] @ lost >= 0.9 * gap[at]).all())
