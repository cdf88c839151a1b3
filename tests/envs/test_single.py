"""The single Gymnasium environments: registration, API, drawing, and the model that they carry."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from envs_chi_square import assert_samples, assert_starts
from gymnasium.utils.env_checker import check_env

import rlnet.envs  # noqa: F401 (registers the environments)
from rlnet.config import ConfigError
from rlnet.envs import TabularEnv, build_gridworld, preset
from rlnet.mdp import FiniteMDP

CASES = [
    ("rlnet/Gridworld-v0", {}),
    ("rlnet/Gridworld-v0", {"preset": "cliff", "slip": 0.1}),
    ("rlnet/Gridworld-v0", {"map": "S.A\n#bG", "cells": {"A": {"jump_to": "b"}, "b": {}}}),
    ("rlnet/RandomWalk-v0", {"length": 7, "jump": 2}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("render_mode", [None, "ansi", "rgb_array"])
def test_passes_the_checker_without_a_warning(name, options, render_mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name, render_mode=render_mode, **options)
        check_env(env.unwrapped)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_carries_its_model_and_samples_it(name, options):
    env = gymnasium.make(name, **options)
    mdp = env.unwrapped.mdp
    assert isinstance(mdp, FiniteMDP)
    assert FiniteMDP.from_env(env) is mdp
    rng = np.random.default_rng(0)
    (obs, info), rows, starts = env.reset(seed=0), [], []
    starts.append(obs)
    for _ in range(8000):
        assert info["action_mask"].tolist() == mdp.available[obs].tolist()
        action = int(rng.choice(np.flatnonzero(info["action_mask"])))
        after, reward, terminated, truncated, info = env.step(action)
        rows.append((obs, action, after, reward, terminated))
        obs = after
        if terminated or truncated:
            obs, info = env.reset()
            starts.append(obs)
    obs, action, after, reward, terminated = (np.array(column) for column in zip(*rows, strict=True))
    assert_samples(mdp, obs, action, after, reward, terminated)
    assert_starts(mdp, np.array(starts))


@pytest.mark.slow
def test_the_id_can_name_the_module():
    make = "gymnasium.make('rlnet.envs:rlnet/Gridworld-v0', preset='maze')"
    code = f"import gymnasium; print({make}.unwrapped.mdp.n_states)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "47"


def test_the_time_limit_of_a_preset_and_of_make():
    def length(**options):
        env = gymnasium.make("rlnet/Gridworld-v0", preset="sutton5x5", **options)
        env.reset(seed=0)
        for step in range(1, 1000):
            *_, terminated, truncated, _ = env.step(0)
            assert not terminated
            if truncated:
                return step
        raise AssertionError("no limit")

    assert length() == 100
    assert length(max_episode_steps=7) == 7


def test_an_end_at_the_limit_is_no_truncation_and_a_truncated_episode_is_over():
    env = TabularEnv(build_gridworld(preset("gridworld", map="SG..P", slip=0.0)), max_episode_steps=1)
    env.reset(seed=0)
    assert env.step(1)[2:4] == (True, False)
    env.reset()
    assert env.step(3)[2:4] == (False, True)
    with pytest.raises(RuntimeError, match="no episode is running"):
        env.step(3)


def test_drawing_as_text():
    env = gymnasium.make("rlnet/Gridworld-v0", preset="cliff", render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "............\n" * 3 + "@CCCCCCCCCCG\n"
    env.step(0)
    assert env.render() == "............\n" * 2 + "@...........\n" + "SCCCCCCCCCCG\n"


def test_drawing_as_an_image():
    env = gymnasium.make("rlnet/Gridworld-v0", map="S#\n.G", render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert before.dtype == np.uint8
    assert before.shape == (96, 96, 3)
    env.step(2)
    after = env.render()
    changed = (before != after).any(axis=2)
    assert changed[:48, :48].any()  # the agent left the upper cell
    assert changed[48:, :48].any()  # for the lower one
    assert not changed[:, 48:].any()
    centres = {tuple(after[row, column]) for row, column in ((24, 24), (24, 72), (72, 24), (72, 72))}
    assert len(centres) == 4  # start, wall, agent and goal look different


def test_an_image_has_a_colour_for_goal_pit_cliff_wall_jump_and_floor():
    cells = {
        "C": {"reward": -100.0, "send_to": "S"},
        "P": {"terminal": True, "reward": -1.0},
        "A": {"jump_to": "a", "jump_reward": 10.0},
        "a": {},
    }
    options = {"map": "..#A\n....\nSCPG\na...", "cells": cells}
    env = gymnasium.make("rlnet/Gridworld-v0", render_mode="rgb_array", **options)
    env.reset(seed=0)
    image = env.render()
    places = {"floor": (1, 1), "wall": (0, 2), "jump": (0, 3), "cliff": (2, 1), "pit": (2, 2), "goal": (2, 3)}
    assert len({tuple(image[24 + 48 * row, 24 + 48 * column]) for row, column in places.values()}) == len(places)
    env = TabularEnv(env.unwrapped.mdp, render_mode="ansi")  # without the letters of the map
    env.reset(seed=0)
    env.step(0)
    assert env.render() == "..#J\n@...\nS!PG\n....\n"


def test_any_model_can_be_an_environment():
    mdp = FiniteMDP.from_outcomes({0: {0: [(1.0, 1, 0.0, False)]}, 1: {1: [(1.0, 0, 1.0, True)]}}, n_actions=2)
    env = TabularEnv(mdp, render_mode="ansi")
    obs, info = env.reset(seed=0)
    while obs == 1:
        obs, info = env.reset()
    assert info["action_mask"].tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"environment 0: action 1 is not available in state 0, allowed are \[0\]"):
        env.step(1)
    assert env.step(0)[:4] == (1, 0.0, False, False)
    assert env.render() == ".@\n"
    assert env.step(1)[:4] == (0, 1.0, True, False)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)


@pytest.mark.parametrize("action", [4, -1, 1.5])
def test_actions_out_of_range_are_refused(action):
    env = TabularEnv(build_gridworld(preset("maze")))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        env.step(action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "nowhere"}, "preset=nowhere: allowed are .*cliff.*windy"),
        ({"preset": "cartpole"}, "preset=cartpole: is not a gridworld but a GymnasiumConfig"),
        ({"slipp": 0.1}, "slipp=0.1: no such setting; allowed are map, cells"),
        ({"gamma": 0.1}, "gamma=0.1: no such setting"),
        ({"slip": "much"}, r"env\.slip: Value 'much'"),
        ({"cells": {"P": {"rewrad": 1}}}, r"env\.cells\.P\.rewrad: .*allowed are reward, wall"),
        ({"map": "S.X"}, r"env\.map: the letter 'X'"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        gymnasium.make("rlnet/Gridworld-v0", **options)


def test_options_of_reset_are_refused():
    with pytest.raises(ValueError, match=r"options=.*: there are none"):
        TabularEnv(build_gridworld(preset("maze"))).reset(options={"low": 0})


def test_an_unknown_render_mode_is_refused():
    with pytest.raises(ValueError, match="render_mode='braille': allowed are None, ansi, rgb_array"):
        TabularEnv(build_gridworld(preset("maze")), render_mode="braille")


def test_episodes_that_begin_in_a_terminal_state_are_refused():
    mdp = build_gridworld(preset("sutton4x4"))
    with pytest.raises(ValueError, match="begin in a terminal state"):
        TabularEnv(mdp.with_start(np.eye(16)[0]))
