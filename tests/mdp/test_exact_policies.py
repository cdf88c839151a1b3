"""Values, bounds, listed policies and `greedy` of small random models against exact fractions.

The reference shares no code with the solver: it tries every deterministic policy and solves its equations in fractions.
Chances, rewards and discounts are dyadic, so that the floats of a model are the exact numbers.
"""

import itertools
import warnings
from fractions import Fraction

import numpy as np
import pytest
from support import share

from rlnet.mdp import FiniteMDP, ImproperPolicyError, ToleranceWarning, UnboundedValueError, solve

GAMMAS = (1.0, 0.5, 1.0, 63 / 64, 1.0)
METHODS = ("auto", "policy_iteration", "auto", "modified_policy_iteration", "auto", "value_iteration")
TINY = (2.0**-14, 2.0**-23)  # chances at which a slow state is left
NEAR = (0.0, 2.0**-24, 2.0**-30, 2.0**-36)  # by which rewards nearly tie
NEVER = Fraction(-(10**30))  # the value of what has none


def pair(rng, n, kind):
    """[(chance, next state or −1 for the end)] of one state and action."""
    count = 1 if kind == "moves" else int(rng.integers(1, 4))
    to = [int(rng.integers(n)) if rng.random() > 0.25 else -1 for _ in range(count)]
    if kind == "slow" and count > 1 and rng.random() < 0.7:
        rest = float(rng.choice(TINY))
        return [(1.0 - rest, to[0]), (rest, to[1])]
    cuts = sorted(int(x) for x in rng.choice(np.arange(1, 16), size=count - 1, replace=False))
    edges = [0, *cuts, 16]
    return [((b - a) / 16.0, t) for a, b, t in zip(edges[:-1], edges[1:], to, strict=True)]


def random_outcomes(rng):
    """{state: {action: [(chance, next state, reward, ends)]}}: loops without reward, ties and near ties, slow states,
    shaping, actions that are not available."""
    n, kind = int(rng.integers(1, 6)), rng.choice(["moves", "slow", "mixed"])
    paid = rng.choice(["seldom", "whole", "shaping", "both"])
    h = np.append(rng.integers(-2, 3, size=n), 0)
    table = {}
    for s in range(n):
        table[s] = {}
        for a in sorted(rng.choice(3, size=int(rng.integers(1, 4)), replace=False).tolist()):
            table[s][a] = []
            for chance, t in pair(rng, n, kind):
                pays = paid == "whole" or rng.random() < 0.3
                reward = float(rng.integers(-2, 3)) * pays * (paid != "shaping")
                reward += float(rng.choice(NEAR)) * (rng.random() < 0.2)
                reward += float(h[s] - h[t]) * (paid in ("shaping", "both"))
                table[s][a].append((chance, max(t, 0), reward, t < 0))
    return table, n


def solved(matrix, b):
    """x with matrix x = b, by elimination in fractions."""
    rows = [[*row, y] for row, y in zip(matrix, b, strict=True)]
    n = len(rows)
    for i in range(n):
        at = next(k for k in range(i, n) if rows[k][i] != 0)
        rows[i], rows[at] = rows[at], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(n):
            if k != i and rows[k][i] != 0:
                rows[k] = [x - rows[k][i] * y for x, y in zip(rows[k], rows[i], strict=True)]
    return [row[-1] for row in rows]


def chain(table, n, policy):
    """(P, r, ends) of a policy {state: {action: probability}}, in fractions."""
    p, r, ends = [[Fraction(0)] * n for _ in range(n)], [Fraction(0)] * n, [False] * n
    for s in range(n):
        for a, weight in policy[s].items():
            for chance, t, reward, ended in table[s][a]:
                r[s] += weight * Fraction(chance) * Fraction(reward)
                ends[s] |= ended
                if not ended:
                    p[s][t] += weight * Fraction(chance)
    return p, r, ends


def value(table, n, policy, gamma):
    """V^π exactly: [n]. At γ = 1 NEVER where a loop that pays or costs goes on for ever; the class UnboundedValueError
    where one pays on average."""
    p, r, ends = chain(table, n, policy)
    if gamma < 1.0:
        g = Fraction(gamma)
        return solved([[(s == t) - g * p[s][t] for t in range(n)] for s in range(n)], r)
    reach = [{s} for s in range(n)]
    for _ in range(n):
        reach = [set().union(*(reach[t] for t in range(n) if p[s][t] > 0), {s}) for s in range(n)]
    stuck = [not any(ends[t] for t in reach[s]) for s in range(n)]
    v = [None] * n
    for s in range(n):
        if stuck[s] and all(s in reach[t] for t in reach[s]):
            members = sorted(reach[s])
            if any(r[t] != 0 for t in members):
                # The stationary distribution: x (P − I) = 0 with one equation replaced by Σ x = 1.
                matrix = [[p[t][u] - (t == u) for t in members] for u in members[:-1]] + [[Fraction(1)] * len(members)]
                share = solved(matrix, [Fraction(0)] * (len(members) - 1) + [Fraction(1)])
                if sum(x * r[t] for x, t in zip(share, members, strict=True)) > 0:
                    return UnboundedValueError
                v[s] = NEVER
            else:
                v[s] = Fraction(0)
    for s in range(n):
        if any(v[t] == NEVER for t in reach[s]):
            v[s] = NEVER
    free = [s for s in range(n) if v[s] is None]
    if free:
        b = [r[s] + sum(p[s][t] * v[t] for t in range(n) if v[t] is not None) for s in free]
        for s, x in zip(free, solved([[(s == t) - p[s][t] for t in free] for s in free], b), strict=True):
            v[s] = x
    return v


def policies(listed):
    """Every deterministic policy over the listed actions, [n] of lists of int."""
    for chosen in itertools.product(*listed):
        yield {s: {a: Fraction(1)} for s, a in enumerate(chosen)}


def optimum(table, n, gamma):
    """v* [n] or the class of the error."""
    best = [NEVER] * n
    for policy in policies([list(table[s]) for s in range(n)]):
        v = value(table, n, policy, gamma)
        if v is UnboundedValueError:
            return v
        best = [max(x, y) for x, y in zip(best, v, strict=True)]
    return ImproperPolicyError if min(best) == NEVER else best


def check(table, n, gamma, method):
    """What was found: an error's class, "hidden" where it was not seen, "value", or "unproved"."""
    mdp, truth = FiniteMDP.from_outcomes(table, n_states=n, n_actions=3), optimum(table, n, gamma)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ToleranceWarning)
        try:
            solution = solve(mdp, gamma, method=method)
        except (ImproperPolicyError, UnboundedValueError) as error:
            solution = type(error)
    if isinstance(solution, type):
        assert solution is truth
        return truth
    if isinstance(truth, type):  # a gain hardly above rounding, round a loop of 10^7 steps: nothing may be claimed
        assert solution.error_bound == solution.policy_loss == solution.greedy_loss == np.inf
        return "hidden"
    proved = np.isfinite(solution.error_bound)
    scale = 1.0 + float(max(abs(x) for x in truth))
    bound = solution.error_bound if proved else 1e-6 * scale
    loss = solution.policy_loss if np.isfinite(solution.policy_loss) else 1e-6 * scale
    error = max(abs(Fraction(x) - y) for x, y in zip(solution.v.tolist(), truth, strict=True))
    assert error <= bound

    acts = ~mdp.terminal
    np.testing.assert_allclose(solution.policy.sum(axis=1), acts, atol=1e-12)
    listed = [np.flatnonzero(solution.policy[s]).tolist() for s in range(n)]
    short = {s: set(table[s]) for s in range(n)}
    assert all(set(listed[s]) <= short[s] for s in range(n) if acts[s])
    open_ = {s: listed[s] or [next(iter(table[s]))] for s in range(n)}  # what toy-text means by a terminal state
    for policy in policies([open_[s] for s in range(n)]):
        assert max(x - y for x, y in zip(truth, value(table, n, policy, gamma), strict=True)) <= loss
    even = {s: {a: Fraction(1, len(open_[s])) for a in open_[s]} for s in range(n)}
    assert max(x - y for x, y in zip(truth, value(table, n, even, gamma), strict=True)) <= loss

    assert ((solution.greedy >= 0) == acts).all()
    assert all(solution.policy[s, solution.greedy[s]] > 0 for s in np.flatnonzero(acts))
    assert solution.greedy_loss <= solution.policy_loss
    greedy = {s: {int(a) if a >= 0 else open_[s][0]: Fraction(1)} for s, a in enumerate(solution.greedy)}
    lost = max(x - y for x, y in zip(truth, value(table, n, greedy, gamma), strict=True))
    assert lost <= min(solution.greedy_loss, loss)

    for s in np.flatnonzero(acts):  # what is optimal beyond doubt is listed
        q = {a: sum(exact(outcome, gamma, truth) for outcome in table[s][a]) for a in table[s]}
        assert gamma == 1.0 or all(a in listed[s] for a in q if q[a] == truth[s])
    return "value" if proved else "unproved"


def exact(outcome, gamma, v):
    chance, t, reward, ended = outcome
    return Fraction(chance) * (Fraction(reward) + (0 if ended else Fraction(gamma) * v[t]))


def check_many(seed, count):
    rng, kinds = np.random.default_rng([20, seed]), []
    while len(kinds) < count:
        table, n = random_outcomes(rng)
        k = len(kinds)
        if np.prod([len(table[s]) for s in range(n)]) <= 48:
            kinds.append((GAMMAS[k % 5] < 1.0, check(table, n, GAMMAS[k % 5], METHODS[k // 5 % 6])))
    return kinds


@pytest.mark.slow
def test_values_and_policies_against_exact_fractions():
    kinds = check_many(0, 200)
    assert set(kinds) >= {(True, "value"), (False, "value"), (False, ImproperPolicyError), (False, UnboundedValueError)}
    assert kinds.count((False, "unproved")) + kinds.count((False, "hidden")) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_values_and_policies_of_many_models_against_exact_fractions(seed):
    assert len(check_many(seed, share(300))) == share(300)
