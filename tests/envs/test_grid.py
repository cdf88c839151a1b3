"""Approximate models on grids of states: exact where the grid fits, and called what they are."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import rlnet
from rlnet.config import ConfigError
from rlnet.envs import make, preset
from rlnet.mdp import solve
from rlnet.mdp.from_env.grid import Grid, _mountain_car, _stepping, grid_model
from rlnet.report.page import write_page


class Line(gymnasium.Env):
    """A place in [0, 1]; two actions move by `far`; beyond .95 the episode ends."""

    action_space = spaces.Discrete(2)

    def __init__(self, far=0.1, kind="plain", dimensions=1):
        self.far, self.kind = far, kind
        high = np.inf if kind == "unbounded" else 1.0
        self.observation_space = spaces.Box(0.0, high, (dimensions,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.kind != "stateless":
            self.state = np.full(self.observation_space.shape, 0.1 * self.np_random.integers(3))
        self.age = 0
        return np.full(self.observation_space.shape, self.state, np.float32), {}

    def step(self, action):
        self.age += 1
        tail = 0.03 * self.np_random.random() if self.kind == "chance" else 0.01 * self.age * (self.kind == "clock")
        self.state = np.clip(self.state + (2 * action - 1) * self.far + tail, 0.0, 1.0)
        return self.state.astype(np.float32), -1.0, bool((self.state > 0.95).all()), False, {}


@pytest.fixture(scope="module", autouse=True)
def _registered():
    gymnasium.register("Line-v0", entry_point=Line)
    yield
    del gymnasium.registry["Line-v0"]


def line(grid=11, **kwargs):
    return preset("gymnasium", id="Line-v0", truth="grid", grid=grid, kwargs=kwargs)


def test_interpolation_is_exact_for_what_is_linear_along_each_axis():
    grid = Grid(np.array([-1.0, 0.0, 2.0]), np.array([1.0, 1.0, 5.0]), (4, 2, 7))
    points, states = grid.points, np.random.default_rng(0).uniform(grid.low, grid.high, (50, 3))
    states = np.concatenate([states, points[[0, -1, 17]]])
    at, weights = grid.corners(states)
    np.testing.assert_allclose(weights.sum(1), 1)

    def f(x):
        return (1 + x[..., 0]) * (2 - x[..., 1]) * (3 + x[..., 2])

    np.testing.assert_allclose((f(points)[at] * weights).sum(1), f(states))
    nearest = ((states[:, None] - points) / [2 / 3, 1, 0.5]) ** 2
    assert (grid.nearest(states) == nearest.sum(-1).argmin(1)).all()


def test_a_grid_on_which_all_steps_lie_is_exact():
    environment = make(line())
    v = solve(environment.mdp, 1.0).v
    assert -v[:-1] == pytest.approx(np.arange(10, 0, -1), abs=1e-4)  # float32 observations lie beside the points
    gamma = 0.9
    best = solve(environment.mdp, gamma)
    assert best.v[3] == pytest.approx(-(1 - gamma**7) / (1 - gamma), abs=1e-4)
    starts = [0.0, 0.1, 0.2]
    expected = -np.mean([(1 - gamma ** round(10 - 10 * x)) / (1 - gamma) for x in starts])
    said = environment.grid.error(best)
    assert said.startswith(
        "approximate: a grid of 11 states, not the environment, is solved; its optimal policy is worth"
    )
    assert f"{expected:.2g}" in said


def test_a_grid_beside_the_steps_errs_and_says_by_how_much():
    model = grid_model(gymnasium.make("Line-v0", far=0.13), 5)
    best = solve(model.mdp, 1.0)
    returns, left = model._returns(best)
    assert left == 0
    assert (returns == -np.ceil((0.95 - model.starts[:, 0]) / 0.13 - 1e-6)).all()
    assert abs(returns.mean() - model._interpolated(best.v, model.starts).mean()) > 0.1


def test_mountain_car_steps_as_gymnasium_does():
    inner = gymnasium.make("MountainCar-v0", goal_velocity=0.01).unwrapped
    inner.reset(seed=0)
    fast, slow, rng = _mountain_car(inner), _stepping(inner), np.random.default_rng(0)
    states = rng.uniform([-1.2, -0.07], [0.6, 0.07], (300, 2))
    states[:2] = [[-1.19, -0.07], [0.49, 0.02]]
    for a in range(3):
        for found, wanted, atol in zip(fast(states, a), slow(states, a), (1e-6, 0, 0), strict=True):
            np.testing.assert_allclose(found, wanted, atol=atol)


def test_mountain_car_on_a_small_grid():
    model = grid_model(gymnasium.make("MountainCar-v0"), 61)
    best = solve(model.mdp, 0.99)
    # −62.14 is what the greedy policy of 801² points earns; a coarser one cannot earn more than 0.1 above it.
    returns, _ = model._returns(best)
    assert -64.5 < returns.mean() < -62.04
    assert model.mdp.start @ best.v == pytest.approx(-62.14, abs=2.5)


@pytest.mark.slow
def test_scores_on_a_grid_are_called_approximate(tmp_path):
    own = ["env=gymnasium", "env.id=Line-v0", "env.truth=grid", "env.grid=11", "algo=q_learning", "network.hidden=[8]"]
    rlnet.train(*own, "algo.rollout=10", steps=640, folder=tmp_path / "run")
    document = json.loads((tmp_path / "run" / "comparison.json").read_text())
    said = "a grid of 11 states, not the environment, is solved; its optimal policy is worth"
    assert document["verdict"].startswith(f"Approximate: {said}")
    assert document["exact"]["approximate"].startswith(f"approximate: {said}")
    page = write_page(tmp_path / "run", trust=True).read_text()
    assert said in page
    assert "against approximate V*, Q*" in page
    assert "approximate V*" in page


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: line(kind="chance"), "Line: a step from env.unwrapped.state set to the observation .* by chance"),
        (lambda: line(kind="clock"), "Line: a step from .*: the observation is not its state, or it acts by chance"),
        (lambda: line(kind="unbounded"), "Line: a grid needs observations of 1 to 4 numbers with bounds, and they are"),
        (lambda: line(grid=2000, dimensions=2), "2000 points along 2 numbers are 4000000 states, more than 1000000"),
        (lambda: preset("pendulum", truth="grid"), "PendulumEnv: a grid needs Discrete actions, and they are Box"),
        (lambda: preset("frozen_lake", truth="grid"), "FrozenLakeEnv: a grid needs observations of 1 to 4 numbers"),
        (lambda: preset("cartpole", truth="grid"), "CartPoleEnv: a grid needs observations of 1 to 4 numbers with"),
    ],
)
def test_what_suits_no_grid_is_refused_in_a_sentence(config, message):
    with pytest.raises(ConfigError, match=f"^env.truth=grid: {message}"):
        make(config())


def test_points_of_a_grid():
    with pytest.raises(ConfigError, match=r"^env\.grid=1: must be at least 2 points"):
        make(line(grid=1))
