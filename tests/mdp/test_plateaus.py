"""Values at γ = 1 where policies may go on for very long without reward: the value above that merges states."""

import numpy as np
import pytest
from mdp.test_methods import lake
from mdp_problems import random_mdp
from support import quick

from rlnet.mdp import FiniteMDP, solve
from rlnet.mdp.certificates.undiscounted import above_levels
from rlnet.mdp.errors import ImproperPolicyError, UnboundedValueError
from rlnet.mdp.model.graph import steps_to_end
from rlnet.mdp.operators.bellman import system_of
from rlnet.mdp.solvers.policy_iteration import UnboundedLoopError, greedy_and_proper, made_proper


def from_below(mdp, sweeps):
    """Jacobi backups from 0, which rise to v* where no reward is negative."""
    p, v, shape = mdp.transition, np.zeros(mdp.n_states), (-1, mdp.n_actions)
    acts = ~mdp.terminal
    for _ in range(sweeps):
        v[acts] = (mdp.expected_reward + p @ v).reshape(shape).max(axis=1)
    return v


@pytest.mark.parametrize("side", quick([20, 30], 1))
def test_lakes_that_pay_at_the_goal_alone_have_a_proved_bound(side):
    """Waiting among holes for a safe slip can take more than 1e14 steps: a rounding error a step would be worth 1."""
    mdp = lake(side)
    found = solve(mdp, 1.0, tol=1e-7, verify=True)
    assert found.converged
    assert np.abs(found.v - from_below(mdp, 20_000)).max() <= found.error_bound + 1e-9


@pytest.mark.slow
def test_swept_lakes_that_pay_at_the_goal_alone_are_settled_by_policy_iteration():
    found = solve(lake(56), 1.0, tol=1e-6)
    assert found.method == "modified_policy_iteration, then policy_iteration (LU)"
    assert found.error_bound <= 1e-6
    assert found.sweeps < 20_000
    exact = solve(lake(56), 1.0, tol=1e-6, method="policy_iteration")
    assert np.abs(found.v - exact.v).max() <= found.error_bound + exact.error_bound


@pytest.mark.parametrize("method", ["modified_policy_iteration", "value_iteration"])
def test_sweeps_of_a_small_model_that_is_left_after_very_long_give_way_soon(method):
    stays = [(1.0 - 1e-5, 0, -1.0, False), (1e-5, 0, -1.0, True)]
    found = solve(FiniteMDP.from_outcomes({0: {0: stays}}), 1.0, tol=1e-3, method=method)
    assert found.method == f"{method}, then policy_iteration (LU)"
    assert found.v == pytest.approx([-1e5])
    assert found.sweeps < 10_000  # of hundreds of thousands


def test_greedy_pairs_are_made_to_end():
    rng, changed = np.random.default_rng(3), 0
    for _ in range(400):
        mdp = random_mdp(rng, ends=0.3)
        try:
            proper = made_proper(system_of(mdp))
        except (ImproperPolicyError, UnboundedValueError):
            continue
        system = proper.system
        if len(system.pair_state) == 0:
            continue
        try:
            pairs = greedy_and_proper(system, rng.normal(size=system.n) * 10.0, proper.pairs)
        except UnboundedLoopError:
            continue
        changed += (pairs != proper.pairs).any()
        use = np.zeros(len(system.pair_state), dtype=bool)
        use[pairs] = True
        steps = steps_to_end(system.pair_state, system.transition, system.ends, use)
        assert np.isfinite(steps[system.first_pairs()[0]]).all()
    assert changed > 100


@pytest.mark.filterwarnings("ignore::rlnet.mdp.ToleranceWarning")  # what is not proved is passed over
@pytest.mark.parametrize("width", quick([1e-9, 0.3, 2.0, 1e9], [0.3]))
def test_states_taken_as_one_still_give_a_value_above(width):
    """Whatever v is, and whichever states are taken as one for it: u ≥ v*, u what is returned plus the largest v."""
    rng, proved = np.random.default_rng(int(width)), 0
    for _ in range(400):
        mdp = random_mdp(rng, ends=0.3)
        try:
            system = made_proper(system_of(mdp)).system
            truth = solve(mdp, 1.0, tol=1e-6, method="policy_iteration")
        except (ImproperPolicyError, UnboundedValueError):
            continue
        if system.n != mdp.n_states or not truth.converged or len(system.pair_state) == 0:
            continue
        v = truth.v - rng.choice([0.0, 0.1, 1.0]) * rng.random(mdp.n_states)
        above = above_levels(system, v, width)
        proved += np.isfinite(above)
        acts = ~mdp.terminal
        assert above >= (truth.v - v)[acts].max() - 2.0 * truth.error_bound
    assert proved > 50
