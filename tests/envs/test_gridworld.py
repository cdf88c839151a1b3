"""The gridworld model: what each rule of the map does, and the published values of the presets."""

import time

import numpy as np
import pytest

from rlnet.config import ConfigError
from rlnet.envs import CellConfig, GridworldConfig, build_gridworld, grid_features, preset
from rlnet.mdp import evaluate, solve

UP, RIGHT, DOWN, LEFT = range(4)


def world(text, **options):
    cells = {letter: CellConfig(**meaning) for letter, meaning in options.pop("cells", {}).items()}
    return build_gridworld(GridworldConfig(name="test", gamma=0.9, map=text, cells=cells, **options))


def outcomes(mdp, cell, action):
    """{(successor's (row, column), reward, terminated): probability} of an action in the state at (row, column)."""
    columns = mdp.shape[1]
    state = int(np.flatnonzero(mdp.cell == cell[0] * columns + cell[1])[0])
    pair = mdp.pair_index[state, action]
    found = {}
    for k in range(mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1]):
        row, column = divmod(int(mdp.cell[mdp.next_state[k]]), columns)
        key = ((row, column), float(mdp.reward[k]), bool(mdp.terminated[k]))
        assert key not in found, "equal outcomes are to be merged"
        found[key] = pytest.approx(float(mdp.probability[k]), abs=1e-12)
    return found


# ---------------------------------------------------------------------------------------------- the rules


def test_walls_have_no_state_and_terminal_cells_have_no_actions():
    mdp = world("S#G\n...")
    assert mdp.cell.tolist() == [0, 2, 3, 4, 5]
    assert mdp.terminal.tolist() == [False, True, False, False, False]
    assert mdp.start.tolist() == [1, 0, 0, 0, 0]
    assert mdp.action_labels == ("↑", "→", "↓", "←")


def test_moves_bumps_and_rewards():
    mdp = world("S#G\n...", step_reward=-0.5, bump_reward=-2.0, cells={".": {"reward": -0.1}})
    assert outcomes(mdp, (0, 0), RIGHT) == {((0, 0), -2.0, False): 1}  # into a wall
    assert outcomes(mdp, (0, 0), UP) == {((0, 0), -2.0, False): 1}  # off the map
    assert outcomes(mdp, (0, 0), DOWN) == {((1, 0), -0.1, False): 1}  # a cell with its own reward
    assert outcomes(mdp, (1, 0), UP) == {((0, 0), -0.5, False): 1}  # one without
    assert outcomes(mdp, (1, 2), UP) == {((0, 2), 1.0, True): 1}  # the goal pays +1 unless told otherwise


def test_a_bump_without_a_reward_of_its_own_costs_a_step():
    assert outcomes(world("SG", step_reward=-0.5), (0, 0), LEFT) == {((0, 0), -0.5, False): 1}


def test_slip_goes_to_the_sides_and_equal_outcomes_are_merged():
    mdp = world("...\n.S.\n..G", slip=0.2)
    assert outcomes(mdp, (1, 1), UP) == {
        ((0, 1), 0.0, False): 0.8,
        ((1, 0), 0.0, False): 0.1,
        ((1, 2), 0.0, False): 0.1,
    }
    assert outcomes(mdp, (0, 0), UP) == {((0, 0), 0.0, False): 0.9, ((0, 1), 0.0, False): 0.1}
    assert outcomes(mdp, (1, 2), LEFT) == {
        ((1, 1), 0.0, False): 0.8,
        ((0, 2), 0.0, False): 0.1,
        ((2, 2), 1.0, True): 0.1,
    }


def test_slip_of_one_never_goes_straight():
    mdp = world("...\n.S.\n..G", slip=1.0)
    assert outcomes(mdp, (1, 1), UP) == {((1, 0), 0.0, False): 0.5, ((1, 2), 0.0, False): 0.5}


def test_diagonal_moves_slip_to_the_neighbouring_diagonals():
    mdp = world("...\n.S.\n..G", slip=0.2, diagonal=True)
    assert mdp.n_actions == len(mdp.action_labels) == 8
    assert outcomes(mdp, (1, 1), 4) == {  # ↗
        ((0, 2), 0.0, False): 0.8,
        ((0, 0), 0.0, False): 0.1,
        ((2, 2), 1.0, True): 0.1,
    }
    assert outcomes(mdp, (0, 1), 4) == {((0, 1), 0.0, False): 0.9, ((1, 2), 0.0, False): 0.1}  # off the map: stays


def test_wind_blows_from_the_departure_column_up_to_the_edge():
    mdp = world("....\n....\n....\nS..G", wind=[0, 1, 2, 0])
    assert outcomes(mdp, (3, 0), RIGHT) == {((3, 1), 0.0, False): 1}  # no wind where it leaves
    assert outcomes(mdp, (3, 1), RIGHT) == {((2, 2), 0.0, False): 1}
    assert outcomes(mdp, (3, 2), RIGHT) == {((1, 3), 0.0, False): 1}
    assert outcomes(mdp, (1, 2), UP) == {((0, 2), 0.0, False): 1}  # clipped
    assert outcomes(mdp, (3, 1), DOWN) == {((3, 1), 0.0, False): 1}  # down and up again
    assert outcomes(mdp, (3, 2), DOWN) == {((2, 2), 0.0, False): 1}


def test_send_to_pays_and_lands_on_the_target():
    mdp = preset_model("cliff")
    assert outcomes(mdp, (2, 5), DOWN) == {((3, 0), -100.0, False): 1}
    assert outcomes(mdp, (3, 0), RIGHT) == {((3, 0), -100.0, False): 1}
    assert mdp.n_states == 38  # nobody can stand on the cliff


def test_every_action_of_a_jump_cell_jumps():
    mdp = world("A.b\n...\nS.G", slip=0.3, cells={"A": {"jump_to": "b", "jump_reward": 7.0}, "b": {}})
    for action in range(4):
        assert outcomes(mdp, (0, 0), action) == {((0, 2), 7.0, False): 1}


def test_a_jump_into_a_goal_ends_the_episode():
    mdp = world("SAG", cells={"A": {"jump_to": "G", "jump_reward": 7.0}})
    assert outcomes(mdp, (0, 1), LEFT) == {((0, 2), 7.0, True): 1}


def test_episodes_begin_in_the_start_cells_else_anywhere():
    assert world("S.S\n..G").start.tolist() == [0.5, 0, 0.5, 0, 0, 0]
    assert world("...\n.#G").start.tolist() == [0.25, 0.25, 0.25, 0.25, 0]


def test_a_letter_keeps_its_built_in_meaning():
    mdp = world("SG", cells={"G": {"reward": 5.0}, "S": {"reward": -1.0}})
    assert mdp.terminal.tolist() == [False, True]
    assert outcomes(mdp, (0, 0), RIGHT) == {((0, 1), 5.0, True): 1}
    assert outcomes(mdp, (0, 0), LEFT) == {((0, 0), 0.0, False): 1}  # a bump does not enter


def test_features_are_a_quadratic_polynomial_of_the_place():
    mdp = world("S..\n.#.\n..G")
    features = grid_features(mdp)
    assert features.shape == (8, 5)
    assert features.dtype == np.float32
    assert features[0].tolist() == [-1, -1, 1, 1, 1]
    assert features[4].tolist() == [1, 0, 1, 0, 0]  # row 1, column 2: the wall before it has no state
    assert grid_features(world("SG"))[:, 1].tolist() == [0, 0]  # one row


def test_a_large_map_is_built_without_a_loop_over_cells():
    size = 500
    rows = ["." * size] * (size - 1) + ["." * (size - 1) + "G"]
    began = time.perf_counter()
    mdp = world("\n".join(rows), slip=0.1)
    assert mdp.n_states == size * size
    assert time.perf_counter() - began < 10  # 0.6 s on an idle core


# ---------------------------------------------------------------------------------------------- the presets


def preset_model(name, **options):
    return build_gridworld(preset(name, **options))


def test_figure_4_1():
    mdp = preset_model("sutton4x4")
    v = evaluate(mdp, np.full((16, 4), 0.25), 1.0).v
    expected = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]
    np.testing.assert_allclose(v, expected, atol=1e-6)


def test_example_3_5_and_3_8():
    mdp = preset_model("sutton5x5")
    v = evaluate(mdp, np.full((25, 4), 0.25), 0.9).v.reshape(5, 5)
    np.testing.assert_allclose(v[0], [3.309, 8.789, 4.428, 5.322, 1.492], atol=6e-4)
    np.testing.assert_allclose(v[4], [-1.858, -1.345, -1.229, -1.423, -1.975], atol=6e-4)
    v = solve(mdp, 0.9).v.reshape(5, 5)
    np.testing.assert_allclose(v[0], [21.977, 24.419, 21.977, 19.419, 17.477], atol=6e-4)
    np.testing.assert_allclose(v[4], [14.419, 16.022, 14.419, 12.978, 11.680], atol=6e-4)


def test_example_6_6():
    mdp = preset_model("cliff")
    start, optimal = int(mdp.start.argmax()), solve(mdp, 1.0)

    def soft(greedy):
        return 0.1 / 4 + 0.9 * greedy

    assert optimal.v[start] == pytest.approx(-13)
    assert evaluate(mdp, soft(optimal.policy), 1.0).v[start] == pytest.approx(-50.800, abs=6e-4)
    preference = np.array([0, 3, 2, 1])  # among the optimal actions right, then down: along the edge
    edge = np.eye(4)[np.where(optimal.policy > 0, preference, -1).argmax(axis=1)]
    assert evaluate(mdp, soft(edge), 1.0).v[start] == pytest.approx(-45.803, abs=6e-4)
    policy = soft(optimal.policy)
    for _ in range(20):  # policy iteration among the ε-soft policies
        policy = soft(np.eye(4)[evaluate(mdp, policy, 1.0).q.argmax(axis=1)])
    assert evaluate(mdp, policy, 1.0).v[start] == pytest.approx(-20.708, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "options", "gamma", "value"),
    [
        ("windy", {}, 1.0, -15),
        ("windy", {"diagonal": True}, 1.0, -7),
        ("maze", {}, 0.95, 0.95**13),
        ("four_rooms", {"slip": 0.0}, 0.9, 0.9**13),
    ],
)
def test_shortest_ways(name, options, gamma, value):
    mdp = preset_model(name, **options)
    assert solve(mdp, gamma).v @ mdp.start == pytest.approx(value)


def test_four_rooms_has_104_cells():
    assert preset_model("four_rooms").n_states == 104


def test_the_default_gridworld_is_clear_about_its_best_actions():
    config = preset("gridworld")
    mdp = build_gridworld(config)
    solution = solve(mdp, config.gamma)
    q = solution.q[~mdp.terminal]
    behind = q.max(axis=1, keepdims=True) - q
    assert behind[behind > 1e-9].min() > 0.018  # apart from exact ties, which cost nothing
    assert ((solution.policy > 0).sum(axis=1)[~mdp.terminal] == 1).mean() > 0.9
    assert sorted(set(mdp.reward.tolist())) == [-1, 0, 1]


# ---------------------------------------------------------------------------------------------- what is refused

PIT = {"terminal": True}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (" \n ", {}, r"env\.map: has no cells"),
        ("S..\n..", {}, r"env\.map: row 1 has 2 cells, row 0 has 3"),
        ("S.X", {}, r"env\.map: the letter 'X' \(row 0, column 2\) has no meaning"),
        ("S.G", {"cells": {"X": PIT}}, r"env\.cells\.X: no cell of the map"),
        ("##", {}, r"env\.map: has no cell to start from"),
        ("#G", {}, r"env\.map: has no cell to start from"),
        ("SA", {"cells": {"A": {"jump_to": "b"}}}, r"env\.cells\.A\.jump_to=b: no cell of the map has this letter"),
        ("Abb", {"cells": {"A": {"jump_to": "b"}, "b": {}}}, r"env\.cells\.A\.jump_to=b: 2 cells of the map"),
        ("SA#", {"cells": {"A": {"jump_to": "#"}}}, r"env\.cells\.A\.jump_to=#: leads into a wall"),
        ("SCG", {"cells": {"C": {"send_to": "G"}}}, r"env\.cells\.C\.send_to=G: leads to a terminal cell"),
        ("SCD", {"cells": {"C": {"send_to": "D"}, "D": {"send_to": "S"}}}, r"send_to=D: leads to a cell that sends on"),
        ("SG", {"cells": {"S": PIT}}, r"env\.cells\.S: a cell can have only one of start and terminal"),
        ("S#", {"cells": {"#": {"reward": 1.0}}}, r"env\.cells\.#\.wall=True: .* has no reward"),
        (
            "SA",
            {"cells": {"A": {"jump_reward": 1.0}}},
            r"env\.cells\.A\.jump_reward=1\.0: needs env\.cells\.A\.jump_to",
        ),
        ("SA", {"cells": {"A": {"reward": float("nan")}}}, r"env\.cells\.A\.reward=nan: must be a finite number"),
        ("SG", {"step_reward": float("inf")}, r"env\.step_reward=inf: must be a finite number"),
        ("SG", {"bump_reward": float("-inf")}, r"env\.bump_reward=-inf: must be a finite number"),
        ("SG", {"slip": 1.5}, r"env\.slip=1\.5: must be a probability"),
        ("SG", {"wind": [1]}, r"env\.wind=\[1\]: needs one number per column of the map \(2\)"),
        ("SG", {"max_episode_steps": 0}, r"env\.max_episode_steps=0: must be at least 1"),
    ],
)
def test_refused(text, options, message):
    with pytest.raises(ConfigError, match=message):
        world(text, **options)
