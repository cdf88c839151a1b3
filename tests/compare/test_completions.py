"""Exact facts of policies over tokens, against sums over all completions written out one by one."""

import numpy as np
import pytest
from scipy.optimize import minimize

from rlnet.compare.completions import Completions
from rlnet.compare.frontier import best_reward, frontier, tilted
from rlnet.envs import make, preset


def setting(seed=0):
    made = make(preset("tokens_tiny", symbols="012", prompts=["2", "4"], length=3))
    rng = np.random.default_rng(seed)
    shape = (made.mdp.n_states, 4)
    policy, reference = rng.dirichlet(np.ones(4), shape[0]), rng.dirichlet(np.ones(4), shape[0])
    return made.mdp, policy, reference, Completions(made.mdp, made.tokens.shape, np.log(reference))


def every(mdp, policy, start):
    """(probability, steps taken) of every completion behind a state."""
    for action in range(policy.shape[1]):
        pair, p = int(mdp.pair_index[start, action]), policy[start, action]
        if mdp.terminated[pair]:
            yield p, [(start, action)]
        else:
            for q, steps in every(mdp, policy, int(mdp.next_state[pair])):
                yield p * q, [(start, action), *steps]


def test_every_number_of_every_prompt_is_its_sum_over_completions():
    mdp, policy, reference, known = setting()
    found = known.per_prompt(policy)
    for p, start in enumerate(np.flatnonzero(mdp.start)):
        sums = dict.fromkeys(("reward", "kl", "entropy", "tokens", "pass@1"), 0.0)
        for probability, steps in every(mdp, policy, start):
            earned = float(mdp.reward[mdp.pair_index[steps[-1]]])
            other = np.prod([reference[step] for step in steps])
            sums["reward"] += probability * earned
            sums["pass@1"] += probability * (earned == 1.0)
            sums["kl"] += probability * np.log(probability / other)
            sums["entropy"] -= probability * np.log(probability)
            sums["tokens"] += probability * len(steps)
        for name, value in sums.items():
            assert found[f"exact/{name}"][p] == pytest.approx(value, abs=1e-12)
        assert found["exact/pass@8"][p] == pytest.approx(1 - (1 - sums["pass@1"]) ** 8)


def test_the_best_policy_at_a_divergence_is_found_by_no_optimiser_to_be_better():
    """Against SLSQP over the probabilities of the reward classes of two prompts."""
    rng = np.random.default_rng(1)
    reward, mass, weight = rng.normal(size=(2, 4)), rng.dirichlet(np.ones(4), 2), np.array([0.3, 0.7])
    for kl in (0.01, 0.2, 0.7):
        best, beta = best_reward(reward, mass, weight, kl)
        at = tilted(reward, mass, weight, beta)
        assert at.kl == pytest.approx(kl, abs=1e-8)

        def divergence(x):
            p = x.reshape(2, 4)
            return float(weight @ (p * np.log(np.maximum(p, 1e-12) / mass)).sum(1))

        limits = [{"type": "ineq", "fun": lambda x, kl=kl: kl - divergence(x)}]
        limits += [{"type": "eq", "fun": lambda x, k=k: x.reshape(2, 4)[k].sum() - 1} for k in range(2)]
        found = minimize(
            lambda x: -float(weight @ (x.reshape(2, 4) * reward).sum(1)), mass.ravel(), constraints=limits,
            bounds=[(1e-9, 1)] * 8, method="SLSQP", options={"maxiter": 500, "ftol": 1e-12},
        )  # fmt: skip
        assert -found.fun == pytest.approx(best, abs=2e-5)


def test_binary_rewards_have_a_closed_form():
    p, beta = np.array([0.1, 0.6]), 0.4
    reward, mass = np.tile([0.0, 1.0], (2, 1)), np.stack([1 - p, p], 1)
    q = p * np.exp(1 / beta) / (1 - p + p * np.exp(1 / beta))
    kl = (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))).mean()
    at = tilted(reward, mass, np.array([0.5, 0.5]), beta)
    assert at.reward == pytest.approx(q.mean())
    assert at.kl == pytest.approx(kl)
    assert at.objective == pytest.approx(beta * np.log(1 - p + p * np.exp(1 / beta)).mean())


def test_the_ends_of_the_frontier():
    reward, mass, weight = np.array([[0.0, 1.0, 3.0]]), np.array([[0.5, 0.4, 0.1]]), np.ones(1)
    assert best_reward(reward, mass, weight, 0.0) == (pytest.approx(0.7), np.inf)
    assert best_reward(reward, mass, weight, 5.0)[0] == pytest.approx(3.0)
    _, kl, earned = frontier(reward, mass, weight)
    assert (np.diff(kl) > 0).all()
    assert (np.diff(earned) >= -1e-12).all()
    assert kl[-1] == pytest.approx(np.log(10))


def test_an_optimum_stands_on_the_frontier_and_others_below():
    _, policy, _, known = setting()
    found = known.scores(policy[None])
    assert found["exact/frontier_gap"][0] > 0.01
    reached = known.scores(np.exp(known.log_reference).reshape(1, -1, 4))
    assert reached["exact/frontier_gap"][0] == pytest.approx(0.0, abs=1e-12)
    assert reached["exact/kl"][0] == pytest.approx(0.0, abs=1e-12)
