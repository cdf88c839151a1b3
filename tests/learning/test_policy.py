"""A learned policy in the hands of a user: `env.step(policy(obs))` plays, for every pair of spaces."""

from copy import deepcopy
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from support import make_run, quick_rows, update

from rlnet.learning.exporting import export
from rlnet.learning.messages import warn_flattened
from rlnet.learning.players import observation
from rlnet.learning.policy import Policy
from rlnet.learning.watching import watched
from rlnet.nets.normalized import MEAN, SCALE, UNIT
from rlnet.report.moment import told

pytestmark = pytest.mark.usefixtures("without_pictures")

IMAGE = spaces.Box(0, 255, (8, 9, 3), np.uint8)
OBSERVATIONS = {
    "discrete": spaces.Discrete(5, start=3),
    "vector": spaces.Box(-1, 1, (3,), np.float64),
    "one number": spaces.Box(-1, 1, (1,)),
    "scalar": spaces.Box(-1, 1, ()),
    "matrix": spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
    "one row": spaces.Box(-1, 1, (1, 4)),
    "whole": spaces.Box(-3, 7, (2, 2), np.int64),
    "image": IMAGE,
    "multi": spaces.MultiDiscrete([3, 2], start=[1, 5]),
    "binary": spaces.MultiBinary([2, 2]),
    "tuple": spaces.Tuple((spaces.Discrete(2, start=7), spaces.Box(-1, 1, (2, 1)))),
    "nested": spaces.Dict(
        eye=IMAGE, inner=spaces.Dict(place=spaces.Tuple((spaces.Discrete(3, start=-1), spaces.Box(0, 9, (2,)))))
    ),
    "masked": spaces.Dict(observation=spaces.Box(-1, 1, (2, 2)), action_mask=spaces.MultiBinary(5)),
    "masked parts": spaces.Dict(
        a=spaces.Discrete(4, start=2), b=spaces.Box(-1, 1, (2,)), action_mask=spaces.Box(0, 1, (5,), np.int8)
    ),
}
ACTIONS = {
    "discrete": spaces.Discrete(5, start=2),
    "multi": spaces.MultiDiscrete([3, 2], start=[1, 5]),
    "grid": spaces.MultiDiscrete([[2, 3], [1, 4]]),
    "binary": spaces.MultiBinary([2, 2]),
    "whole": spaces.Box(np.array([-1, 4]), np.array([1, 5]), dtype=np.int16),
    "tuple": spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([3, 2]), spaces.Discrete(2, start=7))),
    "dict": spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Tuple((spaces.MultiDiscrete([2, 2]),))}),
    "real": spaces.Box(-2, 2, (2, 2)),
    "real64": spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 3.0]), dtype=np.float64),
}
# observations, actions, algorithm: each space once, each way of acting, masks of actions and of products
PAIRS = [
    *((name, "discrete", "dqn") for name in OBSERVATIONS),
    *(("matrix", name, "ppo") for name in ACTIONS),
    *(("vector", name, "dqn") for name in ACTIONS if not name.startswith("real")),
    *((name, "multi", algo) for name in ("masked", "masked parts") for algo in ("ppo", "dqn")),
    ("nested", "tuple", "ppo"),
    ("discrete", "tuple", "dqn"),
    ("image", "real", "sac"),
    ("scalar", "real64", "sac"),
]


class Asking(gymnasium.Env):
    """Shows anything of its space, takes nothing but actions of its space, and keeps both."""

    lives: ClassVar = []  # all that were made

    def __init__(self, sees="vector", acts="discrete"):
        self.observation_space, self.action_space = deepcopy(OBSERVATIONS[sees]), deepcopy(ACTIONS[acts])
        self.shown, self.taken = [], []
        self.lives.append(self)

    def _see(self):
        obs = self.observation_space.sample()
        if isinstance(obs, dict) and "action_mask" in obs:
            obs["action_mask"][:] = self.np_random.permutation([1, 0, 0, 0, 0])
            if not isinstance(self.action_space, spaces.Discrete):
                obs["action_mask"][[0, 3]] = 1
        self.shown.append(obs)
        return obs, {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.age = 0
        return self._see()

    def step(self, action):
        assert self.action_space.contains(action), action
        self.age += 1
        self.taken.append(action)
        return self._see()[0], 1.0, self.age > 9, False, {}


gymnasium.register("Asking-v0", Asking)
LEARNING = {
    "dqn": ("algo.learning_starts=8", "algo.batch=8", "algo.rollout=8"),
    "ppo": ("algo.rollout=8",),
    "sac": ("algo.learning_starts=8", "algo.batch=8", "gamma=0.9"),
}


def learned(sees: str, acts: str, algo: str) -> Policy:
    own = ("env=gymnasium", "env.id=Asking-v0", f"+env.kwargs.sees={sees}", f"+env.kwargs.acts='{acts}'")
    run = make_run(*own, f"algo={algo}", "algo.envs=2", *LEARNING[algo])
    update(run, 3)
    return Policy(run.trained())


def equal(one, other) -> bool:
    """Whether two actions are the same, parts included."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return np.shape(one) == np.shape(other) and bool(np.allclose(one, other, rtol=1e-5, atol=1e-5))


def batch_of(space, ones):
    return concatenate(space, ones, create_empty_array(space, len(ones)))


@pytest.mark.parametrize(("sees", "acts", "algo"), quick_rows(PAIRS, 14))
def test_the_environment_steps_with_what_the_policy_says_as_in_evaluation(sees, acts, algo):
    policy, env = learned(sees.replace(" ", r"\ "), acts, algo), Asking(sees, acts)
    obs, _ = env.reset(seed=0)
    for step in range(12):
        obs, _, terminated, *_ = env.step(policy(obs, sample=step % 2 == 1))
        obs = env.reset()[0] if terminated else obs
    trained = policy.trained
    simulation = trained.problem.environment.simulate([0], 2)
    one, two = Asking.lives[-2:]
    seen, mask = simulation.reset(), simulation.mask
    for _ in range(8):
        action = trained.best(observation(seen, mask, torch.device("cpu")))
        step = simulation.step(action.numpy())
        seen, mask = step.obs, step.mask
    for env in (one, two):
        said = [policy(obs) for obs in env.shown[:8]]
        assert all(map(equal, said, env.taken)), (said, env.taken)
        for count in (8, 1):
            batch = batch_of(env.observation_space, env.shown[:count])
            assert all(map(equal, said[:count], iterate(batch_space(env.action_space, count), policy(batch))))
            values = [policy.value(obs) for obs in env.shown[:count]]
            np.testing.assert_allclose(policy.value(batch), values, rtol=1e-4, atol=1e-5)
            assert np.shape(values[0]) == ()
            if algo == "dqn":
                assert policy.q(batch).shape == (count, trained.problem.environment.n_actions)
                np.testing.assert_allclose(policy.q(batch)[0], policy.q(env.shown[0]), rtol=1e-4, atol=1e-5)
    for moment in watched(policy, render_mode=None, episodes=1, seed=0, sample=False, most=3):
        assert "reward" in told(moment)


WRONG = {
    "discrete": (2, 8, 3.0, [3, 2], "left", None),
    "vector": (np.zeros(4), np.zeros((2, 4)), [0, np.nan, 0], "abc", 1.0, [[0, 0, 0], [0]], np.zeros((1, 1, 3))),
    "one number": (0.5, [0.5, 0.5], [[0.5, 0.5]]),
    "whole": (np.full((2, 2), 2**24 + 1), np.zeros((3, 2))),
    "image": (np.zeros((8, 9)), np.full((8, 9, 3), 0.5)),
    "nested": ({"eye": np.zeros((8, 9, 3), np.uint8)}, 3, []),
}


@pytest.mark.parametrize("sees", WRONG)
def test_what_is_no_observation_is_refused_in_a_sentence(sees):
    policy = learned(sees.replace(" ", r"\ "), "discrete", "dqn")
    for obs in WRONG[sees]:
        with pytest.raises(ValueError, match=r"^obs"):
            policy(obs)


def test_masks_of_several_forms_and_of_none():
    policy = learned("vector", "multi", "dqn")
    seen = np.zeros((2, 3))
    masks = np.array([[0, 1, 0, 0, 1], [0, 0, 1, 1, 0]])
    assert policy(seen, masks).tolist() == [[2, 6], [3, 5]]
    assert policy(seen[0], masks[0].astype(bool)).tolist() == [2, 6]
    assert policy(seen, np.zeros_like(masks)).tolist() == policy(seen).tolist()  # as at the end of an episode
    for wrong, said in ((masks[:1], r"\(1, 5\), it must be \(2, 5\)"), (masks[:, :4], "there are 5 actions")):
        with pytest.raises(ValueError, match=f"action_mask has the shape {said}" if "must" in said else said):
            policy(seen, wrong)
    for wrong in (masks * 2, masks + 0.0):
        with pytest.raises(ValueError, match="action_mask"):
            policy(seen, wrong)


def test_members_and_seeds_are_whole_numbers_of_python_or_numpy():
    policy = learned("vector", "multi", "dqn")
    assert repr(policy.member(np.int64(0))) == repr(policy.member(0))  # as argmin gives it
    for wrong in ("0", 1, -1, 0.0, None, True):
        with pytest.raises(ValueError, match=rf"member={wrong!r}: must be in 0\.\.0"):
            policy.member(wrong)
    seen = np.zeros((20, 3))
    policy.reseed(3)
    drawn = policy(seen, sample=True)
    policy.reseed(np.uint8(3))
    np.testing.assert_array_equal(policy(seen, sample=True), drawn)
    for wrong in ("0", -1, 0.5, None, True, 2**63):
        with pytest.raises(ValueError, match=r"seed=.*: must be a whole number from 0"):
            policy.reseed(wrong)


EXPORTED = [
    *(("discrete", "tuple", "dqn"), ("masked", "multi", "dqn"), ("nested", "discrete", "dqn")),
    *(("matrix", "real", "ppo"), ("matrix", "dict", "ppo"), ("image", "grid", "ppo"), ("tuple", "whole", "dqn")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("sees", "acts", "algo"), quick_rows(EXPORTED, 1))
def test_an_exported_policy_takes_and_gives_what_the_environment_does(sees, acts, algo, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    policy, env = learned(sees, acts, algo), Asking(sees, acts)
    _, about = export(policy.trained, tmp_path, ("torch", "onnx"))
    env.reset(seed=3)
    for _ in range(6):
        env._see()
    batch = batch_of(env.observation_space, env.shown)
    if sees == "masked":
        inputs = {"obs": batch["observation"], "mask": batch["action_mask"].astype(bool)}
    elif sees == "nested":
        place, numbers = batch["inner"]["place"]
        inputs = {"eye": batch["eye"], "inner_place_0": np.eye(3)[place + 1], "inner_place_1": numbers}
    elif sees == "tuple":
        inputs = {"obs": np.stack([spaces.flatten(env.observation_space, obs) for obs in env.shown])}
    else:
        inputs = {"obs": batch}
    assert set(inputs) == set(about["inputs"])
    inputs = {name: np.asarray(x, about["inputs"][name]["type"]) for name, x in inputs.items()}
    assert all(list(x.shape[1:]) == about["inputs"][name]["shape"][1:] for name, x in inputs.items())
    session = runtime.InferenceSession(tmp_path / "policy.onnx", providers=["CPUExecutionProvider"])
    action, value = session.run(["action", "value"], inputs)
    np.testing.assert_allclose(value, policy.value(batch), rtol=1e-4, atol=1e-4)
    if isinstance(env.action_space, spaces.Tuple | spaces.Dict):
        assert about["action"].startswith("a row of the choices of [")
        parts = [np.reshape(x, (len(env.shown), -1)) for x in leaves_of(policy(batch))]
        np.testing.assert_array_equal(action, np.concatenate(parts, axis=1))
    else:
        assert about["action"] == "as the environment takes it"
        assert action.shape[1:] == env.action_space.shape
        np.testing.assert_allclose(action, policy(batch), rtol=1e-4, atol=1e-4)


def leaves_of(action) -> list[np.ndarray]:
    if isinstance(action, dict):
        action = tuple(action.values())
    return [x for own in action for x in leaves_of(own)] if isinstance(action, tuple) else [action]


@pytest.mark.parametrize(
    ("sees", "network"), [("nested", "mlp"), ("image", "linear"), ("image", "cnn"), ("matrix", "mlp")]
)
def test_who_flattens_an_image_is_told_of_the_network_for_images(sees, network, caplog):
    own = ("env=gymnasium", "env.id=Asking-v0", f"+env.kwargs.sees={sees}", "algo=ppo", "algo.envs=2")
    warn_flattened(make_run(*own, f"network={network}"))
    at = " at ['eye']" if sees == "nested" else ""
    said = f"network={network} flattens the images of env.id=Asking-v0 (8×9×3{at}); network=cnn sees them as images"
    assert (said in caplog.text) == (network != "cnn" and sees != "matrix")
    assert not caplog.text or said in caplog.text


@pytest.mark.slow
def test_statistics_of_observations_and_returns_are_part_of_what_is_exported(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    own = ("env=mountain_car", "network.normalize_observations=true", "network.normalize_returns=true")
    run = make_run(*own, "algo=ppo", "algo.envs=2", "algo.rollout=16")
    update(run, 3)
    policy, seen = Policy(run.trained()), np.random.default_rng(0).uniform((-1.2, -0.07), (0.6, 0.07), (50, 2))
    export(policy.trained, tmp_path, ("onnx",))
    session = runtime.InferenceSession(tmp_path / "policy.onnx", providers=["CPUExecutionProvider"])
    action, value = session.run(["action", "value"], {"obs": seen.astype(np.float32)})
    np.testing.assert_array_equal(action, policy(seen))
    np.testing.assert_allclose(value, policy.value(seen), rtol=1e-4, atol=1e-4)
    plain = {name: own.clone() for name, own in policy.trained.params["v"].items()}
    moved = [name for name in plain if name in (MEAN, SCALE, UNIT)]
    assert len(moved) == 3
    for name in moved:
        policy.trained.params["v"][name].fill_(float(name != MEAN))
        assert abs(policy.value(seen) - value).max() > 1e-3, name
        policy.trained.params["v"][name].copy_(plain[name])
