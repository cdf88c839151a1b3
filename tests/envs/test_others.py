"""What others wrote, on its way into a run: simulated from a model that is right, or by its own code."""

import logging

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.toy_text import FrozenLakeEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from support import composed

from rlnet.config import ConfigError
from rlnet.envs import GymnasiumConfig, GymnasiumSimulation, TabularSimulation, make, preset, preset_names
from rlnet.mdp import solve


def named(name, **options):
    return make(GymnasiumConfig(name="test", gamma=0.9, id=name, **options))


@pytest.fixture
def registered():
    """Registers under an id that goes again."""
    names = []

    def register(entry_point, **options):
        name = f"rlnet-test/Env{len(names)}-v0"
        gymnasium.register(name, entry_point=entry_point, **options)
        names.append(name)
        return name

    yield register
    for name in names:
        gymnasium.registry.pop(name)


class CostlyLake(FrozenLakeEnv):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, reward - 0.1, *rest


def test_without_a_model_one_sentence_says_why_and_the_real_environment_is_stepped(registered, caplog):
    caplog.set_level(logging.INFO)
    environment = named(registered(CostlyLake, max_episode_steps=50), kwargs={"is_slippery": False})
    assert environment.mdp is None
    assert (environment.n_states, environment.n_actions, environment.max_steps) == (16, 4, 50)
    said = [record.getMessage() for record in caplog.records if "own code" in record.getMessage()]
    assert len(said) == 1
    assert environment.no_model in said[0]
    assert "CostlyLake" in said[0]
    simulation = environment.simulate([0], 1)
    simulation.reset()
    assert simulation.step(np.ones((1, 1), np.int64)).reward[0, 0] == pytest.approx(-0.1)


class Trap(gymnasium.Env):
    """0 is the start, 1 a trap, 2 the end; the trap is truncated at once, with nothing to gain in it."""

    observation_space, action_space = spaces.Discrete(3), spaces.Discrete(2)

    def __init__(self, patience=1):
        self.patience = patience

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = self.stuck = 0
        return 0, {}

    def step(self, action):
        self.s = self.s or (1, 2)[action]
        self.stuck += self.s == 1
        return self.s, float(self.s == 2), self.s == 2, self.stuck >= self.patience, {}


@pytest.mark.parametrize("patience", [1, 4])
def test_truncations_of_its_own_are_kept(registered, patience):
    environment = named(registered(Trap), kwargs={"patience": patience})
    np.testing.assert_allclose(solve(environment.mdp, 0.9).v, [1, 0, 0])
    simulation = environment.simulate([0], 1)
    assert isinstance(simulation, GymnasiumSimulation)
    simulation.reset()
    steps = [simulation.step(np.zeros((1, 1), np.int64)) for _ in range(2 * patience)]
    cuts = [bool(step.truncated[0, 0]) for step in steps]
    assert cuts == ([False] * (patience - 1) + [True]) * 2
    assert steps[-1].obs[0, 0] == 0
    assert steps[-1].next_obs[0, 0] == 1


class Paying(gymnasium.Env):
    observation_space, action_space = spaces.Discrete(1), spaces.Discrete(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return 0, {}

    def step(self, action):
        self.age += 1
        return 0, 1.0, self.age == 20, False, {}


def test_an_environment_that_ends_itself_after_a_while_has_no_model_and_ends(registered):
    environment = named(registered(Paying))
    assert environment.mdp is None
    simulation = environment.simulate([0], 1)
    simulation.reset()
    ends = [bool(simulation.step(np.zeros((1, 1), np.int64)).terminated[0, 0]) for _ in range(40)]
    assert ends == ([False] * 19 + [True]) * 2


def test_limits_inside_of_the_environment_hold(registered):
    def limited():
        return gymnasium.wrappers.TimeLimit(FrozenLakeEnv(), 9)

    name = registered(limited)
    assert named(name).max_steps == 9
    assert named(name, max_episode_steps=5).max_steps == 5
    assert named(name, max_episode_steps=50).max_steps == 9
    assert isinstance(named(name).simulate([0], 1), TabularSimulation)


def test_wrappers_of_a_registration_count(registered):
    swapped = gymnasium.envs.registration.WrapperSpec("Swap", f"{__name__}:Swap", {})
    name = registered(FrozenLakeEnv, additional_wrappers=(swapped,))
    assert named(name, kwargs={"is_slippery": False}).mdp is None


class Swap(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    def __init__(self, env):
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)

    def step(self, action):
        return self.env.step((action + 2) % 4)


def test_a_map_of_its_own_for_every_copy_is_no_model():
    environment = named("FrozenLake-v1", kwargs={"map_name": None, "desc": None})
    assert environment.mdp is None
    assert "two that are made alike are not the same problem" in environment.no_model


# Presets and other ids.


@pytest.mark.parametrize(
    ("overrides", "gamma", "value"),
    [
        (("env=frozen_lake", "env.id=FrozenLake8x8-v1"), 0.99, 0.4146404),
        (("env=frozen_lake",), 0.99, 0.5420259),
        (("env=frozen_lake", "env.kwargs.is_slippery=false"), 0.9, 0.9**5),
        (("env=frozen_lake", "env.kwargs.map_name=8x8"), 0.99, 0.4146404),
        (("env=cliff_walking", "env.id=CliffWalkingSlippery-v1"), 0.99, -46.3526730),
        (("env=cliff_walking", "env.id=FrozenLake8x8-v1"), 0.99, 0.4146404),
        (("env=taxi", "env.id=CliffWalking-v1"), 1.0, -13.0),
    ],
)
def test_another_id_keeps_its_own_arguments(overrides, gamma, value):
    environment = make(composed(*overrides).env)
    assert environment.mdp.start @ solve(environment.mdp, gamma).v == pytest.approx(value, abs=1e-6)


def test_another_id_keeps_its_own_limit():
    assert make(composed("env=frozen_lake").env).max_steps == 100
    assert make(composed("env=frozen_lake", "env.id=FrozenLake8x8-v1").env).max_steps == 200
    assert make(composed("env=lqr", "algo=ppo").env).max_steps == 30
    assert make(composed("env=lqr", "algo=ppo", "env.id=Pendulum-v1").env).max_steps == 200


@pytest.mark.parametrize("name", preset_names())
def test_no_preset_has_arguments_that_another_id_would_inherit(name):
    config = preset(name)
    if isinstance(config, GymnasiumConfig):
        own = {"is_rainy": True} if name == "taxi_rainy" else {}  # a variant without an id
        assert (config.kwargs, config.max_episode_steps) == (own, None)


# Vector forms.


class Other(VectorEnv):
    """A vector form with other observations than the single environment."""

    def __init__(self, num_envs=1, size=3, **options):
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = spaces.Box(0, 1, (size,)), spaces.Discrete(2)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def reset(self, *, seed=None, options=None):
        return np.full(self.observation_space.shape, 0.5, np.float32), {}


class One(gymnasium.Env):
    observation_space, action_space = spaces.Box(0, 1, (2,)), spaces.Discrete(2)

    def __init__(self, flag=False):
        self.flag = flag

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.ones(2, np.float32), 1.0, False, False, {}


def refusing(num_envs=1, **options):
    raise TypeError("unexpected keyword argument 'flag'")


def test_a_vector_form_that_differs_is_not_taken(registered):
    for vector, reason in ((Other, "has the observation_space Box"), (refusing, "cannot be made: unexpected")):
        name = registered(One, vector_entry_point=vector)
        simulation = named(name).simulate([0, 1], 2)
        assert simulation.reset().shape == (2, 2, 2)
        assert simulation.step(np.zeros((2, 2), np.int64)).reward.tolist() == [[1.0, 1.0], [1.0, 1.0]]
        with pytest.raises(
            ConfigError, match=f"env.stepping=vector: .* can be stepped by: auto, sync, async .*{reason}"
        ):
            named(name, stepping="vector")


def test_a_vector_form_that_fits_is_taken(registered):
    def vector(num_envs=1, **options):
        return Other(num_envs, size=2)

    environment = named(registered(One, vector_entry_point=vector))
    np.testing.assert_array_equal(environment.simulate([0], 2).reset(), np.full((1, 2, 2), 0.5, np.float32))
