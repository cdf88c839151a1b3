"""From configs to environments: the presets, Gymnasium's own environments, and what is refused."""

import os
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from support import quick, skip_without_extras

from rlnet.config import VERSION_BASE, ConfigError, EnvConfig, register
from rlnet.envs import GymnasiumConfig, GymnasiumSimulation, TabularSimulation, make, preset, preset_names
from rlnet.envs.control.cartpole import CartPoleSimulation
from rlnet.envs.tokens.simulation import TokenSimulation
from rlnet.mdp import FiniteMDP, evaluate, solve

CONFIGS = Path(__file__).parents[2] / "configs"


def gymnasium_config(name, **options):
    return GymnasiumConfig(name="test", gamma=0.9, id=name, **options)


def test_numbers_of_numpy_are_numbers():
    assert preset("four_rooms", slip=np.float64(0.25), max_episode_steps=np.int32(7)) == preset(
        "four_rooms", slip=0.25, max_episode_steps=7
    )


@pytest.mark.parametrize("wrong", [None, "cliff", 3, {"name": "cliff"}])
def test_what_is_of_another_kind_is_named(wrong):
    kind = "None" if wrong is None else f"an? {type(wrong).__name__}"
    problem = f"mdp must be a FiniteMDP, such as .*, not {kind}$"
    for call, said in (
        (lambda: make(wrong), f"config must be an EnvConfig, such as preset.NAME., not {kind}$"),
        (lambda: solve(wrong, 0.9), problem),
        (lambda: evaluate(wrong, np.ones((2, 2)) / 2, 0.9), problem),
        (lambda: FiniteMDP.from_env(wrong), f"env must be a Gymnasium environment, such as .*, not {kind}$"),
    ):
        with pytest.raises(TypeError, match=said):
            call()


QUICK = (
    "gridworld",
    "cliff",
    "taxi",
    "cartpole",
    "pendulum",
    "highway",
    "racetrack",
    "tokens_tiny",
    "tic_tac_toe",
    "baird",
)  # presets of every run


@pytest.mark.parametrize("name", quick(preset_names(), QUICK))
def test_every_preset_composes_in_hydra_and_steps(name):
    skip_without_extras(name)
    register()
    with initialize_config_dir(str(CONFIGS), **VERSION_BASE):
        composed = OmegaConf.to_object(compose(overrides=[f"+env={name}"]).env)
    config = preset(name)
    assert composed == config
    assert config.name == name
    environment = make(config)
    simulation = environment.simulate([0, 1], 3)
    obs = simulation.reset()
    assert obs.shape == (2, 3, *environment.observation_shape)
    size = () if environment.action_bounds is None else environment.action_bounds[0].shape
    action = np.zeros((2, 3, *size), np.float32) if size else np.zeros((2, 3), np.int64)
    if simulation.mask is not None and not size:
        action = simulation.mask.argmax(-1)
    step = simulation.step(action)
    for field, dtype in (("reward", np.float32), ("valid", bool), ("terminated", bool)):
        assert getattr(step, field).shape == (2, 3)
        assert getattr(step, field).dtype == dtype
    assert step.obs.shape == step.next_obs.shape == obs.shape
    if environment.mdp is None or environment.states is not None:
        assert isinstance(simulation, GymnasiumSimulation | CartPoleSimulation | TokenSimulation)
    else:
        assert isinstance(simulation, TabularSimulation)
        assert environment.n_states == environment.mdp.n_states
        assert environment.n_actions == environment.mdp.n_actions
        assert (environment.features is None) == (name in ("taxi", "taxi_rainy"))  # its states lie on no grid
        if environment.features is not None:
            assert len(environment.features) == environment.n_states
            assert environment.features.dtype == np.float32
            assert np.abs(environment.features).max() <= 2
    simulation.close()
    there = environment.simulate([0, 1], 3, "cpu")  # the same as tensors
    assert torch.equal(there.reset(), torch.from_numpy(obs))
    after = there.step(torch.from_numpy(action))
    assert all(torch.equal(a, torch.from_numpy(b)) for a, b in zip(after[:6], step[:6], strict=True))
    assert (after.mask is None) == (step.mask is None)
    there.close()


def test_the_presets_are_those_of_the_readme():
    book = {"sutton4x4", "sutton5x5", "cliff", "windy", "maze", "four_rooms", "random_walk"}
    assert book | {"gridworld", "frozen_lake", "cartpole", "pendulum"} <= set(preset_names())


def test_a_toy_text_environment_is_solved_and_simulated_from_its_table():
    environment = make(preset("frozen_lake"))
    assert solve(environment.mdp, 0.99).v[0] == pytest.approx(0.542026, abs=1e-6)
    assert solve(environment.mdp, 0.9).v[0] == pytest.approx(0.068891, abs=1e-6)
    assert environment.max_steps == 100
    assert environment.simulate([0], 1).max_steps == 100
    assert make(preset("frozen_lake", max_episode_steps=7)).simulate([0], 1).max_steps == 7


def test_an_environment_without_a_model_steps_its_own_code():
    environment = make(preset("cartpole"))
    assert environment.mdp is None
    assert environment.n_states is None
    assert environment.features is None
    assert (environment.n_actions, environment.observation_shape, environment.max_steps) == (2, (4,), 500)


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0"])
def test_the_config_can_change_the_time_limit(name):
    environment = make(gymnasium_config(name, max_episode_steps=5))
    assert environment.max_steps == 5
    simulation = environment.simulate([0, 1], 2)
    simulation.reset()
    steps = [simulation.step(np.zeros((2, 2), np.int64)) for _ in range(5)]
    assert [bool(s.truncated.all()) for s in steps] == [False] * 4 + [True]
    assert not any(s.terminated.any() for s in steps)


@pytest.mark.parametrize(("name", "size", "high"), [("Pendulum-v1", 3, 2.0), ("MountainCarContinuous-v0", 2, 1.0)])
def test_real_actions_have_bounds_instead_of_a_number(name, size, high):
    environment = make(gymnasium_config(name))
    assert environment.n_actions is None
    assert environment.observation_shape == (size,)
    assert [bound.tolist() for bound in environment.action_bounds] == [[-high], [high]]


def test_our_own_environments_by_their_id():
    options = {"preset": "sutton5x5"}
    environment = make(gymnasium_config("rlnet/Gridworld-v0", kwargs=options))
    assert environment.n_states == 25
    assert environment.max_steps == 100
    assert make(gymnasium_config("rlnet/RandomWalk-v0", kwargs={"length": 4})).n_states == 4


class Licensed(gymnasium.Env):
    def __init__(self):
        raise RuntimeError("no licence\nfound")


gymnasium.register("Licensed-v0", Licensed)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("NoSuchThing-v0", {}, "env.id=NoSuchThing-v0: Environment `NoSuchThing` doesn't exist"),
        ("CartPole-v99", {}, "env.id=CartPole-v99: "),
        ("no_such_module:Thing-v0", {}, "env.id=no_such_module:Thing-v0: No module named"),
        ("Licensed-v0", {}, "env.id=Licensed-v0: cannot be made: RuntimeError: no licence$"),
        ("CartPole-v1", {"kwargs": {"gravity": 3}}, r"env.kwargs=\{'gravity': 3\}: CartPole-v1 refuses them"),
        ("FrozenLake-v1", {"kwargs": {"map_name": "9x9"}}, r"env.kwargs=.*: FrozenLake-v1 refuses them: KeyError"),
        ("CartPole-v1", {"kwargs": {"max_episode_steps": 3}}, "give env.max_episode_steps instead"),
        ("CartPole-v1", {"max_episode_steps": -1}, "env.max_episode_steps=-1: must be at least 1"),
        ("rlnet/Gridworld-v0", {"kwargs": {"slip": 3.0}}, r"env.slip=3.0: must be a probability"),
    ],
)
def test_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make(gymnasium_config(name, **options))


def test_a_config_of_no_known_kind_is_refused():
    with pytest.raises(TypeError, match="EnvConfig has no method build"):
        make(EnvConfig(name="test", gamma=0.9))


@pytest.mark.parametrize(
    ("name", "extra"), [("lunar_lander", "box2d"), ("hopper", "mujoco"), ("minigrid", "minigrid"), ("pong", "atari")]
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(name, extra, monkeypatch):
    for package in ("Box2D", "mujoco", "minigrid", "ale_py"):
        monkeypatch.setitem(sys.modules, package, None)
    for module in [m for m in sys.modules if m.startswith(("gymnasium.envs.box2d", "gymnasium.envs.mujoco"))]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ConfigError, match=rf"^env.id=.*: a package is missing .*: pip install 'rlnet\[{extra}\]'$"):
        make(preset(name))
    assert preset(name).foreign_settings() == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have a display")
@pytest.mark.parametrize(
    ("display", "driver"), [({}, "dummy"), ({"DISPLAY": ":0"}, None), ({"WAYLAND_DISPLAY": "w"}, None)]
)
def test_without_a_display_pictures_are_drawn_in_memory(display, driver, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.setenv(name, "")  # restored afterwards, also where it was not set
        monkeypatch.delenv(name)
    for name, value in display.items():
        monkeypatch.setenv(name, value)
    make(gymnasium_config("CartPole-v1"))
    assert os.environ.get("SDL_VIDEODRIVER") == (None if display else "dummy")
