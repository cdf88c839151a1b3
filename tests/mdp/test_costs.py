"""Models at γ = 1 whose every step costs something: the bound from one backup, and the methods that it serves."""

import numpy as np
import pytest
from mdp.test_methods import lake
from mdp_problems import dense, random_mdp

from rlnet.mdp import FiniteMDP, ImproperPolicyError, solve
from rlnet.mdp.operators.bellman import max_norm, system_of


def costly(rng, tol=1e-8):
    """A random model in which every pair costs .1 to 2, and its solution; None where no policy ends from some state."""
    mdp = random_mdp(rng, ends=0.2)
    cost = -rng.choice([0.1, 1.0, 2.0], size=mdp.n_pairs)
    reward = np.repeat(cost, np.diff(mdp.outcome_ptr))
    names = ("pair_ptr", "pair_action", "outcome_ptr", "next_state", "probability")
    model = FiniteMDP(*(getattr(mdp, name) for name in names), reward, mdp.terminated, mdp.start, mdp.n_actions)
    try:
        return model, solve(model, 1.0, tol=tol, method="policy_iteration")
    except ImproperPolicyError:
        return None


@pytest.mark.slow
def test_auto_agrees_with_policy_iteration_on_random_models():
    rng, methods = np.random.default_rng(0), set()
    for _ in range(600):
        found = costly(rng)
        if found is None:
            continue
        mdp, other = found
        auto = solve(mdp, 1.0, verify=True)
        methods.add(auto.method)
        assert np.abs(auto.v - other.v).max() <= auto.error_bound + other.error_bound <= 2e-8
        transition, reward = dense(mdp)
        q = np.where(mdp.available, reward + transition @ other.v, -np.inf)
        best = mdp.available & (q >= q.max(axis=1, keepdims=True) - 1e-6)
        np.testing.assert_array_equal(auto.policy > 0, best)
    assert "policy_iteration (dense LU)" in methods


@pytest.mark.parametrize("side", [8, 12, 20, 40])
@pytest.mark.parametrize("gamma", [0.99, 1.0])
def test_costly_lakes_are_solved_by_bands(side, gamma):
    mdp = lake(side, step=-1.0, goal=0.0)
    auto = solve(mdp, gamma, tol=1e-7, verify=True)
    other = solve(mdp, gamma, tol=1e-7, method="policy_iteration")
    assert auto.method == "policy_iteration (banded LU)"
    assert np.abs(auto.v - other.v).max() <= auto.error_bound + other.error_bound <= 2e-7


@pytest.mark.slow
def test_the_bound_holds_for_any_values():
    """From one backup of values of any sign, near v* or not; at γ < 1 the better of two."""
    rng, proved, better = np.random.default_rng(1), 0, 0
    for _ in range(600):
        found = costly(rng, tol=1e-4)  # some hardly end
        if found is None or found[0].n_pairs == 0:
            continue
        mdp, exact = found
        system = system_of(mdp)
        assert system.cost == pytest.approx(-mdp.expected_reward.max())
        v = np.where(mdp.terminal, 0.0, exact.v + 10.0 ** rng.integers(-6, 1) * rng.normal(size=mdp.n_states))
        states, begin = system.first_pairs()
        change = max_norm(np.maximum.reduceat(system.q(v, 1.0), begin) - v[states])
        bound = system.bound(v, change + system.rounding(v), 1.0)
        proved += np.isfinite(bound)
        assert np.abs(v - exact.v).max() <= bound + exact.error_bound
        exact = solve(mdp, 0.99, method="policy_iteration")
        v = np.where(mdp.terminal, 0.0, exact.v + 10.0 ** rng.integers(-6, 1) * rng.normal(size=mdp.n_states))
        change = max_norm(np.maximum.reduceat(system.q(v, 0.99), begin) - v[states]) + system.rounding(v)
        bound = system.bound(v, change, 0.99)
        better += bound < 50.0 * change
        assert np.abs(v - exact.v).max() <= bound + exact.error_bound
    assert proved > 100
    assert better > 100


def test_a_state_that_never_ends_is_named():
    stays, slips = [(1.0, 1, -1.0, False)], [(0.5, 0, -1.0, False), (0.5, 1, -1.0, False)]
    loop = FiniteMDP.from_outcomes({0: {0: slips}, 1: {0: stays}})
    with pytest.raises(ImproperPolicyError, match="states"):
        solve(loop, 1.0)
