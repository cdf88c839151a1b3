"""Contests with earlier selves, and endgames beside exact play: against players and values that are known."""

import json

import numpy as np
import pytest
import torch
from support import make_run, update

import rlnet
from rlnet.compare.elo import ratings
from rlnet.config import ConfigError
from rlnet.envs import make, preset
from rlnet.envs.boards.enumeration import enumerate_positions, game_of
from rlnet.envs.boards.rules import KInARow
from rlnet.envs.boards.simulation import planes
from rlnet.learning.contests import _at_random, contests, endgames, plies, solved
from rlnet.learning.earlier_selves import EarlierSelves
from rlnet.mdp import solve
from rlnet.report.evaluated import evaluation_section
from rlnet.report.finished import read_run

pytestmark = pytest.mark.usefixtures("without_pictures")

BOARD = (
    "env=connect",
    "env.rows=4",
    "env.columns=4",
    "env.k=3",
    "env.max_states=10",
    "network=mlp",
    "network.hidden=[8]",
)
PPO = (*BOARD, "algo=ppo", "algo.envs=8", "algo.rollout=16", "steps=1200")
SEARCH = (*BOARD, "algo=alphazero", "algo.envs=4", "algo.rollout=16", "algo.options.simulations=4", "steps=300")


def perfect(rules):
    """Who plays optimally in every position, by a table of all of them."""
    positions = enumerate_positions(rules, 10_000)
    exact = solve(game_of(positions), 1.0)
    table = {planes(cells).tobytes(): int(q.argmax()) for cells, q in zip(positions.cells, exact.q, strict=True)}

    def choose(seen, _):
        rows = seen.obs.numpy().reshape(-1, seen.obs.shape[-1])
        return torch.tensor([table[row.tobytes()] for row in rows]).view(seen.obs.shape[:-1])

    return choose


def test_who_plays_perfectly_never_loses_and_against_itself_the_seats_cancel():
    """Tic-tac-toe, of which every position after one move is a draw."""
    board, seeds = make(preset("tic_tac_toe", max_states=10)), [3, 4]
    best, cpu = perfect(KInARow(3, 3, 3, gravity=False)), torch.device("cpu")
    gained = sum(ply.gain for ply in plies(board, (best, _at_random), [(0, 1)], seeds, 60, cpu))
    assert gained.min() == 0
    assert gained.mean() > 0.7
    turned = sum(ply.gain for ply in plies(board, (_at_random, best), [(0, 1)], seeds, 60, cpu))
    assert turned.max() == 0
    assert (sum(ply.gain for ply in plies(board, (best, best), [(0, 1)], seeds, 60, cpu)) == 0).all()


def test_moves_at_random_are_those_of_uniform_self_play():
    """.2968253968 for the first player (OpenSpiel's rules); half of the games are in each seat."""
    board, games = make(preset("tic_tac_toe", max_states=10)), 4000
    gained = sum(ply.gain for ply in plies(board, (_at_random, _at_random), [(0, 1)], [0], games, torch.device("cpu")))
    first, second = gained[:, : games // 2].mean(), gained[:, games // 2 :].mean()
    assert abs(first - 0.2968253968) < 4 / np.sqrt(games / 2)
    assert abs(second + 0.2968253968) < 4 / np.sqrt(games / 2)


def test_values_of_endgames_are_those_of_the_whole_game():
    rules, rng = KInARow(4, 4, 3, gravity=True), np.random.default_rng(0)
    positions = enumerate_positions(rules, 30_000)
    exact = solve(game_of(positions), 0.9)
    some = rng.choice(len(positions.cells), 50, replace=False)
    roots, v, q = solved(rules, positions.cells[some], 0.9)
    number = {cells.tobytes(): k for k, cells in enumerate(positions.cells)}
    same = [number[cells.tobytes()] for cells in roots]
    assert sorted(same) == sorted(some.tolist())
    np.testing.assert_allclose(v, exact.v[same], atol=1e-12)
    np.testing.assert_allclose(q, exact.q[same], atol=1e-12)


@pytest.mark.parametrize("options", [PPO, pytest.param(SEARCH, marks=pytest.mark.slow)], ids=["ppo", "alphazero"])
def test_a_member_and_its_earlier_selves_are_what_they_are_alone_and_after_a_pause(options, tmp_path):
    many, alone, half = make_run(*options, "seeds=3"), make_run(*options, "seed=2"), make_run(*options, "seeds=3")
    for _ in range(2):
        update(half)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed = make_run(*options, "seeds=3")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    update(resumed, 6)
    update(many, 8)
    update(alone, 8)
    assert (many.earlier.step >= 0).sum() >= 6
    assert torch.equal(many.earlier.step, resumed.earlier.step)
    assert torch.equal(many.earlier.theta, resumed.earlier.theta)
    assert torch.equal(many.earlier.step[2], alone.earlier.step[0])
    torch.testing.assert_close(many.earlier.theta[2], alone.earlier.theta[0], atol=1e-5, rtol=1e-4)


def test_each_is_kept_once_at_its_own_steps():
    theta = torch.zeros(2, 3)
    kept = EarlierSelves(100, 4, theta)
    for steps in ((10, 24), (20, 60), (99, 70), (120, 130)):
        kept.observe(torch.tensor(steps), theta + torch.tensor(steps)[:, None])
    assert kept.step.tolist() == [[0, 99, 99, 99], [0, 60, 60, 130]]
    assert kept.theta[:, :, 0].tolist() == kept.step.tolist()


@pytest.mark.slow
def test_a_contest_has_as_many_points_as_games_and_exact_endgames_are_not_lost():
    run = make_run(*SEARCH, "seeds=2", "algo.options.simulations=20", "evaluation.selves=1")
    update(run, 2)
    found = contests(run.trained(), run.earlier, 8, [0, 1])
    together = found["points"] + found["points"].swapaxes(1, 2)
    assert (together[:, ~np.eye(3, dtype=bool)] == 8).all()
    assert found["points"][:, 2, 0].mean() >= 6, "20 simulations against random moves"
    near = endgames(run.trained(), 7, 16, [0, 1])
    assert (near["positions"] > 5).all()
    assert (near["search_optimal"] > 0.8).all(), "20 simulations see much of what can follow"
    assert (near["search_error"] < near["error"]).all()
    assert ratings(found["points"][0]).elo[-1] > 0


@pytest.mark.slow
def test_a_run_writes_its_contests_in_one_process_or_two(tmp_path):
    small = ("evaluation.selves=2", "evaluation.games=6", "evaluation.endgame=8", "evaluation.final_episodes=4")
    for name in ("one", "two"):
        rlnet.train(*PPO, *small, "seeds=2", f"processes={1 + (name == 'two')}", folder=tmp_path / name)
    one, two = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("one", "two"))
    assert one == two
    players = one["members"][1]["contests"]
    assert [player["player"] for player in players[:2]] == ["at random", "after 0 steps"]
    assert players[0]["elo"] == 0.0
    assert players[-1]["player"] == "at the end"
    assert sum(member["endgames"]["positions"] for member in one["members"]) > 0
    (note, _, rows), (solved_note, _, shares) = evaluation_section(read_run(tmp_path / "one"))["tables"]
    assert "6 games each, results of 2 members together" in note
    assert [row[0] for row in rows] == [player["player"] for player in players]
    assert "at most 8 cells are empty" in solved_note
    assert [row[0] for row in shares] == ["the policy alone"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.selves=-1", "evaluation.selves=-1: must be at least 0"),
        ("evaluation.games=5", "evaluation.games=5: must be even: half in each seat"),
        ("evaluation.games=0", "evaluation.games=0: must be at least 2"),
        ("evaluation.endgame=-2", "evaluation.endgame=-2: must be at least 0"),
    ],
)
def test_settings_that_cannot_be_used_are_named(override, said):
    with pytest.raises(ConfigError, match=said):
        make_run(*PPO, override)
