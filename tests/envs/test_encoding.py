"""Observations of any space as rows: held to Gymnasium's own flattening, and to what networks are shown of them."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space
from support import make_run, update

from rlnet.config import ConfigError, RunFailed
from rlnet.envs import GymnasiumConfig, GymnasiumSimulation, make
from rlnet.envs.encoding import Encoder, encoder_of
from rlnet.envs.faults import EnvironmentFault
from rlnet.learning.policy import Policy

IMAGE = spaces.Box(0, 255, (6, 5, 3), np.uint8)
SPACES = {
    "tuple": spaces.Tuple((spaces.Discrete(4, start=2), spaces.Box(-1, 1, (2,)), spaces.Discrete(1))),
    "nested": spaces.Dict(
        {
            "b": spaces.Tuple((spaces.Discrete(3), spaces.Dict({"z": spaces.MultiDiscrete([2, 3]), "y": IMAGE}))),
            "a": spaces.MultiBinary(3),
            "empty": spaces.Box(0, 1, (0,)),
        }
    ),
    "grids": spaces.Dict({"many": spaces.MultiDiscrete([[3, 4], [2, 2]]), "scalar": spaces.Box(-2, 2, ())}),
    "started": spaces.MultiDiscrete([3, 2], start=[5, -1]),
    "binary": spaces.MultiBinary([2, 2]),
    "whole": spaces.Dict({"n": spaces.Box(-3, 9, (2, 3), np.int32), "flag": spaces.Box(0, 1, (2, 2), np.bool_)}),
    "image": IMAGE,
    "planes": spaces.Box(0, 1, (4, 4), np.uint8),
    "nothing": spaces.Dict({"empty": spaces.Box(0, 1, (0, 3), np.uint8)}),
}


def batch(space, count, seed=0):
    space.seed(seed)
    ones = [space.sample() for _ in range(count)]
    many = gymnasium.vector.utils.create_empty_array(space, count)
    gymnasium.vector.utils.concatenate(space, ones, many)
    assert many in batch_space(space, count)
    return ones, many


def in_order(layout, rows):
    """All numbers of rows in the order of the space, pixels as they were."""
    parts = layout.split(torch.from_numpy(rows))
    whole = [x * part.scale for x, part in zip(parts, layout.parts, strict=True)]
    return torch.cat(whole, -1).numpy()


@pytest.mark.parametrize("name", SPACES)
def test_rows_hold_what_gymnasium_flattens(name):
    space = SPACES[name]
    encoder, (ones, many) = Encoder(space), batch(space, 5)
    rows = encoder.rows(many, 5, "step")
    assert rows.shape == (5, encoder.layout.length)
    assert rows.dtype == (np.uint8 if name in ("nested", "image", "planes", "whole", "nothing") else np.float32)
    expected = np.stack([gymnasium.spaces.utils.flatten(space, one) for one in ones]).astype(np.float32)
    np.testing.assert_allclose(in_order(encoder.layout, rows)[:, : expected.shape[1]], expected, atol=1e-5)
    for k, one in enumerate(ones):
        np.testing.assert_array_equal(encoder.row(one, "step"), rows[k])
        encoder.check(one, "step")
    single, alone = encoder.some(ones[0])
    several, together = encoder.some(many)
    assert (alone, together) == (True, False)
    np.testing.assert_array_equal(np.concatenate([single, several[1:]]), rows)


def test_images_keep_a_byte_for_a_pixel_and_networks_see_them_scaled():
    layout = Encoder(SPACES["nested"]).layout
    numbers = 3 + 3 + 2 + 3  # MultiBinary, Discrete, MultiDiscrete
    assert (layout.length, layout.numbers) == (90 + 4 * numbers, 90 + numbers)
    row = Encoder(IMAGE).rows(np.full((1, 6, 5, 3), 51, np.uint8), 1, "step")
    assert (row.dtype, row.shape) == (np.uint8, (1, 90))
    assert Encoder(IMAGE).layout.split(torch.from_numpy(row))[0].unique().tolist() == [np.float32(51 / 255)]
    planes = Encoder(SPACES["planes"])
    assert planes.layout.split(torch.from_numpy(planes.rows(np.ones((1, 4, 4), np.uint8), 1, "step")))[0].max() == 1


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-1, 1, (2, 3)), spaces.Box(0, 255, (128,), np.uint8)])
def test_indices_and_plain_numbers_are_not_encoded(space):
    assert encoder_of(space) is None


FAULTS = [
    (
        "nested",
        lambda o: {**o, "more": 1},
        r"gave a dict of .*more.* as an observation, the observation space is a Dict of a, b, em",
    ),
    ("nested", lambda o: 3, "gave 3 as an observation, the observation space is a Dict of"),
    ("tuple", lambda o: o[:2], "the observation space is a Tuple of 3"),
    ("tuple", lambda o: (9, o[1], o[2]), r"its observation is 9 in part \[0\], which is not in Discrete\(4, start=2\)"),
    (
        "tuple",
        lambda o: (2, np.array([0, np.nan]), 0),
        r"its observation is \[0.0, nan\] in part \[1\], which is not fin",
    ),
    ("tuple", lambda o: (2, np.zeros(3), 0), r"observation of shape \(3,\) in part \[1\], its space says \(2,\)"),
    ("tuple", lambda o: (2, ["a", "b"], 0), r"gave the observation .* in part \[1\], which is not numeric"),
    ("binary", lambda o: o + 1, "its observation is .*, which is not in MultiBinary"),
    ("image", lambda o: o.astype(np.float32) + 0.5, "gave the float32 observation .*, its space says uint8"),
]


@pytest.mark.parametrize(("name", "spoil", "said"), FAULTS)
def test_observations_outside_of_their_space_are_named_with_the_part(name, spoil, said):
    (one, *_), _ = batch(SPACES[name], 1)
    with pytest.raises(EnvironmentFault, match=said):
        Encoder(SPACES[name]).check(spoil(one), "step")


class Showing(gymnasium.Env):
    """Shows samples of a space, in episodes of three steps of which every other one is cut; keeps all it showed."""

    def __init__(self, space="tuple", fault=None):
        self.observation_space, self.action_space = SPACES[space], spaces.Discrete(2)
        self.shown, self.fault, self.life = [], fault, 0

    def _seen(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.shown.append(self.observation_space.sample())
        return self.shown[-1]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age, self.life = 0, self.life + 1
        return self._seen(), {}

    def step(self, action):
        self.age += 1
        seen, over = self._seen(), self.age == 3
        if self.fault is not None and self.life == 2:
            seen = FAULTS[self.fault][1](seen)
        return seen, 0.0, over and self.life % 2 == 0, over and self.life % 2 == 1, {}


gymnasium.register("Showing-v0", Showing)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", ["tuple", "nested", "image"])
def test_every_transition_has_its_own_observations_in_every_mode(name, mode):
    """The observations of valid steps, in order, are those that the environment showed, final ones among them."""
    env, encoder = Showing(name), Encoder(SPACES[name])
    simulation = GymnasiumSimulation([SyncVectorEnv([lambda: env], autoreset_mode=mode)], [3])
    obs, rows = simulation.reset(), []
    for _ in range(25):
        step = simulation.step(np.zeros((1, 1), np.int64))
        if step.valid[0, 0]:
            begins = not rows or rows[-1][1]
            rows += [(obs[0, 0].copy(), False)] if begins else []
            np.testing.assert_array_equal(rows[-1][0], obs[0, 0])
            rows.append((step.next_obs[0, 0].copy(), bool((step.terminated | step.truncated)[0, 0])))
        obs = step.obs
    assert len(rows) > 20
    for (row, _), seen in zip(rows, env.shown, strict=False):
        np.testing.assert_array_equal(row, encoder.row(seen, "step"))


@pytest.mark.parametrize("stepping", ["sync", "async"])
@pytest.mark.parametrize("fault", [3, 5])
def test_a_fault_in_a_part_ends_the_run_with_environment_step_and_seed(stepping, fault):
    own = (f"+env.kwargs.fault={fault}", "+env.kwargs.space=tuple", f"env.stepping={stepping}")
    run = make_run("env=gymnasium", "env.id=Showing-v0", *own, "algo=ppo", "algo.envs=2", "algo.rollout=8", "seed=4")
    with pytest.raises(RunFailed, match=rf"^env.id=Showing-v0: .*{FAULTS[fault][2]}.* \(in step 4 of seed 4\)$"):
        update(run)
    run.collector.close()


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Text(5), r"observations of Text\(.*are not supported; supported are Discrete"),
        (
            spaces.Dict({"a": spaces.Tuple((spaces.Discrete(2), spaces.Text(5)))}),
            r"found in part \['a'\]\[1\] of the obs",
        ),
        (spaces.Sequence(spaces.Discrete(2)), r"observations of Sequence\(.*\) are not supported"),
        (spaces.Graph(spaces.Discrete(2), None), r"observations of Graph\(.*\) are not supported"),
        (spaces.OneOf([spaces.Discrete(2)]), r"observations of OneOf\(.*\) are not supported"),
        (spaces.Dict({"n": spaces.Discrete(2**21)}), r"have 2097152 numbers, .* 2097152 are in part \['n'\]: at most"),
    ],
)
def test_an_unsupported_space_is_named_with_where_it_stands(space, said):
    SPACES["unsupported"] = space
    try:
        with pytest.raises(ConfigError, match=rf"^env.id=Showing-v0: .*{said}"):
            make(GymnasiumConfig(name="x", gamma=0.9, id="Showing-v0", kwargs={"space": "unsupported"}))
    finally:
        del SPACES["unsupported"]


def test_numbers_outside_of_their_bounds_are_named_with_their_part():
    encoder = Encoder(SPACES["nested"])
    assert encoder.left_by(encoder.rows(batch(SPACES["nested"], 4)[1], 4, "step").reshape(2, 2, -1)) is None
    space = spaces.Dict({"a": spaces.Discrete(3), "p": IMAGE, "v": spaces.Box(-1, 1, (2,))})
    seen = {"a": np.zeros(2, int), "p": np.zeros((2, 6, 5, 3), np.uint8), "v": np.array([[0, 1], [0, 7]], np.float32)}
    encoder = Encoder(space)
    m, n, said = encoder.left_by(encoder.rows(seen, 2, "step").reshape(1, 2, -1))
    assert (m, n) == (0, 1)
    assert said.startswith("its observation holds 7 in part ['v'], outside of Box(-1.0, 1.0")


def test_a_policy_takes_observations_as_the_environment_gives_them():
    run = make_run("env=gymnasium", "env.id=Showing-v0", "+env.kwargs.space=nested", "algo=ppo", "algo.envs=2")
    ones, many = batch(SPACES["nested"], 3)
    policy = Policy(run.trained())
    np.testing.assert_allclose([policy.value(one) for one in ones], policy.value(many), rtol=1e-5)
    assert policy(ones[0]).shape == ()
    with pytest.raises(ValueError, match="the observation space is a Dict of"):
        policy({"b": 1})


@pytest.mark.slow
def test_rows_in_bytes_are_replayed_and_a_resumed_run_goes_on_with_the_same_bits():
    own = (
        "env=gymnasium",
        "env.id=Showing-v0",
        "+env.kwargs.space=nested",
        "network=cnn",
        "network.hidden=[8]",
        "seeds=2",
    )
    replayed = ("algo=dqn", "algo.envs=2", "algo.rollout=8", "algo.learning_starts=32", "algo.batch=8")
    run, other = (make_run(*own, *replayed) for _ in range(2))
    update(run, 4)
    batch = run.replay.sample()
    assert batch.obs.dtype == batch.next_obs.dtype == torch.uint8
    other.load_state_dict(run.state_dict())
    run_again = make_run(*own, *replayed)
    run_again.load_state_dict(run.state_dict())
    update(run_again, 3)
    update(other, 3)
    assert torch.equal(run_again.learner.theta, other.learner.theta)
    assert not torch.equal(run.learner.theta, other.learner.theta)
