"""CartPole for a whole population against Gymnasium's own, and each member against itself alone."""

import gymnasium
import numpy as np
import pytest
from scipy.stats import kstest

from rlnet.config import ConfigError
from rlnet.envs import make, preset
from rlnet.envs.adapter import GymnasiumSimulation
from rlnet.envs.control import cartpole
from rlnet.envs.control.cartpole import CartPoleSimulation

FIELDS = ("next_obs", "reward", "terminated", "truncated", "valid", "obs")


def test_every_step_is_gymnasiums():
    """From the same states, by the same actions, to the ends of the episodes, by failure and by the time limit."""
    ours = CartPoleSimulation([0, 1, 2], 5, max_steps=30)
    theirs = [[gymnasium.make("CartPole-v1", max_episode_steps=30) for _ in range(5)] for _ in range(3)]
    obs = ours.reset([0, 1, 2])
    ours._state[:2, :, 4] = [[1.9] * 3, [1.0] * 3]  # rolls out of the track before the pole falls
    rng, ends = np.random.default_rng(0), np.zeros(2, int)
    for row in theirs:
        for env in row:
            env.reset()
    for m, n in np.ndindex(3, 5):
        theirs[m][n].unwrapped.state = ours._state[:, m, n]
    for _ in range(200):
        # Half of the environments are pushed against the fall and live long, the others at random.
        lean = obs[..., 2] + 0.5 * obs[..., 3] > 0
        action = np.where(np.arange(5) < 3, rng.integers(2, size=(3, 5)), lean)
        step = ours.step(action)
        for m, n in np.ndindex(3, 5):
            wanted, reward, terminated, truncated, _ = theirs[m][n].step(int(action[m, n]))
            np.testing.assert_allclose(step.next_obs[m, n], wanted, rtol=1e-6, atol=1e-7)
            assert (step.reward[m, n], bool(step.terminated[m, n])) == (reward, terminated)
            assert bool(step.truncated[m, n]) == (truncated and not terminated)
            ends += (terminated, truncated)
            if terminated or truncated:
                theirs[m][n].reset()
                theirs[m][n].unwrapped.state = ours._state[:, m, n]
                np.testing.assert_array_equal(step.obs[m, n], ours._state[:, m, n].astype(np.float32))
            else:
                np.testing.assert_array_equal(step.obs[m, n], step.next_obs[m, n])
        obs = step.obs
    assert (ends > 5).all(), "both kinds of ends were met"


def test_few_move_as_many_do(monkeypatch):
    """Bit for bit, over many episodes: 2 members of 3 environments, by numbers and by arrays."""
    few = CartPoleSimulation([0, 1], 3, max_steps=20)
    monkeypatch.setattr(cartpole, "FEW", 0)
    many = CartPoleSimulation([0, 1], 3, max_steps=20)
    assert (few.few, many.few) == (True, False)
    np.testing.assert_array_equal(few.reset([0, 1]), many.reset([0, 1]))
    rng, ends = np.random.default_rng(0), np.zeros(2, int)
    for _ in range(300):
        action = rng.integers(2, size=(2, 3))
        a, b = few.step(action), many.step(action)
        for x, y in zip(a[:6], b[:6], strict=True):
            np.testing.assert_array_equal(x, y)
            assert x.dtype == y.dtype
        np.testing.assert_array_equal(few._where(), many._where())
        ends += a.terminated.sum(), a.truncated.sum()
    assert (ends > 5).all()


def test_episodes_begin_uniformly_within_a_twentieth():
    state = CartPoleSimulation([0], 2000, max_steps=500).reset([7])[0]
    for number in state.T:
        assert kstest(number, "uniform", (-0.05, 0.1)).pvalue > 1e-3
    assert abs(np.corrcoef(state.T) - np.eye(4)).max() < 0.1


def test_a_member_does_what_it_does_alone_and_goes_on_from_its_state():
    many, alone = CartPoleSimulation([0, 1, 2], 4, 50), CartPoleSimulation([1], 4, 50)
    np.testing.assert_array_equal(many.reset([3, 4, 5])[1], alone.reset([4])[0])
    rng = np.random.default_rng(0)
    saved = None
    for t in range(150):
        action = rng.integers(2, size=(3, 4))
        if t == 100:
            saved = many.state_dict()
            again = CartPoleSimulation([9, 9, 9], 4, 50)
            again.load_state_dict(saved)
        a, b = many.step(action), alone.step(action[1:2])
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(a, name)[1], getattr(b, name)[0])
        if saved is not None:
            for x, y in zip(again.step(action)[:6], a[:6], strict=True):
                np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("stepping", "kind"),
    [
        ("auto", CartPoleSimulation),
        ("batched", CartPoleSimulation),
        ("vector", GymnasiumSimulation),
        ("sync", GymnasiumSimulation),
        ("async", GymnasiumSimulation),
    ],
)
def test_how_environments_move_can_be_chosen(stepping, kind):
    simulation = make(preset("cartpole", stepping=stepping)).simulate([0, 1], 2)
    assert isinstance(simulation, kind)
    assert simulation.reset([0, 1]).shape == (2, 2, 4)
    assert simulation.step(np.zeros((2, 2), np.int64)).reward.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    simulation.close()


def test_a_way_of_moving_that_an_environment_lacks_is_refused():
    with pytest.raises(ConfigError, match=r"stepping=batched: env.id=Acrobot-v1 can be stepped by: auto, sync, async"):
        make(preset("cartpole", id="Acrobot-v1", stepping="batched"))
    with pytest.raises(ConfigError, match=r"env.stepping=fast: allowed are auto, batched, vector, sync, async"):
        make(preset("cartpole", stepping="fast"))
