"""Degenerate shapes by every method and every question: an answer within its bound, or one of the documented errors."""

import numpy as np
import pytest
from support import quick, quick_rows

from rlnet.mdp import FiniteMDP, ImproperPolicyError, UnboundedValueError, evaluate, occupancy, solve
from rlnet.mdp.solving import METHODS

SIZES = (1, 2, 70, 200)  # dense, dense with products, band matrices


def bandit(n, n_actions):
    """Every action ends at once: the reward of action a in state s is s − a."""
    rows = {s: {a: [(1.0, s, float(s - a), True)] for a in range(n_actions)} for s in range(n)}
    return FiniteMDP.from_outcomes(rows, start=np.full(n, 1.0 / n))


def ring(n, forwards, back):
    """Nothing ever ends."""
    return FiniteMDP.from_outcomes(
        {s: {0: [(1.0, (s + 1) % n, forwards, False)], 1: [(1.0, (s - 1) % n, back, False)]} for s in range(n)}
    )


def nothing(n):
    """All states are terminal."""
    return FiniteMDP.from_outcomes({s: {} for s in range(n)}, n_states=n, n_actions=1)


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("n_actions", [1, 3])
@pytest.mark.parametrize("n", SIZES)
def test_contextual_bandits(n, n_actions, gamma):
    mdp, truth = bandit(n, n_actions), np.arange(n, dtype=float)
    policy = np.full((n, n_actions), 1.0 / n_actions)
    for method in METHODS:
        found = solve(mdp, gamma, method=method, verify=True)
        assert np.abs(found.v - truth).max() <= found.error_bound <= 1e-8, method
        np.testing.assert_array_equal(found.policy[:, 0], 1.0)
    own = evaluate(mdp, policy, gamma, verify=True)
    assert np.abs(own.v - (truth - (n_actions - 1) / 2)).max() <= own.error_bound <= 1e-8
    np.testing.assert_allclose(occupancy(mdp, policy, gamma), 1.0 / n)
    for temperature in (0.0, 0.5):
        soft = truth
        if temperature:
            soft = truth + temperature * np.log(np.exp(-np.arange(n_actions) / temperature).sum())
            np.testing.assert_allclose(solve(mdp, gamma, temperature=temperature).v, soft, atol=1e-12)
        np.testing.assert_allclose(solve(mdp, gamma, horizon=2, temperature=temperature).v[0], soft, atol=1e-12)
        assert solve(mdp, gamma, horizon=0, temperature=temperature).v.shape == (1, n)
        evaluate(mdp, policy, gamma, horizon=2, temperature=temperature)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("method", METHODS)
def test_rings_without_an_end(n, method):
    with pytest.raises(UnboundedValueError, match="states 0"):
        solve(ring(n, 1.0, -1.0), 1.0, method=method)
    with pytest.raises(ImproperPolicyError, match="states 0"):
        solve(ring(n, -1.0, -2.0), 1.0, method=method)
    np.testing.assert_allclose(solve(ring(n, 0.0, -1.0), 1.0, method=method).v, 0.0, atol=1e-8)
    found = solve(ring(n, 1.0, -1.0), 0.9, method=method)
    assert np.abs(found.v - 10.0).max() <= found.error_bound <= 1e-8


@pytest.mark.parametrize("n", SIZES)
def test_rings_are_judged_by_the_other_questions(n):
    mdp, policy = ring(n, 1.0, -1.0), np.zeros(n, dtype=int)
    np.testing.assert_allclose(occupancy(mdp, policy, 0.9), 1.0 / n)
    np.testing.assert_allclose(evaluate(mdp, policy, 0.9).v, 10.0)
    np.testing.assert_allclose(solve(mdp, 1.0, horizon=5).v[0], 5.0)
    for refused in (lambda: evaluate(mdp, policy, 1.0), lambda: occupancy(mdp, policy, 1.0)):
        with pytest.raises(ImproperPolicyError, match="states 0"):
            refused()
    with pytest.raises(ImproperPolicyError, match="states 0"):
        solve(mdp, 1.0, temperature=0.1)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_models_of_terminal_states_alone(n, gamma):
    mdp, policy = nothing(n), np.zeros((n, 1))
    answers = [solve(mdp, gamma, method=method) for method in METHODS]
    answers += [evaluate(mdp, policy, gamma), solve(mdp, gamma, temperature=0.3), solve(mdp, gamma, horizon=3)]
    for found in answers:
        assert not found.v.any()
        assert found.error_bound == 0.0
    with pytest.raises(ValueError, match="starts in a terminal state"):
        occupancy(mdp, policy, gamma)


@pytest.mark.parametrize("chance", [1e-17, 1e-30, 1e-300])
@pytest.mark.parametrize("method", METHODS)
def test_an_end_that_is_lost_in_rounding_is_named(method, chance):
    slow = {0: [(1.0, 0, -1.0, False), (chance, 0, 0.0, True)]}
    for n in (0, 3, 200):  # states that are well-posed, besides
        mdp = FiniteMDP.from_outcomes({0: slow} | {s: {0: [(1.0, s, 1.0, True)]} for s in range(1, n + 1)})
        with pytest.raises(ImproperPolicyError, match=r"states 0 policies end .* lost in rounding"):
            solve(mdp, 1.0, method=method)
        with pytest.raises(ImproperPolicyError):
            evaluate(mdp, np.zeros(n + 1, dtype=int), 1.0)
        with pytest.raises(ImproperPolicyError):
            occupancy(mdp, np.zeros(n + 1, dtype=int), 1.0)
        with pytest.raises(ImproperPolicyError):
            solve(mdp, 1.0, temperature=0.1)
    spared = FiniteMDP.from_outcomes({0: slow | {1: [(1.0, 0, -5.0, True)]}})
    found = solve(spared, 1.0, method=method)
    assert abs(found.v[0] + 5.0) <= found.error_bound <= 1e-8
    np.testing.assert_array_equal(found.policy, [[0.0, 1.0]])


def seldom(n, chance):
    """One action: n steps forwards, each with this chance, else back to the start, lead to the end."""
    return FiniteMDP.from_outcomes(
        {s: {0: [(1.0 - chance, 0, -1.0, False), (chance, s + 1, -1.0, s == n - 1)]} for s in range(n)}, n_states=n + 1
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "chance"), quick_rows([(2, 1e-9), (5, 1e-4), (40, 0.25)], 1))
def test_ends_that_only_many_rare_steps_lead_to_are_refused(method, n, chance):
    """Some 1e18 steps and more: no sum of floats shows that they end."""
    with pytest.raises(ImproperPolicyError, match=r"states 0.* lost in rounding"):
        solve(seldom(n, chance), 1.0, method=method)
    with pytest.raises(ImproperPolicyError, match="lost in rounding"):
        evaluate(seldom(n, chance), np.zeros(n + 1, dtype=int), 1.0)


@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_what_a_policy_never_does_costs_it_no_digits(gamma):
    mdp = FiniteMDP.from_outcomes(
        {0: {0: [(1.0, 1, -1.0, False)], 1: [(1.0, 0, -1e15, True)]}, 1: {0: [(1.0, 1, -2.0, True)]}}
    )
    found = evaluate(mdp, np.array([0, 0]), gamma, verify=True)
    assert np.abs(found.v - [-1.0 - 2.0 * gamma, -2.0]).max() <= found.error_bound < 1e-12


@pytest.mark.parametrize("method", quick(METHODS, 2))
@pytest.mark.parametrize("far", quick([1.0, 1e9, -1e9, 1e15], [1e9]))
def test_a_loop_pays_by_its_own_scale(method, far):
    """+1e-6 for staying, beside exits worth 10^9 or more, for its own state or for another."""
    for loop in (1, 3):  # its states
        rows = {s: {0: [(1.0, (s + 1) % loop, 1e-6, False)], 1: [(1.0, s, 0.0, True)]} for s in range(loop)}
        rows[loop] = {0: [(1.0, loop, far, True)], 1: [(1.0, 0, 0.0, False)]}
        with pytest.raises(UnboundedValueError, match="states 0"):
            solve(FiniteMDP.from_outcomes(rows), 1.0, method=method)
        rows[0][1] = [(1.0, 0, far, True)]
        with pytest.raises(UnboundedValueError, match="states 0"):
            solve(FiniteMDP.from_outcomes(rows), 1.0, method=method)
        for s in range(loop):
            rows[s][0] = [(1.0, (s + 1) % loop, -1e-6, False)]
        found = solve(FiniteMDP.from_outcomes(rows), 1.0, method=method, tol=100.0)
        assert np.isfinite(found.error_bound)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize(("gamma", "tol"), [(0.99, 1e-9), (0.9999, 1e-4), (0.9999, 1e-6), (0.99999, 1e-3)])
def test_value_iteration_settles_where_the_chain_has_a_period(n, gamma, tol):
    rows = {s: {0: [(1.0, (s + 1) % n, float(s == 0), False)]} for s in range(n)}
    truth = gamma ** (-np.arange(n) % n) / (1.0 - gamma**n)
    for extra in (False, True):  # a second action, never worth it
        if extra:
            rows = {s: rows[s] | {1: [(1.0, s, -1.0, False)]} for s in range(n)}
        found = solve(FiniteMDP.from_outcomes(rows), gamma, method="value_iteration", tol=tol)
        assert np.abs(found.v - truth).max() <= found.error_bound <= tol
        assert found.sweeps < 3_000


def random_garnet(n, seed, ends):
    """Garnet: 4 actions, 3 successors each, normal rewards; outcomes, or all pairs, end with 1 %."""
    rng, size = np.random.default_rng(seed), 12 * n
    state, action, to = np.repeat(np.arange(n), 12), np.tile(np.repeat(np.arange(4), 3), n), rng.integers(n, size=size)
    p, reward = rng.dirichlet(np.ones(3), size=4 * n).ravel(), rng.normal(size=size)
    if ends == "outcomes":
        return FiniteMDP.from_coo(state, action, to, p, reward, rng.random(size) < 0.01, n_states=n)
    every = np.arange(4 * n)
    last = np.zeros(4 * n)
    columns = (state, every // 4), (action, every % 4), (to, every // 4), (0.99 * p, last + 0.01), (reward, last)
    ended = np.repeat([False, True], [size, 4 * n])
    return FiniteMDP.from_coo(*(np.concatenate(x) for x in columns), ended, n_states=n)


@pytest.mark.slow
def test_large_random_models_are_refused_or_solved_at_once():
    with pytest.raises(UnboundedValueError):  # loops of pairs that never end pay
        solve(random_garnet(20_000, 0, "outcomes"), 1.0)
    found = solve(random_garnet(5_000, 0, "pairs"), 1.0)
    other = solve(random_garnet(5_000, 0, "pairs"), 1.0, method="value_iteration")
    assert np.abs(found.v - other.v).max() <= found.error_bound + other.error_bound
    assert found.error_bound <= 1e-8
    assert found.sweeps < 5_000
