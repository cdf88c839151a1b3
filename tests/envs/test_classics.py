"""The classics of the books against published values, closed forms and other computations."""

from fractions import Fraction
from math import exp, factorial

import numpy as np
import pytest
from scipy.stats import beta, chisquare, kstest
from support import finish, make_run

from rlnet.config import ConfigError
from rlnet.envs import make, preset
from rlnet.mdp import evaluate, solve


def model(name, **settings):
    return make(preset(name, **settings)).mdp


# Jack's car rental.


def day(capacity, requests, returns, most=60):
    """(P[morning, evening], mean rented [morning]) by adding up every pair of numbers below `most`."""
    chance, rented = np.zeros((capacity + 1, capacity + 1)), np.zeros(capacity + 1)
    poisson = [[exp(-x) * x**k / factorial(k) for k in range(most)] for x in (requests, returns)]
    for cars in range(capacity + 1):
        for asked, p in enumerate(poisson[0]):
            rented[cars] += p * min(asked, cars)
            for back, q in enumerate(poisson[1]):
                chance[cars, min(cars - min(asked, cars) + back, capacity)] += p * q
    return chance, rented


def iterated(sweeps, capacity=20, most=5, free=0, parking=None, gamma=0.9):
    """V of the car rental by value iteration over the cars of a morning."""
    (near, rented), (far, more) = day(capacity, 3, 3), day(capacity, 4, 2)
    v = np.zeros((capacity + 1, capacity + 1))
    for _ in range(sweeps):
        morning = 10 * (rented[:, None] + more) + gamma * near @ v @ far.T
        if parking is not None:
            morning -= 4 * ((np.arange(capacity + 1) > parking)[:, None] + 1 * (np.arange(capacity + 1) > parking))
        best = np.full_like(v, -np.inf)
        for a in range(-most, most + 1):
            for first in range(max(a, 0), capacity + 1):
                for second in range(max(-a, 0), capacity + 1):
                    there = morning[min(first - a, capacity), min(second + a, capacity)]
                    cost = 2 * (abs(a) - min(max(a, 0), free))
                    best[first, second] = max(best[first, second], there - cost)
        v = best
    return v


@pytest.fixture(scope="module")
def cars():
    mdp = model("jacks_car_rental")
    return mdp, solve(mdp, 0.9)


def test_cars_figure_4_2(cars):
    mdp, best = cars
    # The book's final policy moves between −4 and 5 cars, 5 only to the second location.
    moved = best.greedy.reshape(21, 21) - 5
    assert (moved.min(), moved.max()) == (-4, 5)
    assert moved[20].tolist() == [5, 5, 5, 5, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 0, 0, 0]
    assert moved[0].tolist() == [0] * 8 + [-1, -1, -2, -2, -2, -3, -3, -3, -3, -3, -4, -4, -4]
    # Values from 421 to 636 are what others report, who cut off the tails.
    assert best.v.min() == pytest.approx(421, abs=1)
    assert best.v.max() == pytest.approx(636, abs=1.5)
    assert best.v.argmin() == 0
    assert best.v.argmax() == 440
    np.testing.assert_allclose(np.add.reduceat(mdp.probability, mdp.outcome_ptr[:-1]), 1, atol=1e-12)


def test_cars_by_value_iteration_of_mornings(cars):
    # After n sweeps from 0 the error is at most .9^n times the largest value.
    assert np.abs(iterated(30).ravel() - cars[1].v).max() <= 0.9**30 * 640
    assert np.abs(iterated(30).ravel() - cars[1].v).min() > 10


@pytest.mark.parametrize("settings", [{}, {"free_moves": 1, "parking": 2, "parking_cost": 4.0}])
def test_small_car_rental(settings):
    mdp = model("jacks_car_rental", capacity=4, most_moved=3, **settings)
    other = iterated(300, 4, 3, settings.get("free_moves", 0), settings.get("parking"))
    np.testing.assert_allclose(solve(mdp, 0.9).v, other.ravel(), atol=1e-7)


# The gambler's problem.


def bold(capital, goal, p):
    """The value of staking min(s, goal − s), exactly; for goals that are a power of 2."""
    if capital in (0, goal):
        return Fraction(capital == goal)
    if 2 * capital <= goal:
        return p * bold(2 * capital, goal, p)
    return p + (1 - p) * bold(2 * capital - goal, goal, p)


def test_bold_play_is_optimal_in_an_unfair_game():
    best = solve(model("gamblers_problem", goal=128), 1.0)
    exact = [float(bold(s, 128, Fraction(2, 5))) for s in range(1, 128)]
    np.testing.assert_allclose(best.v, exact, atol=1e-12)
    v = solve(model("gamblers_problem"), 1.0).v
    np.testing.assert_allclose(v[[24, 49, 74]], [0.16, 0.4, 0.64], atol=1e-12)


def test_any_play_of_a_fair_game_is_worth_the_capital():
    mdp = model("gamblers_problem", heads=0.5)
    np.testing.assert_allclose(solve(mdp, 1.0).v, np.arange(1, 100) / 100, atol=1e-9)
    np.testing.assert_allclose(evaluate(mdp, mdp.available / mdp.available.sum(1, keepdims=True), 1.0).v[9], 0.1)


def test_timid_play_is_optimal_in_a_favourable_game():
    ratio = 0.45 / 0.55
    exact = (1 - ratio ** np.arange(1, 100)) / (1 - ratio**100)  # the gambler's ruin
    np.testing.assert_allclose(solve(model("gamblers_problem", heads=0.55), 1.0).v, exact, atol=1e-9)


# Deep sea.


@pytest.mark.parametrize("size", [1, 2, 10, 30])
@pytest.mark.parametrize("shuffled", [False, True])
def test_deep_sea(size, shuffled):
    mdp = model("deep_sea", size=size, shuffled=shuffled)
    best = solve(mdp, 1.0)
    assert best.v[0] == pytest.approx(0.99, abs=1e-12)
    policy = np.full((mdp.n_states, 2), 0.5)
    assert evaluate(mdp, policy, 1.0).v[0] == pytest.approx(0.5**size - 0.005, abs=1e-12)
    way = best.greedy[np.arange(size) * (np.arange(size) + 3) // 2]  # the diagonal
    assert way.all() if not shuffled else size < 10 or way.min() < way.max()


def test_stochastic_deep_sea():
    n, p = 10, 0.9
    # On the way down, each step to the right costs .01/n and succeeds with p; the last one pays 1 whatever happens.
    exact = p ** (n - 1) - 0.01 / n * (1 - p**n) / (1 - p)
    assert solve(model("deep_sea", size=n, stochastic=True), 1.0).v[0] == pytest.approx(exact, abs=1e-12)


# River swim and chain: (1 − γ)·V tends to the optimal average reward.


def average(mdp):
    gamma = 1 - 1e-6
    return (1 - gamma) * solve(mdp, gamma, tol=100.0).v


OSBAND = {"forward": 0.35, "back": 0.05, "first_forward": 0.6, "last_stay": 0.6, "left_reward": 0.005}


@pytest.mark.parametrize("settings", [{}, OSBAND | {"right_reward": 1 / 0.6}])
def test_river_swim_against_its_stationary_distribution(settings):
    config = preset("river_swim", **settings)
    up = [config.first_forward] + 4 * [config.forward]
    down = 4 * [config.back] + [1 - config.last_stay]
    share = np.cumprod([1.0, *np.divide(up, down)])  # detailed balance
    exact = share[-1] / share.sum() * config.last_stay * config.right_reward
    np.testing.assert_allclose(average(make(config).mdp), exact, rtol=1e-4)


def test_river_swim_begins_where_the_paper_says():
    mdp = model("river_swim")
    assert mdp.start.tolist() == [0, 0.5, 0.5, 0, 0, 0]
    assert solve(mdp, 0.95).greedy.tolist() == [1] * 6
    assert solve(mdp, 0.3).greedy[0] == 0  # far away counts for nothing


def test_chain():
    mdp = model("chain")
    np.testing.assert_allclose(average(mdp), 3.6768, rtol=1e-5)  # 3677 in 1000 steps, Strens (2000)
    assert solve(mdp, 0.95).greedy.tolist() == [0] * 5
    back = np.tile([0.0, 1.0], (5, 1))  # Always back, by the same argument with .2 and .8 exchanged.
    gamma = 1 - 1e-6
    np.testing.assert_allclose((1 - gamma) * evaluate(mdp, back, gamma, tol=1.0).v, 0.8 * 2 + 0.2**5 * 10, rtol=1e-5)


# Garnet.


def test_garnet_is_a_sample_of_its_family():
    mdp = model("garnet", states=150, actions=5, branching=3)
    assert np.diff(mdp.outcome_ptr).tolist() == [3] * 750
    successors = mdp.next_state.reshape(-1, 3)
    assert all(len(set(row)) == 3 for row in successors.tolist())
    level = 1e-4
    assert chisquare(np.bincount(successors.ravel(), minlength=150)).pvalue > level
    assert kstest(mdp.probability.reshape(-1, 3)[:, 0], beta(1, 2).cdf).pvalue > level  # a part between 2 cuts
    assert kstest(mdp.reward, "norm").pvalue > level
    assert (model("garnet").reward == model("garnet").reward).all()
    assert (model("garnet").reward != model("garnet", instance=1).reward).any()


@pytest.mark.parametrize(
    "settings", [{}, {"branching": 1}, {"states": 3, "branching": 3}, {"states": 1, "branching": 1}]
)
def test_garnet_solved_by_dense_iteration(settings):
    mdp = model("garnet", **settings)
    p, r = np.zeros((mdp.n_states, mdp.n_actions, mdp.n_states)), np.zeros((mdp.n_states, mdp.n_actions))
    pair = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))
    where = mdp.pair_state[pair], mdp.pair_action[pair]
    np.add.at(p, (*where, mdp.next_state), mdp.probability)
    np.add.at(r, where, mdp.probability * mdp.reward)
    v = np.zeros(mdp.n_states)
    for _ in range(700):
        v = (r + 0.95 * p @ v).max(1)
    np.testing.assert_allclose(solve(mdp, 0.95).v, v, atol=1e-7)


# All of them.


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        ("jacks_car_rental", ["env.capacity=5"]),
        ("gamblers_problem", []),
        ("deep_sea", []),
        ("river_swim", []),
        ("chain", []),
        ("garnet", []),
    ],
)
def test_learns_by_its_name_alone(env, settings):
    run = finish(make_run(f"env={env}", "algo=q_learning", "steps=400", *settings))
    assert run.problem.exact[0].v.shape == (run.problem.mdp.n_states,)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("jacks_car_rental", {"capacity": 0}, r"env\.capacity=0: must be at least 1"),
        ("jacks_car_rental", {"most_moved": 21}, r"env\.most_moved=21: must be in \[1, env\.capacity=20\]"),
        ("jacks_car_rental", {"first_returns": -1.0}, r"env\.first_returns=-1\.0: must be a mean number of cars"),
        ("jacks_car_rental", {"rent": float("inf")}, r"env\.rent=inf: must be a finite number"),
        ("jacks_car_rental", {"parking": -1}, r"env\.parking=-1: must be at least 0"),
        ("gamblers_problem", {"goal": 1}, r"env\.goal=1: must be at least 2 dollars"),
        ("gamblers_problem", {"heads": 1.5}, r"env\.heads=1\.5: must be a probability in \[0, 1\]"),
        ("deep_sea", {"size": 0}, r"env\.size=0: must be at least 1"),
        ("deep_sea", {"instance": -1}, r"env\.instance=-1: must be at least 0"),
        ("deep_sea", {"move_cost": float("nan")}, r"env\.move_cost=nan: must be a finite number"),
        ("river_swim", {"length": 2}, r"env\.length=2: must be at least 3"),
        ("river_swim", {"last_stay": 1.1}, r"env\.last_stay=1\.1: must be a probability"),
        ("river_swim", {"forward": 0.95}, r"env\.forward=0\.95: and env\.back=0\.1 must not be above 1 together"),
        ("chain", {"length": 1}, r"env\.length=1: must be at least 2"),
        ("chain", {"slip": float("nan")}, r"env\.slip=nan: must be a probability"),
        ("garnet", {"states": 0}, r"env\.states=0: must be at least 1"),
        ("garnet", {"branching": 31}, r"env\.branching=31: must be in \[1, env\.states=30\]"),
    ],
)
def test_refused(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        model(name, **settings)
