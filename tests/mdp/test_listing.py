"""Which actions are listed: whatever is chosen among them, no more than `policy_loss` is lost."""

import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv, generate_random_map
from support import quick

from rlnet.bench.dp_problems import lake
from rlnet.mdp import FiniteMDP, evaluate, solve
from rlnet.mdp.operators.bellman import system_of
from rlnet.mdp.solvers.optimal_actions import listed_pairs

METHODS = (
    "auto",
    "policy_iteration",
    "modified_policy_iteration",
    "value_iteration",
    "gauss_seidel",
    "linear_programming",
)


def random_lake(size: int, seed: int) -> FiniteMDP:
    lake = FrozenLakeEnv(desc=generate_random_map(size=size, p=0.9, seed=seed), is_slippery=True)
    return FiniteMDP.from_outcomes(lake.P, start=lake.initial_state_distrib)


def some_choices(policy, rng):
    """Deterministic policies over the listed actions: the first, the last, and some at random."""
    yield policy.argmax(axis=1)
    yield policy.shape[1] - 1 - policy[:, ::-1].argmax(axis=1)
    for _ in range(4):
        yield (policy * rng.random(policy.shape)).argmax(axis=1)


@pytest.mark.parametrize(("size", "seed"), [(30, 3), (20, 0), (16, 2), (24, 5)])
def test_every_choice_on_a_lake_where_waiting_takes_very_long_attains_the_optimum(size, seed):
    mdp = random_lake(size, seed)
    solution = solve(mdp, 1.0)
    assert solution.converged
    assert solution.policy_loss < 1e-7
    if (size, seed) == (30, 3):
        assert float(mdp.start @ solution.v) == pytest.approx(1.0, abs=1e-9)
    rng = np.random.default_rng(0)
    for policy in (solution.policy, solution.greedy, *some_choices(solution.policy, rng)):
        worth = evaluate(mdp, np.where(mdp.terminal, 0, policy) if policy.ndim == 1 else policy, 1.0)
        assert (solution.v - worth.v).max() <= solution.policy_loss + worth.error_bound
    assert solution.greedy_loss <= solution.policy_loss


@pytest.mark.parametrize("method", METHODS)
def test_where_every_step_costs_no_choice_among_near_ties_loses_more_than_is_proved(method):
    rng, columns = np.random.default_rng(0), lake(9, step=-1.0, goal=0.0)
    columns["reward"] -= np.repeat(rng.choice([0.0, 1e-8, 1e-3], len(columns["reward"]) // 3), 3)  # of each pair
    mdp = FiniteMDP.from_coo(**columns | {"n_states": 81, "n_actions": 4})
    solution = solve(mdp, 1.0, tol=1e-6, method=method)
    assert solution.policy_loss <= 4e-6
    for policy in (solution.policy, solution.greedy, *some_choices(solution.policy, rng)):
        worth = evaluate(mdp, np.where(mdp.terminal, 0, policy) if policy.ndim == 1 else policy, 1.0)
        assert (solution.v - worth.v).max() <= solution.policy_loss + worth.error_bound


@pytest.mark.parametrize(("cost", "listed"), [(1e-8, True), (1e-3, False)])
@pytest.mark.parametrize("steps", [1, 200])  # that an episode takes
def test_near_ties_of_episodes_that_cost_are_listed_as_far_as_the_tolerance_reaches(steps, cost, listed):
    """Beside each step of −1 one that costs a little more: all of them together lose steps · cost."""
    outcomes = {s: {a: [(1.0, s + 1, -1.0 - a * cost, s + 1 == steps)] for a in range(2)} for s in range(steps)}
    mdp = FiniteMDP.from_outcomes(outcomes, n_states=steps + 1)
    v = -np.arange(steps, -1.0, -1.0)
    pairs, loss = listed_pairs(system_of(mdp), v, system_of(mdp).q(v, 1.0), 1e-6, 1e-4)
    assert (pairs.reshape(steps, 2) == [True, listed]).all()
    assert steps * cost * listed <= loss <= 1e-6 + 2.0 * steps * cost * listed + 1e-9


@pytest.mark.filterwarnings("ignore:tolerance")  # the slow state takes 10^7 steps
@pytest.mark.parametrize("method", quick(METHODS, 2))
def test_an_action_that_ends_slowly_is_not_hidden_by_a_slow_state_elsewhere(method):
    rest = 1e-7
    slow = {1: [(1.0 - rest, 0, 0.0, False), (rest, 0, 0.0, True)]}
    mdp = FiniteMDP.from_outcomes(
        {0: {0: [(1.0, 0, 1.0, True)], **slow}, 1: {1: [(1.0 - rest, 1, 0.0, False), (rest, 1, 1.0, True)]}}
    )
    solution = solve(mdp, 1.0, method=method)
    np.testing.assert_array_equal(solution.policy, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(solution.greedy, [0, 1])
    assert solution.policy_loss < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_a_loop_that_pays_back_what_it_costs_is_left(method):
    mdp = FiniteMDP.from_outcomes(
        {0: {0: [(1, 1, -1.0, False)]}, 1: {0: [(1, 0, 1.0, False)], 1: [(1, 1, 0.0, False)]}}
    )
    solution = solve(mdp, 1.0, method=method)
    np.testing.assert_array_equal(solution.v, [-1, 0])
    np.testing.assert_array_equal(solution.policy, [[1, 0], [0, 1]])


@pytest.mark.parametrize("method", ["auto", "policy_iteration", "modified_policy_iteration"])
@pytest.mark.filterwarnings("ignore:tolerance")  # loops whose rewards cancel are not always proved
@pytest.mark.parametrize("slip", [0.0, 0.25])
def test_shaping_a_model_without_rewards(slip, method):
    """r = h(s) − h(s'): a policy that ends in the last corner, or stays somewhere for nothing, is worth h(s) − h there.
    One can stay in every border cell, and where actions slip, in the corners."""
    side, rng = 5, np.random.default_rng(1)
    h, outcomes = rng.integers(-3, 4, side * side).astype(float), {}
    for s in range(side * side - 1):
        row, column = divmod(s, side)
        to = [max(row - 1, 0) * side + column, row * side + min(column + 1, side - 1)]
        to += [min(row + 1, side - 1) * side + column, row * side + max(column - 1, 0)]
        outcomes[s] = {}
        for a in range(4):
            chances = {to[a]: 1.0 - slip}
            chances[to[a - 1]] = chances.get(to[a - 1], 0.0) + slip
            outcomes[s][a] = [(p, t, h[s] - h[t], t == side * side - 1) for t, p in chances.items() if p > 0]
    mdp = FiniteMDP.from_outcomes(outcomes, n_states=side * side)
    solution, acts = solve(mdp, 1.0, method=method), ~mdp.terminal
    at = np.arange(side * side)
    across, down = np.isin(at % side, (0, side - 1)), np.isin(at // side, (0, side - 1))
    truth = np.where(acts, h - h[(across & down) if slip > 0.0 else (across | down)].min(), 0.0)
    np.testing.assert_allclose(solution.policy.sum(axis=1), acts)
    worth = [evaluate(mdp, policy, 1.0).v for policy in (solution.policy, *some_choices(solution.policy, rng))]
    assert (solution.v - np.array(worth)).max() < 1e-8
    np.testing.assert_allclose(solution.v, truth, atol=1e-8)


def test_greedy_and_its_loss_of_the_variants():
    mdp = random_lake(8, 1)
    best = solve(mdp, 0.9)
    acts, rows = ~mdp.terminal, np.arange(mdp.n_states)
    worth = evaluate(mdp, np.where(acts, best.greedy, 0), 0.9)
    assert (best.greedy[mdp.terminal] == -1).all()
    assert (best.v - worth.v).max() <= best.greedy_loss <= best.policy_loss < 1e-9
    uniform = evaluate(mdp, mdp.available / np.maximum(mdp.available.sum(1, keepdims=True), 1), 0.9)
    np.testing.assert_array_equal(uniform.q[rows, uniform.greedy][acts], uniform.q.max(axis=1)[acts])
    better = evaluate(mdp, np.where(acts, uniform.greedy, 0), 0.9)
    assert 0.0 < (best.v - better.v).max() <= uniform.greedy_loss < np.inf
    assert uniform.policy_loss == np.inf
    soft = solve(mdp, 0.9, temperature=0.01)
    hard = evaluate(mdp, np.where(acts, soft.greedy, 0), 0.9)  # gets nothing for its entropy
    assert 0.0 < (soft.v - hard.v).max() <= soft.greedy_loss < np.inf
    early = solve(mdp, 1.0, horizon=12)
    assert early.greedy.shape == (12, mdp.n_states)
    followed = evaluate(mdp, np.where(acts, early.greedy, 0), 1.0, horizon=12)
    assert (early.v - followed.v).max() <= early.greedy_loss < 1e-12


@pytest.mark.slow
def test_large_models_are_listed_by_sweeps():
    """4,000 states of which a tenth has two exactly tied actions, and one has an action that never ends."""
    n, rng = 4000, np.random.default_rng(0)
    to = rng.integers(n, size=n)
    state, action = np.repeat(np.arange(n), 2), np.tile([0, 1], n)
    reward = np.where(action == 1, np.where(state % 10 == 0, -1.0, -2.0), -1.0)
    stays = (state == 7) & (action == 1)
    reward[stays] = 0.0
    mdp = FiniteMDP.from_coo(
        np.repeat(state, 2),
        np.repeat(action, 2),
        np.where(np.repeat(stays, 2), 7, np.repeat(to, 4)),
        np.tile([0.875, 0.125], 2 * n),
        np.repeat(reward, 2),
        np.tile([False, True], 2 * n) & ~np.repeat(stays, 2),
        n_states=n,
    )
    solution = solve(mdp, 1.0, tol=1e-6)
    other = solve(mdp, 0.875, tol=1e-6)
    assert solution.policy_loss < 1e-4
    tied = np.arange(n) % 10 == 0
    np.testing.assert_array_equal(solution.policy[tied], 0.5)
    np.testing.assert_array_equal(solution.policy[~tied & (np.arange(n) != 7)], [[1.0, 0.0]] * int((~tied).sum() - 1))
    np.testing.assert_array_equal(solution.policy[7], [0.0, 1.0])  # for nothing, where all else costs
    assert other.policy_loss < 1e-4
