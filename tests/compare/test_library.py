"""`rlnet.compare.score`, time limits, and the sentence: for networks that rlnet did not train."""

import gymnasium
import numpy as np
import pytest
import torch
from support import composed, random_mdp

from rlnet.compare import judge_policy, limited_values, score, sentence, time_limit, uniform_policy
from rlnet.envs import make, preset
from rlnet.experiment.problem import build
from rlnet.mdp import FiniteMDP, evaluate, solve

LAKE = "FrozenLake-v1"


def test_frozen_lake_under_its_time_limit():
    """Success rates with the 100-step limit: .744190 for the best policy that knows the time, .740165 for that of
    γ = .99; without the limit V*(start) = .542026 at γ = .99."""
    env = gymnasium.make(LAKE)
    best = solve(FiniteMDP.from_env(env), 0.99)
    found = score(env, q=best.q, gamma=0.99)
    assert found["exact/optimal_return"] == pytest.approx(0.542026, abs=1e-6)
    assert found["exact/optimal_episode_return"] == pytest.approx(0.744190, abs=1e-6)
    assert found["exact/episode_return"] == pytest.approx(0.740165, abs=1e-6)


def test_limited_values_are_those_of_backward_induction():
    mdp = random_mdp(3)
    policy = uniform_policy(mdp)
    for gamma in (0.7, 1.0):
        for steps in (1, 2, 30):
            both = limited_values(mdp, gamma, steps, policy)
            np.testing.assert_allclose(both, evaluate(mdp, policy, gamma, horizon=steps).v[0], atol=1e-12)
            best = limited_values(mdp, gamma, steps)
            np.testing.assert_allclose(best, solve(mdp, gamma, horizon=steps).v[0], atol=1e-12)
            soft = {"horizon": steps, "temperature": 0.3}
            both = limited_values(mdp, gamma, steps, policy, 0.3)
            np.testing.assert_allclose(both, evaluate(mdp, policy, gamma, **soft).v[0], atol=1e-12)
            best = limited_values(mdp, gamma, steps, temperature=0.3)
            np.testing.assert_allclose(best, solve(mdp, gamma, **soft).v[0], atol=1e-12)
    # Far enough away, the limit no longer matters, and the rest of the horizon is not computed.
    far = limited_values(mdp, 0.7, 10**9)
    np.testing.assert_allclose(far, solve(mdp, 0.7).v, atol=1e-9)
    assert time_limit(mdp, 0.7, 2).value == pytest.approx(mdp.start @ solve(mdp, 0.7, horizon=2).v[0])


def test_the_run_learns_both_answers_where_there_is_a_time_limit():
    """One state that pays 1 a step for ever, cut after 10: 100 without the limit, 9.562 with it (γ = .99)."""
    mdp = FiniteMDP.from_arrays(np.ones((1, 1, 1)), np.ones((1, 1)))
    found = score(mdp, v=np.array([100.0]), gamma=0.99, max_steps=10)
    assert found["exact/v_rmse"] == pytest.approx(0.0, abs=1e-9)
    assert found["exact/return"] == pytest.approx(100.0)
    assert found["exact/limited_return"] == pytest.approx((1 - 0.99**10) / 0.01)
    assert found["exact/episode_return"] == 10.0
    truths = build(composed("env=sutton5x5")).truths
    assert truths[0].limit.steps == 100
    assert truths[0].limit.value < truths[0].mdp.start @ truths[0].optimal.v
    assert build(composed("env=cliff")).truths[0].limit is None


def test_functions_tensors_and_arrays_are_the_same():
    env = gymnasium.make(LAKE)
    q = np.random.default_rng(0).normal(size=(16, 4))
    network = torch.nn.Embedding.from_pretrained(torch.as_tensor(q))
    wanted = score(env, q=q, gamma=0.9)
    for values in (lambda s: q[s], lambda s: network(torch.as_tensor(s)), torch.as_tensor(q)):
        found = score(env, q=values, gamma=0.9)
        assert found.scalars == wanted.scalars
    np.testing.assert_array_equal(score(env, v=lambda s: q[s, :1], gamma=0.9).v, score(env, v=q[:, 0], gamma=0.9).v)
    actions = q.argmax(1)
    assert score(env, q=q, pi=lambda s: actions[s], gamma=0.9)["exact/return"] == wanted["exact/return"]


def test_what_is_judged_depends_on_what_is_given():
    mdp = random_mdp(2)
    best, policy = solve(mdp, 0.9), uniform_policy(mdp)
    exact = evaluate(mdp, policy, 0.9)
    assert score(mdp, v=exact.v, pi=policy, gamma=0.9)["exact/v_max"] == pytest.approx(0, abs=1e-9)
    assert score(mdp, v=best.v, gamma=0.9)["exact/regret"] == pytest.approx(0, abs=1e-9)
    assert score(mdp, q=exact.q, pi=policy, gamma=0.9, against="policy")["exact/q_max"] == pytest.approx(0, abs=1e-9)
    alone = score(mdp, pi=policy, gamma=0.9)
    assert alone["exact/return"] == pytest.approx(mdp.start @ exact.v)
    assert "exact/v_rmse" not in alone.scalars


def test_printing_shows_errors_beside_their_guarantees():
    mdp = random_mdp(2)
    best = solve(mdp, 0.9)
    found = score(mdp, q=best.q + 0.01, gamma=0.9)
    lines = {line.split()[0]: line.split() for line in str(found).splitlines()[4:]}
    assert float(lines["q_max"][1]) == pytest.approx(0.01)
    assert float(lines["q_max"][2]) == pytest.approx(found["exact/q_bound"], rel=1e-4)
    assert str(found).startswith("Q is within ")
    assert found.verdict in str(found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to score"),
        ({"q": np.zeros((16, 3))}, r"q has shape \(16, 3\), the model needs \(16, 4\)"),
        ({"v": lambda s: np.full(len(s), np.nan)}, r"state \[0\] is not finite"),
        ({"pi": np.full((16, 4), 0.3)}, "sum to 1.2"),
        ({"q": np.zeros((16, 4)), "against": "best"}, "against='best'"),
        ({"q": np.zeros((16, 4)), "max_steps": 0}, "max_steps must be a whole number ≥ 1, not 0"),
        ({"q": np.zeros((16, 4)), "max_steps": 1.5}, "max_steps must be a whole number ≥ 1, not 1.5"),
        ({"q": np.zeros((16, 4), complex)}, "q must hold real numbers, not complex128"),
        ({"pi": np.full((16, 4), "0.25")}, "policy must hold real numbers"),
    ],
)
def test_what_cannot_be_scored_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        score(gymnasium.make(LAKE), gamma=0.9, **given)


def test_the_sentence_says_how_wrong_and_what_is_lost():
    scalars = {
        "exact/q_rmse": 0.13, "exact/q_relative": 0.013, "exact/return": 9.96, "exact/optimal_return": 10.0,
        "exact/regret": 0.04, "exact/optimal_action_rate": 0.97, "exact/q_bias_own": 0.0,
    }  # fmt: skip
    said = sentence(scalars, "optimal", "greedy", blame="sampling")
    assert said == (
        "Q is within 1.3 % of Q* where the policy goes; the greedy policy acts optimally in 97 % of its steps and "
        "loses 0.4 % of the optimal return (J = 9.96, J* = 10); most of the error is sampling."
    )
    rough = {**scalars, "exact/q_relative": 0.05, "exact/q_bias_own": 0.2}
    assert "over-estimates its own policy by 0.2" in sentence(rough, "optimal", "greedy")
    assert "Q is off by 16 times the size of Q*" in sentence({**scalars, "exact/q_relative": 16}, "optimal", "greedy")
    assert "the policy acts optimally in 97 %" in sentence(scalars, "optimal", "actor")
    endless = {**scalars, "exact/return": -np.inf, "exact/regret": np.inf}
    assert "may go on for ever" in sentence(endless, "optimal", "greedy")
    given = {"exact/v_rmse": 0.1, "exact/v_relative": 0.25}
    assert sentence(given, "policy", "given") == "V is within 25 % of V^π of the given policy where the policy goes."


def test_a_model_too_large_for_direct_solves_is_judged_as_well():
    """Beyond 20,000 states a policy is evaluated by sweeps, which must go on until the value is found."""
    field = "\n".join(["S" + "." * 148 + "G"] * 150)
    mdp = make(preset("maze", map=field)).mdp
    east = np.tile([0.0, 1.0, 0.0, 0.0], (mdp.n_states, 1)) * mdp.available
    judged = judge_policy(mdp, east, solve(mdp, 0.95, tol=1e-3))
    assert judged.value == pytest.approx(0.95**148)


class Corridor(gymnasium.Env):
    """0..5, right and left, the end at 5 pays 1, starts in 3; seen as its place, shifted, or as its coordinates."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, shift=0, plane=False):
        self.shift, self.plane = shift, plane
        numbers, plain = gymnasium.spaces.Discrete(6, start=shift), gymnasium.spaces.Box(0, 5, (2,))
        self.observation_space = plain if plane else numbers

    def seen(self):
        return np.array([self.s, 1.0], np.float32) if self.plane else self.s + self.shift

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 3
        return self.seen(), {}

    def step(self, action):
        self.s = max(self.s + (1 if action == 0 else -1), 0)
        return self.seen(), float(self.s == 5), self.s == 5, False, {}


def true_q(place):
    """Of the places, at γ = .9: right at once or after a step to the left."""
    right = 0.9 ** np.maximum(4 - place, 0.0)
    left = 0.9 * 0.9 ** np.maximum(4 - np.maximum(place - 1, 0), 0.0)
    return np.stack([right, left], axis=-1)


@pytest.mark.parametrize("shift", [0, 7])
def test_right_values_are_right_in_whatever_order_states_are_discovered(shift):
    found = score(Corridor(shift), q=lambda s: true_q(s - shift), gamma=0.9)
    assert found["exact/q_rmse_uniform"] == pytest.approx(0.0, abs=1e-12)
    assert found["exact/regret"] == pytest.approx(0.0, abs=1e-12)
    listed = score(Corridor(shift), q=true_q(np.arange(6)), gamma=0.9)
    assert listed["exact/q_rmse_uniform"] == pytest.approx(0.0, abs=1e-12)


def test_functions_get_real_observations():
    env = Corridor(plane=True)
    mdp = FiniteMDP.from_env(env)
    assert mdp.observations.shape == (6, 2)
    assert mdp.labels[0] == "[3. 1.]"
    found = score(env, q=lambda observations: true_q(observations[:, 0]), gamma=0.9)
    assert found["exact/q_rmse_uniform"] == pytest.approx(0.0, abs=1e-7)
    assert score(gymnasium.wrappers.TimeLimit(env, 9), q=lambda o: true_q(o[:, 0]), gamma=0.9)[
        "exact/episode_return"
    ] == pytest.approx(1.0)


def endless(rewards=(0.0, 0.0)):
    """0 and 1 lead to each other (action 0) or end with +1 (action 1); on the way round they pay `rewards`."""
    return FiniteMDP.from_outcomes(
        {s: {0: [(1.0, 1 - s, rewards[s], False)], 1: [(1.0, s, 1.0, True)]} for s in (0, 1)}, start=[1.0, 0.0]
    )


@pytest.mark.parametrize(
    ("pi", "rate", "regret", "words"),
    [
        ([[1, 0], [0, 1]], 1.0, 0.0, "always acts optimally and loses nothing"),  # goes round once, which costs nothing
        ([[0.5, 0.5], [0.5, 0.5]], 1.0, 0.0, "always acts optimally and loses nothing"),
        ([[1, 0], [1, 0]], 0.0, 1.0, "loses 100 %"),  # both moves are optimal, but not for ever
    ],
)
def test_actions_are_optimal_where_the_policy_attains_the_optimum(pi, rate, regret, words):
    found = score(endless(), pi=np.array(pi, float), gamma=1.0, v=np.ones(2))
    assert found["exact/regret"] == pytest.approx(regret, abs=1e-9)
    assert found["exact/optimal_action_rate"] == pytest.approx(rate)
    assert words in found.verdict


def test_a_loop_of_tied_actions_that_costs_in_the_end_is_never_called_optimal():
    """0 → 1 costs 1, 1 → 0 pays it back: going round for ever has no value."""
    found = score(endless((-1.0, 1.0)), pi=np.array([[1.0, 0.0], [1.0, 0.0]]), gamma=1.0, v=np.ones(2))
    assert found["exact/optimal_action_rate"] < 1.0
    assert "always" not in found.verdict


def test_a_rare_step_that_loses_much_is_told():
    """Once in 2^40 steps a choice of 10^13: hardly a step is wrong, and much is lost."""
    rare = 2.0**-40
    mdp = FiniteMDP.from_outcomes(
        {0: {0: [(1.0 - rare, 0, 1.0, True), (rare, 1, 0.0, False)]},
         1: {0: [(1.0, 1, -1e13, True)], 1: [(1.0, 1, 0.0, True)]}}, start=[1.0, 0.0],
    )  # fmt: skip
    for gamma, loss in ((0.9, 0.9 * rare * 1e13), (1.0, rare * 1e13)):
        found = score(mdp, pi=np.array([[1.0, 0.0], [1.0, 0.0]]), gamma=gamma, v=np.ones(2))
        assert found["exact/regret"] == pytest.approx(loss)
        assert found["exact/optimal_action_rate"] < 1.0
        assert "acts optimally in more than 99.9 % of its steps and loses" in found.verdict
    lucky = score(mdp, pi=np.array([[1.0, 0.0], [0.0, 1.0]]), gamma=0.9, v=np.ones(2))
    assert "always acts optimally and loses nothing" in lucky.verdict


def test_no_policy_with_a_regret_always_acts_optimally():
    """Random models and policies, listed ones among them: the rate is 1 just where nothing is lost."""
    rng, always, lost = np.random.default_rng(5), 0, 0
    for k in range(150):
        n, gamma = int(rng.integers(2, 6)), (1.0, 0.9)[k % 2]
        outcomes = {
            s: {
                a: [
                    (0.75, int(rng.integers(n)), float(rng.integers(-2, 1)), False),
                    (0.25, int(rng.integers(n)), float(rng.integers(0, 2)), bool(rng.random() < 0.5)),
                ]
                for a in range(3)
            }
            for s in range(n)
        }
        mdp = FiniteMDP.from_outcomes(outcomes, n_states=n)
        try:
            best = solve(mdp, gamma)
        except ValueError:
            continue
        pi = (best.policy * rng.random((n, 3))).argmax(1) if k % 3 else rng.integers(3, size=n)
        found = score(mdp, pi=pi, gamma=gamma, v=np.zeros(n))
        rate, regret = found["exact/optimal_action_rate"], found["exact/regret"]
        assert (rate > 1.0 - 1e-9) == (regret <= 1e-9)
        assert ("always acts optimally and loses nothing" in found.verdict) == (regret <= 1e-9)
        always, lost = always + (regret <= 1e-9), lost + (regret > 1e-9)
    assert always > 20
    assert lost > 20
