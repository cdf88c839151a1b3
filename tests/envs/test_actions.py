"""Products of finite choices as actions: how environments receive them, their masks, and that they are learned."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from support import make_run, trained, update

from rlnet.config import ConfigError
from rlnet.envs import GymnasiumConfig, GymnasiumSimulation, make
from rlnet.envs.actions import Actions, joint_mask
from rlnet.policies.distributions import Categorical, Factored

SPACES = {
    "multi": (spaces.MultiDiscrete([3, 2], start=[1, 5]), (3, 2)),
    "grid": (spaces.MultiDiscrete([[2, 3], [1, 4]]), (2, 3, 1, 4)),
    "binary": (spaces.MultiBinary([2, 2]), (2, 2, 2, 2)),
    "whole": (spaces.Box(np.array([-1, 4]), np.array([1, 5]), dtype=np.int16), (3, 2)),
    "tuple": (spaces.Tuple((spaces.Discrete(2, start=7), spaces.MultiBinary(2))), (2, 2, 2)),
    "dict": (spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Tuple((spaces.MultiDiscrete([2, 2]),))}), (2, 2, 3)),
}


class Taking(gymnasium.Env):
    """Refuses what is not in its action space, and keeps the rest; info["action_mask"] if `masked`."""

    observation_space = spaces.Box(-1, 1, (2,))

    def __init__(self, actions="multi", masked=False):
        self.action_space, self.taken, self.masked = SPACES[actions][0], [], masked

    def _seen(self):
        mask = {"action_mask": np.array([1, 0, 1, 0, 1], np.int8)} if self.masked else {}
        return np.zeros(2, np.float32), mask

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen()

    def step(self, action):
        assert self.action_space.contains(action), action
        self.taken.append(action)
        seen, info = self._seen()
        return seen, 0.0, False, False, info


gymnasium.register("Taking-v0", Taking)


@pytest.mark.parametrize("name", SPACES)
def test_every_combination_arrives_as_an_action_of_the_space(name):
    space, factors = SPACES[name]
    actions, env = Actions(space), Taking(name)
    assert actions.factors == factors
    assert (actions.n, actions.bounds, actions.outputs) == (None, None, sum(factors))
    simulation = GymnasiumSimulation([SyncVectorEnv([lambda: env])], [0])
    simulation.reset()
    every = list(np.ndindex(*factors))
    for choice in every:
        simulation.step(np.array([[choice]]))
    flat = {tuple(gymnasium.spaces.utils.flatten(space, taken).tolist()) for taken in env.taken}
    assert len(flat) == len(every)
    assert space.contains(actions.of_one(np.array(every[-1])))


def test_choices_stand_in_the_order_of_the_space():
    assert Actions(SPACES["multi"][0]).of_one(np.array([2, 1])).tolist() == [3, 6]
    assert Actions(SPACES["whole"][0]).of_one(np.array([0, 1])).tolist() == [-1, 5]
    chosen = Actions(SPACES["dict"][0]).of_one(np.array([0, 1, 2]))
    assert (chosen["a"][0].tolist(), chosen["b"]) == ([0, 1], 2)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Text(3), r"actions of Text\(.*are not supported; supported are"),
        (
            spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(-1, 1, (2,))}),
            r"actions of Box.* beside others.* at \['b",
        ),
        (spaces.Tuple((spaces.Discrete(2), spaces.Sequence(spaces.Discrete(2)))), r"of Sequence.* found at \[1\]"),
        (spaces.Box(0, 10**6, (2,), np.int64), "have up to 1000001 values, at most 4096"),
    ],
)
def test_unsupported_actions_are_named_with_where_they_stand(space, said):
    SPACES["unsupported"] = space, ()
    try:
        with pytest.raises(ConfigError, match=rf"^env.id=Taking-v0: .*{said}"):
            make(GymnasiumConfig(name="x", gamma=0.9, id="Taking-v0", kwargs={"actions": "unsupported"}))
    finally:
        del SPACES["unsupported"]


def test_a_mask_has_an_entry_for_each_choice_and_values_get_the_product():
    own = ("env=gymnasium", "env.id=Taking-v0", "+env.kwargs.masked=true", "algo.envs=2")
    run = make_run(*own, "algo=ppo", "algo.rollout=32")
    rollout = update(run)
    assert rollout.state.mask.shape == (32, 1, 2, 5)
    assert set(map(tuple, rollout.action.flatten(0, 2).tolist())) == {(0, 1), (2, 1)}
    run = make_run(*own, "algo=dqn", "algo.rollout=32", "algo.learning_starts=64")
    rollout = update(run)
    assert rollout.state.mask.flatten(0, 2).unique(dim=0).tolist() == [[False, True, False, False, False, True]]
    assert set(rollout.action.flatten().tolist()) == {1, 5}
    every = np.random.default_rng(0).random((4, 9)) < 0.5
    for (a, b, c), row in zip(np.ndindex(2, 3, 4), joint_mask(every, (2, 3, 4)).T, strict=True):
        np.testing.assert_array_equal(row, every[:, a] & every[:, 2 + b] & every[:, 5 + c])


class Matching(gymnasium.Env):
    """One step: pays 1 for each of three binary choices that equals what is shown in a nested observation."""

    observation_space = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Tuple((spaces.MultiBinary(2),))})
    action_space = spaces.MultiBinary(3)

    def _seen(self):
        self.bits = self.np_random.integers(2, size=3).astype(np.int8)
        return {"a": int(self.bits[0]), "b": (self.bits[1:],)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        pay = float((action == self.bits).sum())
        return self._seen(), pay, True, False, {}


gymnasium.register("Matching-v0", Matching)


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "kind"), [("ppo", Factored), ("dqn", Categorical)])
def test_products_are_learned_by_factors_or_multiplied_out(algo, kind):
    """V* = 3 in every state, a random policy has 1.5."""
    own = ("env=gymnasium", "env.id=Matching-v0", "optimizer.learning_rate=0.01", "algo.envs=8", "network.hidden=[32]")
    replayed = ("algo.learning_starts=256", "schedule=constant", "schedule.value=0.1") if algo == "dqn" else ()
    epochs = ("algo.epochs=4",) if algo == "ppo" else ()
    run = trained(*own, f"algo={algo}", *replayed, *epochs, "steps=8000")
    actions = run.problem.context.actions
    assert isinstance(actions, kind)
    assert (actions.outputs, run.problem.environment.n_actions) == ((6, None) if kind is Factored else (8, 8))
    run.collector.episodes()
    mean = torch.cat([update(run).reward.flatten() for _ in range(100 if algo == "dqn" else 4)]).mean()
    assert mean > (2.9 if algo == "ppo" else 2.75)  # one action in ten is random: 3 − 0.1·1.5 = 2.85


def test_too_many_combinations_for_values_are_refused_with_who_can():
    SPACES["large"] = spaces.MultiBinary(20), (2,) * 20
    try:
        with pytest.raises(
            ConfigError, match=r"^env.id=Taking-v0: algo=dqn needs a value .* 1.049e\+06.*use one of.*ppo"
        ):
            make_run("env=gymnasium", "env.id=Taking-v0", "+env.kwargs.actions=large", "algo=dqn")
        assert make_run("env=gymnasium", "env.id=Taking-v0", "+env.kwargs.actions=large", "algo=a2c") is not None
    finally:
        del SPACES["large"]
