"""Any vector environment as a simulation, in all three autoreset modes."""

from functools import partial
from itertools import chain, pairwise

import gymnasium
import numpy as np
import pytest
import torch
from envs_chi_square import assert_samples, assert_starts
from gymnasium import spaces
from gymnasium.utils import EzPickle
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from support import quick

from rlnet.config import RunFailed
from rlnet.envs import (
    GridworldConfig,
    OnDevice,
    TabularEnv,
    TabularVectorEnv,
    build_gridworld,
    build_random_walk,
    preset,
)
from rlnet.envs import GymnasiumSimulation as Simulation
from rlnet.envs.checks import Checked

MODES = list(AutoresetMode)
LEFT, RIGHT = 0, 1


def sync(mdp, envs, mode, max_steps=None):
    return SyncVectorEnv([lambda: TabularEnv(mdp, max_episode_steps=max_steps)] * envs, autoreset_mode=mode)


def sync_wrapped(mdp, envs, mode, max_steps=None):
    limit = 10**6 if max_steps is None else max_steps
    return SyncVectorEnv([lambda: TimeLimit(TabularEnv(mdp), limit)] * envs, autoreset_mode=mode)


def tabular(mdp, envs, mode, max_steps=None):
    return TabularVectorEnv(mdp, envs, autoreset_mode=mode, max_episode_steps=max_steps)


MAKERS = [sync, sync_wrapped, tabular]


def walk():
    return build_random_walk(preset("random_walk", length=5))


def GymnasiumSimulation(vectors, seeds):
    """As tensors."""
    return OnDevice(Simulation(vectors, seeds), "cpu")


def transitions(simulation, obs, actions):
    """Per environment the list of valid (obs, action, next_obs, reward, terminated, truncated)."""
    found = [[] for _ in range(obs.numel())]
    for action in actions:
        step = simulation.step(action)
        columns = (obs, action, step.next_obs, step.reward, step.terminated, step.truncated)
        rows = zip(*(c.flatten().tolist() for c in columns), strict=True)
        for n, (row, valid) in enumerate(zip(rows, step.valid.flatten().tolist(), strict=True)):
            if valid:
                found[n].append(row)
        assert not (step.terminated & step.truncated).any()
        assert not ((step.terminated | step.truncated | (step.reward != 0)) & ~step.valid).any()
        obs = step.obs
    return found


@pytest.mark.parametrize("make_vector", MAKERS)
@pytest.mark.parametrize("mode", MODES)
def test_terminated_and_truncated_episodes_in_every_mode(make_vector, mode):
    vector = make_vector(walk(), 3, mode, max_steps=4)
    simulation = GymnasiumSimulation([vector], [0])
    obs = simulation.reset()
    assert obs.tolist() == [[2, 2, 2]]
    # Environment 0 leaves on the right, 1 on the left, 2 goes to and fro until the time limit.
    actions = torch.tensor([[[RIGHT, LEFT, (RIGHT, LEFT)[t % 2]]] for t in range(20)])
    if mode is AutoresetMode.NEXT_STEP:  # environment 2 keeps its rhythm over the ignored actions
        actions[:, 0, 2] = torch.tensor([(RIGHT, LEFT)[(t % 5) % 2] for t in range(20)])
    found = transitions(simulation, obs, actions)
    right = [(2, RIGHT, 3, 0.0, False, False), (3, RIGHT, 4, 0.0, False, False), (4, RIGHT, 4, 1.0, True, False)]
    left = [(2, LEFT, 1, 0.0, False, False), (1, LEFT, 0, 0.0, False, False), (0, LEFT, 0, -1.0, True, False)]
    cut = [
        (2, RIGHT, 3, 0.0, False, False),
        (3, LEFT, 2, 0.0, False, False),
        (2, RIGHT, 3, 0.0, False, False),
        (3, LEFT, 2, 0.0, False, True),
    ]
    lengths = (15, 15, 16) if mode is AutoresetMode.NEXT_STEP else (20, 20, 20)
    for rows, cycle, length in zip(found, (right, left, cut), lengths, strict=True):
        assert len(rows) == length
        assert rows == (cycle * 7)[:length]


@pytest.mark.parametrize("make_vector", MAKERS)
@pytest.mark.parametrize("mode", quick(MODES, 1))
def test_random_rollouts_sample_the_model_in_every_mode(make_vector, mode):
    mdp = build_gridworld(GridworldConfig(name="test", gamma=0.9, map="..G\n.#.\n...", slip=0.3, step_reward=-1.0))
    vectors = [make_vector(mdp, 4, mode, max_steps=6) for _ in range(3)]
    simulation = GymnasiumSimulation(vectors, [0, 1, 2])
    obs = simulation.reset()
    first = obs.flatten().tolist()
    actions = torch.randint(0, 4, (500, 3, 4), generator=torch.Generator().manual_seed(0))
    rows = transitions(simulation, obs, actions)
    for episodes in rows:  # each transition begins where the one before it ended, or in a new episode
        age = 0
        for before, after in pairwise(episodes):
            age += 1
            ended = before[4] or before[5]
            assert ended or after[0] == before[2]
            assert before[5] == (age == 6 and not before[4])
            age = 0 if ended else age
    obs, action, next_obs, reward, terminated, _ = (np.array(c) for c in zip(*chain(*rows), strict=True))
    assert_samples(mdp, obs.astype(int), action.astype(int), next_obs.astype(int), reward, terminated.astype(bool))
    starts = [after[0] for e in rows for before, after in pairwise(e) if before[4] or before[5]]
    assert_starts(mdp, np.array(starts + first))


def test_next_step_marks_the_reset_as_no_transition():
    simulation = GymnasiumSimulation([tabular(walk(), 1, AutoresetMode.NEXT_STEP)], [0])
    simulation.reset()
    steps = [simulation.step(torch.tensor([[RIGHT]])) for _ in range(5)]
    assert [s.valid.item() for s in steps] == [True, True, True, False, True]
    assert [s.next_obs.item() for s in steps] == [3, 4, 4, 2, 3]
    assert steps[3].reward.item() == 0


class Reusing(gymnasium.Env):
    """Counts its steps in arrays of its own, which it gives again and again; it is cut after three."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Dict({"seen": spaces.Box(0, 9, (2,)), "action_mask": spaces.MultiBinary(2)})

    def __init__(self, told=False):
        self.array, self.mask = np.zeros(2, np.float32), np.ones(2, np.int8)
        self.told, self.dict = told, {"seen": self.array, "action_mask": self.mask}
        self.observation_space = self.observation_space["seen"] if told else self.observation_space

    def _seen(self):
        self.array[:], self.mask[:] = self.age, (1, self.age == 3)
        return (self.array, {"action_mask": self.mask}) if self.told else (self.dict, {})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self._seen()

    def step(self, action):
        self.age += 1
        obs, info = self._seen()
        return obs, 0.0, False, self.age == 3, info


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_arrays_that_an_environment_gives_again_are_as_they_were(mode, told):
    vector = SyncVectorEnv([lambda: Checked(Reusing(told))] * 2, autoreset_mode=mode)
    simulation = Simulation([vector], [0], masks=told)
    simulation.reset()
    steps = [simulation.step(np.zeros((1, 2), np.int64)) for _ in range(7)]
    valid = [step for step in steps if step.valid.all()]
    ages = [1, 2, 3] * 3
    assert [step.next_obs[0, 0, 0] for step in valid] == ages[: len(valid)]
    assert [bool(step.next_mask[0, 1, 1]) for step in valid] == [age == 3 for age in ages[: len(valid)]]


def test_same_step_without_final_observations_is_an_error():
    class Careless(TabularVectorEnv):
        def step(self, actions):
            *rest, infos = super().step(actions)
            infos.pop("final_obs", None)
            return (*rest, infos)

    simulation = GymnasiumSimulation([Careless(walk(), 1, autoreset_mode=AutoresetMode.SAME_STEP)], [0])
    simulation.reset()
    for _ in range(2):
        simulation.step(torch.tensor([[RIGHT]]))
    with pytest.raises(RuntimeError, match="sub-environment 0 ended under SAME_STEP autoreset without"):
        simulation.step(torch.tensor([[RIGHT]]))


MAKERS_OF_CARTPOLE = {
    "sync": partial(gymnasium.make_vec, "CartPole-v1", 2, vectorization_mode="sync", max_episode_steps=12),
    "whole": partial(gymnasium.make_vec, "CartPole-v1", 2, vectorization_mode="vector_entry_point"),
}


def cartpole(kind, seeds):
    return GymnasiumSimulation([MAKERS_OF_CARTPOLE[kind]() for _ in seeds], seeds)


def run(simulation, steps, members=None, seed=0):
    actions = torch.randint(0, 2, (steps, 4, 2), generator=torch.Generator().manual_seed(seed))
    if members is not None:
        actions = actions[:, members]
    return [torch.stack(c) for c in zip(*(simulation.step(a)[:6] for a in actions), strict=True)]


@pytest.mark.parametrize("kind", MAKERS_OF_CARTPOLE)
def test_a_member_does_what_it_would_do_alone(kind):
    seeds = [3, 0, 8, 5]
    simulation = cartpole(kind, seeds)
    first = simulation.reset()
    assert first.shape == (4, 2, 4)
    assert first.dtype == torch.float32
    together = run(simulation, 60)
    assert (together[2] | together[3]).any()
    for m, seed in enumerate(seeds):
        alone = cartpole(kind, [seed])
        assert torch.equal(alone.reset(), first[[m]])
        for whole, part in zip(together, run(alone, 60, members=[m]), strict=True):
            assert torch.equal(whole[:, [m]], part)
    assert torch.equal(simulation.reset(seeds), first)
    assert not torch.equal(simulation.reset(), first)


@pytest.mark.parametrize("kind", MAKERS_OF_CARTPOLE)
def test_goes_on_exactly_from_a_saved_state(kind):
    simulation = cartpole(kind, [0, 1, 2, 3])
    simulation.reset()
    run(simulation, 30)
    state = simulation.state_dict()
    expected = run(simulation, 50, seed=1)
    other = cartpole(kind, [4, 5, 6, 7])
    other.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(expected, run(other, 50, seed=1), strict=True))


def test_an_environment_that_cannot_be_saved_says_so():
    class Holding(TabularEnv):
        def __init__(self):
            super().__init__(walk())
            self.resource = (number for number in range(3))  # generators cannot be pickled

    simulation = GymnasiumSimulation([SyncVectorEnv([Holding])], [0])
    simulation.reset()
    with pytest.raises(RuntimeError, match="cannot be saved"):
        simulation.load_state_dict(simulation.state_dict())


class Forgetful(TabularEnv, EzPickle):
    def __init__(self):
        EzPickle.__init__(self)
        super().__init__(walk())


class Mindful(Forgetful):
    def __getstate__(self):
        return self.__dict__

    def __setstate__(self, state):
        self.__dict__.update(state)


def test_what_is_pickled_without_its_state_cannot_be_saved():
    """LunarLander, those of MuJoCo and Atari are pickled as the arguments that they were made with."""
    simulation = GymnasiumSimulation([SyncVectorEnv([lambda: TimeLimit(Forgetful(), 9)])], [0])
    simulation.reset()
    state = simulation.state_dict()
    assert state["environments"] is None
    assert state["reason"].endswith("cannot be saved: Forgetful is pickled without its state (by EzPickle)")
    simulation = GymnasiumSimulation([SyncVectorEnv([Mindful])], [0])
    simulation.reset()
    state = simulation.state_dict()
    other = GymnasiumSimulation([SyncVectorEnv([Mindful])], [1])
    other.load_state_dict(state)
    assert other.simulation._vectors[0].envs[0].state == simulation.simulation._vectors[0].envs[0].state


def test_spaces_that_start_elsewhere_count_from_zero():
    class Shifted(gymnasium.Env):
        observation_space = spaces.Discrete(5, start=10)
        action_space = spaces.Discrete(2, start=5)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return 10, {}

        def step(self, action):
            return 8 + action, 0.0, False, False, {}

    simulation = GymnasiumSimulation([SyncVectorEnv([Shifted, Shifted])], [0])
    assert simulation.reset().tolist() == [[0, 0]]
    assert simulation.step(torch.tensor([[0, 1]])).next_obs.tolist() == [[3, 4]]


class Counting(gymnasium.Env):
    """Whole numbers that rise by one from `first` on."""

    action_space = spaces.Discrete(2)

    def __init__(self, first, dtype=np.int64):
        self.first, self.dtype = first, dtype
        self.observation_space = spaces.Box(0, 2**31 - 1, (2,), dtype)

    def reset(self, *, seed=None, options=None):
        self.number = self.first
        return np.array([self.number, 0], self.dtype), {}

    def step(self, action):
        self.number += 1
        return np.array([self.number, 0], self.dtype), 0.0, False, False, {}


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint32])
def test_whole_numbers_keep_their_identity_or_are_refused(dtype):
    simulation = Simulation([SyncVectorEnv([lambda: Counting(2**24 - 1, dtype)])], [0])
    assert simulation.reset()[0, 0, 0] == 2**24 - 1
    assert simulation.step(np.zeros((1, 1), np.int64)).obs[0, 0, 0] == 2**24
    with pytest.raises(RunFailed, match="an observation holds 16777217, but float32"):
        simulation.step(np.zeros((1, 1), np.int64))


class Recording(gymnasium.Env):
    """Returns the sum of the action as the reward, and keeps the action."""

    observation_space = spaces.Discrete(1)

    def __init__(self, action_space):
        self.action_space, self.taken = action_space, []

    def vector(self):
        return SyncVectorEnv([lambda: self, lambda: Recording(self.action_space)])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        self.taken.append(action)
        return 0, float(action.sum()), False, False, {}


def test_real_actions_arrive_in_their_shape_and_inside_of_the_bounds():
    low = np.array([[-2.0, -np.inf, 0.0], [-1.0, -1.0, -1.0]], dtype=np.float32)
    env = Recording(spaces.Box(low, 3.0))
    simulation = GymnasiumSimulation([env.vector()], [0])
    simulation.reset()
    action = torch.tensor([[[-5.0, -50.0, -5.0, 0.5, 4.0, -0.5], [1.0] * 6]])
    step = simulation.step(action)
    expected = np.array([[-2.0, -50.0, 0.0], [0.5, 3.0, -0.5]], dtype=np.float32)
    assert env.action_space.contains(env.taken[0])
    np.testing.assert_array_equal(env.taken[0], expected)
    assert step.reward.tolist() == [[expected.sum(), 6.0]]
    assert [bound.shape for bound in simulation.simulation.action_bounds] == [(6,), (6,)]


class Overflowing(Recording):
    """Its steps overflow."""

    def step(self, action):
        return super().step(np.minimum(np.exp(np.full(2, 1e3)), 1.0))


@pytest.mark.parametrize("made", ["warn", "raise"])
def test_environments_meet_errors_of_numpy_as_they_did_when_they_were_made(made):
    with np.errstate(over=made):
        simulation = Simulation([Overflowing(spaces.Discrete(2)).vector()], [0])
    simulation.reset()
    expected = (
        pytest.warns(RuntimeWarning)
        if made == "warn"
        else pytest.raises(RunFailed, match="FloatingPointError: overflow")
    )
    with np.errstate(over="ignore"), expected:  # as a collector steps
        simulation.step(np.zeros((1, 2), np.int64))
    assert np.geterr()["over"] == "warn"


def test_what_a_simulation_refuses():
    with pytest.raises(ValueError, match="1 vector environments for 2 seeds"):
        GymnasiumSimulation([tabular(walk(), 1, AutoresetMode.NEXT_STEP)], [0, 1])
    silent = tabular(walk(), 1, AutoresetMode.NEXT_STEP)
    silent.metadata = {}
    with pytest.raises(ValueError, match=r"metadata\['autoreset_mode'\]=None"):
        GymnasiumSimulation([silent], [0])
    with pytest.raises(ValueError, match=r"actions of Text.* are not supported; supported are Discrete, MultiDiscrete"):
        GymnasiumSimulation([Recording(spaces.Text(3)).vector()], [0])
