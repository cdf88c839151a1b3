"""What each cell of a drawing is, by the map of a gridworld and by the outcomes of a model alone."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from report_models import grid_model

from rlnet.envs.presets import preset
from rlnet.envs.tabular.grid_map import CellConfig
from rlnet.envs.tabular.gridworld import GridworldConfig, build_gridworld
from rlnet.mdp import FiniteMDP, InvalidMDPError
from rlnet.mdp.cells import EntryRewards, Kind, cells_of
from rlnet.mdp.marks import MARKS, meanings, signed

LETTERS = {Kind.FLOOR: ".", Kind.WALL: "#", **{kind: mark.letter for kind, mark in MARKS.items()}}


def letters(mdp: FiniteMDP) -> list[str]:
    return ["".join(LETTERS[Kind(kind)] for kind in row) for row in cells_of(mdp).kind]


def world(rows: str, cells: dict, **options) -> FiniteMDP:
    meaning = {letter: CellConfig(**own) for letter, own in cells.items()}
    return build_gridworld(GridworldConfig(name="own", gamma=0.9, map=rows, cells=meaning, **options))


PIT = {"P": {"terminal": True, "reward": -1.0}}
CLIFF = {"C": {"reward": -100.0, "send_to": "S"}, "G": {"reward": -1.0}}
JUMPS = {"A": {"jump_to": "a", "jump_reward": 10.0}, "a": {}}
# Each map with what its cells are; found from the map, and again from the outcomes alone.
MAPS = [
    (world("S...\n.P#G", PIT), ["....", ".P#G"]),
    (world("S...\n.P#G", PIT, slip=0.2, step_reward=-0.04), ["....", ".P#G"]),
    (world("....\nSCCG", CLIFF, step_reward=-1.0), ["....", ".!!T"]),
    (world("....\nSCCG\n#...", CLIFF, step_reward=-1.0, slip=0.3), ["....", ".!!T", "#..."]),
    (world("....\nSCCG\n....", CLIFF, step_reward=-1.0, diagonal=True), ["....", ".!!T", "...."]),
    (world(".A..\n....\n.a..", JUMPS, bump_reward=-1.0), [".J..", "....", "...."]),
    (world(".....\nSw.b.\n...#G", {"w": {"reward": -2.0}, "b": {"reward": 0.5}}), [".....", ".!.$.", "...#G"]),
    (world("S..G\n....\n.##.", {"G": {"reward": 0.0}}, bump_reward=-1.0), ["...T", "....", ".##."]),
]


@pytest.mark.parametrize("case", range(len(MAPS)))
def test_every_cell_is_what_its_map_says(case):
    mdp, wanted = MAPS[case]
    assert letters(mdp) == wanted


@pytest.mark.parametrize("case", range(len(MAPS)))
def test_outcomes_alone_say_the_same(case):
    mdp, wanted = MAPS[case]
    bare = replace(mdp, entry=None)
    assert letters(bare) == wanted
    np.testing.assert_allclose(cells_of(bare).reward, cells_of(mdp).reward, atol=1e-12)
    np.testing.assert_array_equal(cells_of(bare).acts, cells_of(mdp).acts)


def test_rewards_are_those_of_entering_or_of_the_jump():
    cells = cells_of(MAPS[0][0])
    np.testing.assert_array_equal(cells.reward, [[np.nan] * 4, [np.nan, -1.0, np.nan, 1.0]])
    assert cells.acts.tolist() == [[True] * 4, [True, False, False, False]]
    cells = cells_of(preset("cliff").build().mdp)
    assert cells.reward[3, 1:11].tolist() == [-100.0] * 10
    assert not cells.acts[3, 1:].any()
    cells = cells_of(preset("sutton5x5").build().mdp)
    assert (cells.reward[0, 1], cells.reward[0, 3]) == (10.0, 5.0)
    assert cells.acts.all()


def test_wind_blows_nobody_into_a_wall_that_is_a_cliff():
    mdp = world("...\n.C.\nS.G", {"C": {"reward": -5.0, "send_to": "S"}}, wind=[0, 1, 0])
    assert letters(mdp) == ["...", ".!.", "..G"]


def test_a_cell_that_moves_on_at_no_cost_is_no_wall():
    assert letters(world("S.T\n..G", {"T": {"send_to": "S"}}))[0] == "..J"


def test_a_jump_to_the_end_shows_its_reward():
    mdp = world("SA.\n..G", {"A": {"jump_to": "G", "jump_reward": 2.0}})
    assert letters(mdp) == [".J.", "..G"]
    assert cells_of(mdp).reward[0, 1] == 2.0


def test_exits_off_the_drawing_are_marked_where_they_are_left():
    cells = cells_of(preset("random_walk", length=5).build().mdp)
    assert [LETTERS[Kind(kind)] for kind in cells.kind[0]] == ["P", ".", ".", ".", "G"]
    assert (cells.reward[0, 0], cells.reward[0, 4]) == (-1.0, 1.0)
    assert cells.acts.all(), "a value stands in every cell"


@pytest.mark.parametrize("slippery", [False, True])
def test_cliff_of_gymnasium(slippery):
    """Its model has states for the cliff, on which nobody ever stands, and actions in its goal."""
    mdp = FiniteMDP.from_env(gymnasium.make("CliffWalking-v1", is_slippery=slippery))
    assert letters(mdp) == ["." * 12] * 3 + [".!!!!!!!!!!T"]
    cells = cells_of(mdp)
    np.testing.assert_allclose(cells.reward[3, 1:11], -100.0)
    assert not cells.acts[3, 1:].any()


def test_holes_of_the_frozen_lake_are_not_its_goal():
    mdp = FiniteMDP.from_env(gymnasium.make("FrozenLake-v1"))
    assert letters(mdp) == ["....", ".T.T", "...T", "T..G"]
    assert cells_of(mdp).reward[3, 3] == 1.0


def test_ends_at_the_reward_of_every_step_neither_pay_nor_cost():
    assert letters(grid_model()) == ["..#.", "....", ".T.T"]


def test_rewards_that_always_vary_are_not_all_hazards():
    mdp = grid_model(("." * 12,) * 12)
    rng = np.random.default_rng(0)
    mdp = replace(mdp, reward=rng.uniform(-1.0, 1.0, mdp.n_outcomes))
    assert (cells_of(mdp).kind == Kind.FLOOR).all()


def test_a_model_without_a_drawing_is_one_row():
    outcomes = {
        0: {0: [(1.0, 1, 0.0, False)]},
        1: {0: [(1.0, 2, 0.0, False)], 1: [(1.0, 3, 7.0, True)]},
        2: {0: [(1.0, 0, 0.0, False)]},
    }
    mdp = FiniteMDP.from_outcomes(outcomes, n_states=4, n_actions=2)
    assert letters(mdp) == ["...G"]
    assert cells_of(mdp).reward[0, 3] == 7.0


def test_legend_and_numbers():
    assert [text for _, text in meanings(cells_of(MAPS[0][0]))] == ["G: end that pays (+1)", "P: end that costs (-1)"]
    assert meanings(cells_of(MAPS[5][0]), letters=False) == [(Kind.JUMP, "blue: moves on to another cell (+10)")]
    assert list(map(signed, (1.0, -100.0, 0.0, 0.5, 1e6, np.nan))) == ["+1", "-100", "0", "+0.5", "+1e6", ""]
    assert len({mark.letter for mark in MARKS.values()} | {"#", ".", "S"}) == len(MARKS) + 3


def test_entry_rewards_must_fit_the_drawing():
    with pytest.raises(
        InvalidMDPError, match=r"entry\.cell has shape \(2,\), it needs a reward for each cell of shape"
    ):
        replace(grid_model(), entry=EntryRewards(np.zeros(2), 0.0))
