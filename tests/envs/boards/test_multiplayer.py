"""The board games for PettingZoo, by its own test, and against OpenSpiel where that is installed."""

import sys

import numpy as np
import pytest

from rlnet.config import ConfigError
from rlnet.envs.boards.multiplayer import pettingzoo_env
from rlnet.envs.boards.rules import KInARow


@pytest.mark.parametrize(("name", "options"), [("tic_tac_toe", {}), ("connect", {"rows": 6, "columns": 7})])
@pytest.mark.filterwarnings("ignore")  # its test warns of itself, and of observations that are no images
def test_passes_the_test_of_pettingzoo(name, options):
    pytest.importorskip("pettingzoo")
    from pettingzoo.test import api_test, seed_test

    api_test(pettingzoo_env(name, **options), num_cycles=200)
    seed_test(lambda: pettingzoo_env(name, **options), num_cycles=50)


def test_rewards_and_views_of_both_agents():
    pytest.importorskip("pettingzoo")
    env = pettingzoo_env(render_mode="ansi")
    env.reset()
    for action in (0, 4, 1, 5, 2):  # the first row
        assert env.agent_selection == f"player_{env._moves % 2}"
        own, other = env.observe("player_0")["observation"], env.observe("player_1")["observation"]
        np.testing.assert_array_equal(own, other[::-1])
        observation, *_ = env.last()
        assert observation["action_mask"][action] == 1
        assert not env.observe(f"player_{1 - env._moves % 2}")["action_mask"].any()
        env.step(action)
    assert env.rewards == {"player_0": 1.0, "player_1": -1.0}
    assert all(env.terminations.values())
    assert env.render().startswith("3 X X X\n2 . O O\n")
    env.reset()
    with pytest.raises(ValueError, match="action 9 is not legal"):
        env.step(9)


def test_what_is_no_board_game_is_refused():
    pytest.importorskip("pettingzoo")
    with pytest.raises(ConfigError, match="name=cliff: is no board game"):
        pettingzoo_env("cliff")
    with pytest.raises(ConfigError, match=r"env\.k=9"):
        pettingzoo_env("connect", k=9)
    with pytest.raises(ValueError, match="render_mode='svg'"):
        pettingzoo_env(render_mode="svg")


@pytest.mark.parametrize(
    ("game", "rules"),
    [("tic_tac_toe", KInARow(3, 3, 3, False)), ("connect_four", KInARow(6, 7, 4, True))],
)
def test_random_games_are_those_of_openspiel(game, rules):
    """Legal moves, ends and returns of 200 games, move by move."""
    pyspiel = pytest.importorskip("pyspiel")
    theirs, rng = pyspiel.load_game(game), np.random.default_rng(0)
    returns = []
    for _ in range(200):
        state, cells, mover, over = theirs.new_initial_state(), rules.start(), 0, False
        while not over:
            legal = np.flatnonzero(rules.legal(cells[None])[0])
            assert legal.tolist() == state.legal_actions()
            action = int(rng.choice(legal))
            state.apply_action(action)
            after, reward, ended = rules.play(cells[None], np.array([action]))
            over = bool(ended[0])
            assert over == state.is_terminal()
            cells, gain, mover = after[0], float(reward[0]) * (1 - 2 * mover), 1 - mover
        assert state.returns() == [gain, -gain]
        returns.append(gain)
    assert {1.0, -1.0} <= set(returns)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    monkeypatch.setitem(sys.modules, "pettingzoo.utils.env", None)
    monkeypatch.delitem(sys.modules, "rlnet.envs.boards.multiplayer.aec", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'rlnet\[pettingzoo\]'"):
        pettingzoo_env()
