"""The regulator: its equations against recursions and samples, and its environments."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from support import quick

from rlnet.config import ConfigError
from rlnet.envs import LQR, GymnasiumConfig, LqrVectorEnv, make
from rlnet.envs.control.lqr import CART

GAMMA = 0.9
TWO_INPUTS = {
    "a": [[0.9, 0.3], [-0.2, 0.8]], "b": [[1.0, 0.2], [0.0, 0.5]],
    "state_cost": [[1.0, 0.2], [0.2, 0.5]], "action_cost": [[0.3, 0.1], [0.1, 0.4]],
}  # fmt: skip
PROBLEMS = [CART, TWO_INPUTS, {"a": 1.2, "b": 0.5, "state_cost": 1.0, "action_cost": 0.2}]


@pytest.mark.parametrize("matrices", PROBLEMS)
def test_the_optimal_gain_is_the_limit_of_backward_induction(matrices):
    """P ← Q + γAᵀPA − γAᵀPB·(R + γBᵀPB)⁻¹·γBᵀPA from P = 0, 2,000 steps."""
    lqr = LQR(**matrices, noise=0.1, start=1.0)
    p = np.zeros_like(lqr.a)
    for _ in range(2000):
        gain = -np.linalg.solve(lqr.action_cost + GAMMA * lqr.b.T @ p @ lqr.b, GAMMA * lqr.b.T @ p @ lqr.a)
        closed = lqr.a + lqr.b @ gain
        p = lqr.state_cost + gain.T @ lqr.action_cost @ gain + GAMMA * closed.T @ p @ closed
    np.testing.assert_allclose(lqr.optimal_gain(GAMMA), gain, rtol=1e-9, atol=1e-10)
    value = lqr.value(gain, GAMMA)
    np.testing.assert_allclose(value.square, p, rtol=1e-9)
    assert lqr.expected_return(value) >= lqr.expected_return(lqr.value(gain * 1.02, GAMMA))
    assert lqr.expected_return(value) >= lqr.expected_return(lqr.value(gain * 0.98, GAMMA))


@pytest.mark.parametrize("matrices", quick(PROBLEMS, 2))
def test_the_value_of_a_noisy_policy_with_an_offset_is_the_mean_of_sampled_returns(matrices):
    """40,000 episodes of 150 steps from a fixed state and from the start; within 4 standard errors."""
    env = LqrVectorEnv(40_000, noise=0.3, **matrices)
    lqr, count = env.lqr, 40_000
    m = lqr.b.shape[1]
    gain, offset, deviation = 0.8 * lqr.optimal_gain(GAMMA), np.linspace(0.3, -0.2, m), np.linspace(0.5, 0.1, m)
    value = lqr.value(gain, GAMMA, offset=offset, deviation=deviation)
    rng = np.random.default_rng(1)  # a stream apart from that of the environment
    obs, _ = env.reset(seed=0)
    first, ret = obs.astype(float), np.zeros(count)
    for t in range(150):
        noise = rng.normal(size=(count, m))
        obs, reward, terminated, truncated, _ = env.step(obs @ gain.T + offset + deviation * noise)
        assert not (terminated | truncated).any()
        ret += GAMMA**t * reward
    for sample, expected in ((ret, lqr.expected_return(value)), (ret - value(first), 0.0)):
        assert abs(sample.mean() - expected) <= 4 * sample.std() / count**0.5


def test_a_policy_without_a_finite_value_is_refused():
    lqr = LQR(a=1.2, b=1.0, state_cost=1.0, action_cost=1.0, noise=0.0, start=1.0)
    with pytest.raises(ValueError, match="discounted cost of this policy is infinite"):
        lqr.value(np.zeros((1, 1)), GAMMA)


@pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")
def test_one_environment_and_many_are_the_same_problem():
    check_env(gymnasium.make("rlnet/LQR-v0", max_action=3.0).unwrapped, skip_render_check=True)
    one = gymnasium.make("rlnet/LQR-v0", noise=0.0, max_episode_steps=4)
    many = gymnasium.make_vec(
        "rlnet/LQR-v0", 2, vectorization_mode="vector_entry_point", noise=0.0, max_episode_steps=4
    )
    one.reset(seed=0)
    obs, _ = many.reset(seed=0)
    one.unwrapped._x = obs[:1].astype(float)
    many._x = obs.astype(float)
    for t in range(4):
        action = np.array([[0.3 * t], [-1.0]], dtype=np.float32)
        x, reward, *_ = one.step(action[0])
        obs, rewards, _, truncated, infos = many.step(action)
        assert rewards[0] == pytest.approx(reward)
        assert truncated.all() == (t == 3)
        np.testing.assert_allclose((infos["final_obs"] if t == 3 else obs)[0], x, rtol=1e-6)
    assert not np.allclose(obs[0], x)


def test_the_config_makes_it_with_its_own_vector_form():
    environment = make(GymnasiumConfig(name="lqr", gamma=GAMMA, id="rlnet/LQR-v0", kwargs={"max_action": 2.0}))
    assert (environment.n_actions, environment.observation_shape) == (None, (2,))
    assert [bound.tolist() for bound in environment.action_bounds] == [[-2.0], [2.0]]
    assert isinstance(environment.simulate([0], 3)._vectors[0], LqrVectorEnv)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"b": [[1.0], [0.0], [0.0]]}, r"a has shape \(2, 2\), b of shape \(3, 1\) needs \(3, 3\)"),
        ({"action_cost": 0.0}, "action_cost=.*: must be symmetric and positive definite"),
        ({"state_cost": [[1.0, 0.5], [0.0, 1.0]]}, "state_cost=.*: must be symmetric and positive semidefinite"),
        ({"noise": -1.0}, "noise=-1.0, start=1.0: must be at least 0"),
        ({"c": 1.0}, "c: the matrices are a, b, state_cost, action_cost"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make(GymnasiumConfig(name="lqr", gamma=GAMMA, id="rlnet/LQR-v0", kwargs=options))
