"""The board games as Gymnasium environments: the interface, drawings, and the model that they carry."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlnet.config import ConfigError
from rlnet.envs import GymnasiumConfig, make
from rlnet.mdp import FiniteMDP

CASES = [
    ("rlnet/TicTacToe-v0", {}),
    ("rlnet/Connect-v0", {"rows": 3, "k": 3}),
    ("rlnet/Connect-v0", {"rows": 6, "columns": 7, "max_states": 100}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("render_mode", [None, "ansi", "rgb_array"])
def test_passes_the_checker_without_a_warning(name, options, render_mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(name, render_mode=render_mode, **options).unwrapped)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_plays_by_its_rules_and_its_model(name, options):
    env, rng = gymnasium.make(name, **options), np.random.default_rng(0)
    mdp = env.unwrapped.mdp
    assert (mdp is None) == ("max_states" in options)
    wins = 0
    for _ in range(40):
        obs, info = env.reset()
        moves, over = 0, False
        while not over:
            assert info["player"] == moves % 2
            legal = np.flatnonzero(info["action_mask"])
            if mdp is not None:
                assert legal.tolist() == np.flatnonzero(mdp.available[obs]).tolist()
            else:
                assert obs[0].sum() + obs[1].sum() == moves
            action = int(rng.choice(legal))
            after, reward, over, truncated, info = env.step(action)
            moves += 1
            assert not truncated
            assert info["sign"] == -1
            if mdp is not None:
                k = mdp.outcome_ptr[mdp.pair_index[obs, action]]
                assert (mdp.next_state[k], mdp.reward[k], mdp.terminated[k]) == (after, reward, over)
            obs, wins = after, wins + reward
        assert not info["action_mask"].any()
    assert wins > 10
    if mdp is not None:
        assert FiniteMDP.from_env(env) is mdp


def test_drawings_show_the_first_player_as_x_and_red():
    env = gymnasium.make("rlnet/TicTacToe-v0", render_mode="ansi")
    env.reset()
    for action in (0, 4, 8):
        env.step(action)
    assert env.render() == "3 X . .\n2 . O .\n1 . . X\n  a b c\n"
    env = gymnasium.make("rlnet/Connect-v0", render_mode="rgb_array", rows=3, columns=4, k=3)
    env.reset()
    for action in (1, 1):
        env.step(action)
    image = env.render()
    assert image.shape == (3 * 48, 4 * 48, 3)
    centre = image[24::48, 24::48].astype(int)
    red, yellow = centre[2, 1], centre[1, 1]
    assert red[0] > 2 * red[1]
    assert yellow[1] > 2 * yellow[2]
    assert (centre[0] > 200).all()
    env = gymnasium.make("rlnet/Connect-v0", render_mode="ansi")
    env.reset()
    env.step(2)
    assert env.render() == ". . . .\n. . . .\n. . . .\n. . X .\n1 2 3 4\n"


def test_mistakes_are_named():
    env = gymnasium.make("rlnet/Connect-v0").unwrapped
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)
    env.reset()
    with pytest.raises(ValueError, match="action 4 is not legal"):
        env.step(4)
    with pytest.raises(ValueError, match="options="):
        env.reset(options={"a": 1})
    with pytest.raises(ValueError, match="render_mode='svg'"):
        gymnasium.make("rlnet/Connect-v0", render_mode="svg", disable_env_checker=True)
    with pytest.raises(ConfigError, match=r"env\.k=9"):
        gymnasium.make("rlnet/Connect-v0", k=9)


def test_an_id_is_learned_from_where_it_has_a_model():
    assert make(GymnasiumConfig(name="x", id="rlnet/TicTacToe-v0")).game
    large = GymnasiumConfig(name="x", id="rlnet/Connect-v0", kwargs={"rows": 6, "columns": 7, "max_states": 10})
    with pytest.raises(ConfigError, match=r"env\.id=rlnet/Connect-v0: is a game of two players that is not simulated"):
        make(large)
