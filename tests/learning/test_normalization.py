"""Normalisation: statistics against numpy, per member, frozen in what is saved, and what it makes learnable."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from support import make_run, trained, update

from rlnet.config import ConfigError
from rlnet.learning.policy import Policy

pytestmark = pytest.mark.usefixtures("without_pictures")

BOTH = ("network.normalize_observations=true", "network.normalize_returns=true")


class Scaled(gymnasium.Env):
    """Twenty steps from a random place to the left or right; observations around 1000 ± 300, rewards of ±500."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Discrete(2)

    def _seen(self):
        self.side = int(self.np_random.integers(2))
        return np.array([1000 + 300 * (2 * self.side - 1), 7.0], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self._seen(), {}

    def step(self, action):
        pay = 500.0 if action == self.side else -500.0
        self.age += 1
        return self._seen(), pay, self.age == 20, False, {}


gymnasium.register("Scaled-v0", Scaled)
OWN = ("env=gymnasium", "env.id=Scaled-v0", "gamma=0.9", "algo.envs=3")


def test_statistics_are_those_of_all_rows_and_of_each_member_alone():
    runs = [
        make_run(*OWN, *BOTH, "algo=ppo", "algo.rollout=16", f"seed={seed}", f"seeds={n}")
        for seed, n in ((3, 2), (4, 1))
    ]
    rows, rewards = [], []
    for _ in range(4):
        rollout = runs[0].collect()
        rows.append(rollout.obs.clone())
        rewards.append((rollout.reward.clone(), (rollout.terminated | rollout.truncated).clone()))
        runs[1].collect()
    obs = torch.cat(rows).double().numpy()  # [T, M, N, F]
    moments = runs[0].normalization.inputs
    np.testing.assert_allclose(moments.mean, obs.mean((0, 2)), rtol=1e-10)
    deviation = np.sqrt(obs.var((0, 2)) + 1e-8)
    np.testing.assert_allclose(1 / moments.scale, deviation, rtol=1e-8)
    reward, ended = (torch.cat(x).double().numpy() for x in zip(*rewards, strict=True))
    running, sums = np.zeros(reward.shape[1:]), []
    for r, over in zip(reward, ended, strict=True):
        running = 0.9 * running + r
        sums.append(running.copy())
        running = running * (1 - over)
    unit = np.sqrt(np.array(sums).var((0, 2)) + 1e-8)
    np.testing.assert_allclose(1 / runs[0].normalization.returns.scale[:, 0], unit, rtol=1e-6)
    for role in ("pi", "v"):
        own = runs[0].learner.params[role]
        np.testing.assert_allclose(own["input_mean"], obs.mean((0, 2)), rtol=1e-6)
        np.testing.assert_allclose(own["input_scale"], 1 / deviation, rtol=1e-6)
    np.testing.assert_allclose(runs[0].learner.params["v"]["output_unit"][:, 0], unit, rtol=1e-6)
    assert torch.equal(runs[0].normalization.inputs.mean[1:], runs[1].normalization.inputs.mean)


@pytest.mark.parametrize("algo", ["ppo", "dqn", "a2c"])
def test_steps_leave_statistics_alone_and_a_resumed_run_goes_on_with_the_same_bits(algo):
    replayed, epochs = ("algo.learning_starts=32", "algo.batch=16"), ("algo.epochs=2",)
    more = {"dqn": replayed, "ppo": epochs}.get(algo, ())
    run, other = (make_run(*OWN, *BOTH, f"algo={algo}", *more, "algo.rollout=16", "seeds=2") for _ in range(2))
    update(run, 4)
    learner = run.learner
    for role, own in learner.params.items():
        assert torch.equal(own["input_mean"], run.normalization.inputs.mean.float()), role
        assert torch.equal(learner.target_params[role]["input_mean"], own["input_mean"])
    other.load_state_dict(run.state_dict())
    update(run, 3)
    update(other, 3)
    assert torch.equal(run.learner.theta, other.learner.theta)
    assert torch.equal(run.normalization.returns.squares, other.normalization.returns.squares)


@pytest.mark.slow
def test_what_is_trained_keeps_its_statistics_and_predicts_in_the_units_of_rewards():
    """500·(1 − 0.9^20)/(1 − 0.9) = 4392 from the first step of the best policy; without, values of 4392 take long."""
    run = trained(
        *OWN, *BOTH, "algo=ppo", "optimizer.learning_rate=0.003", "algo.envs=8", "algo.epochs=4", "steps=8000"
    )
    policy = Policy(run.trained())
    left, right = np.array([700, 7], np.float32), np.array([1300, 7], np.float32)
    assert (int(policy(left)), int(policy(right))) == (0, 1)
    assert 1000 < float(policy.value(left)) < 4392


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("env=frozen_lake", "network.normalize_observations=true"), "network.normalize_observations=true: the observ"),
        (("env=tic_tac_toe", "network.normalize_observations=true"), "network.normalize_observations=true: the observ"),
        (
            ("env=cartpole", "optimizer=sgd", "network.normalize_returns=true"),
            "network.normalize_returns=true: needs opt",
        ),
    ],
)
def test_what_cannot_be_normalised_is_refused(overrides, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        make_run("algo=ppo", *overrides)


def test_images_are_scaled_by_their_space_and_numbers_beside_them_normalised():
    run = make_run(
        "env=gymnasium", "env.id=Showy-v0", "network=cnn", "network.hidden=[8]", *BOTH, "algo=ppo", "algo.envs=2"
    )
    update(run, 2)
    own, parts = run.learner.params["pi"], run.problem.environment.layout.parts
    assert [part.path for part in parts] == ["['n']", "['p']"]
    assert own["input_mean"][0, 0] == pytest.approx(5, abs=0.5)
    assert (own["input_mean"][0, 1:] == 0).all()
    assert (own["input_scale"][0, 1:] == 1).all()


class Showy(gymnasium.Env):
    """Numbers around 5 beside an image."""

    observation_space = spaces.Dict({"n": spaces.Box(-50, 50, (1,)), "p": spaces.Box(0, 255, (4, 4, 1), np.uint8)})
    action_space = spaces.Discrete(2)

    def _seen(self):
        picture = self.np_random.integers(256, size=(4, 4, 1), dtype=np.uint8)
        return {"n": self.np_random.normal(5, 2, 1).astype(np.float32), "p": picture}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        return self._seen(), 1.0, bool(self.np_random.random() < 0.2), False, {}


gymnasium.register("Showy-v0", Showy)
