"""`rlnet play`: a game in the terminal, move by move."""

import sys

import numpy as np
import pytest
from support import draw_nothing

import rlnet
from rlnet.commands.play import main
from rlnet.envs import make, preset
from rlnet.envs.boards.match import Match
from rlnet.learning.players import search_of
from rlnet.mdp import solve
from rlnet.report import page

TINY = ("network=tabular", "algo=q_learning", "steps=600", "log_every=600")
SEARCHING = (
    "network=mlp",
    "network.hidden=[4]",
    "network.input=features",
    "algo=alphazero",
    "steps=100",
    "algo.envs=4",
)
SEARCHING += ("algo.rollout=9", "algo.options.simulations=7", "log_every=100", "algo.updates=1")


def takes(state=5):
    """Who takes the last of five wins."""
    return {k: (state - k, float(state == k), state == k) for k in (1, 2) if k <= state}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    board = ("env=connect", "env.rows=3", "env.columns=3", "env.k=3")
    planes = ("env.max_states=9", "network=mlp", "network.hidden=[4]", "evaluation.every=0")
    with pytest.MonkeyPatch.context() as patch:  # no pictures and pages, which take longer than all else
        draw_nothing(patch)
        patch.setattr(page, "write_page", lambda *_, **__: folder)
        rlnet.train(*board, *TINY, folder=folder / "board")
        rlnet.train(*board, *TINY[1:], *planes, folder=folder / "rules")
        rlnet.train("env=game", f"env.rules={__name__}:takes", *TINY, folder=folder / "game")
        rlnet.train("env=random_walk", *TINY, folder=folder / "walk")
        rlnet.train(*board, *SEARCHING, folder=folder / "searched")
        rlnet.train(*board, *SEARCHING, *planes, folder=folder / "searched_rules")
    return folder


def called(monkeypatch, lines, *arguments):
    """The exit code of a call whose person types these lines, and then nothing more."""
    typed = iter(lines)

    def read(question):
        print(question)
        line = next(typed, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(sys, "argv", ["rlnet play", *map(str, arguments)])
    return main()


def test_a_game_is_played_to_its_end(runs, monkeypatch, capsys):
    """Whoever moves where, the moves that are listed are a whole game, and who won is who won it."""
    environment = make(preset("connect", rows=3, columns=3, k=3))
    for seat, name in enumerate(("first", "second")):
        assert called(monkeypatch, ["1", "2", "3"] * 9, runs / "board", f"seat={name}") == 0
        said = capsys.readouterr().out
        assert f"You are {'XO'[seat]}, who moves {name}." in said
        match, moves = Match(environment), said.split("Moves: ")[1].split()
        for move in moves:
            match.move(match.parse(move))
        assert match.over
        result = {1.0: "You win.", -1.0: "You lose.", 0.0: "A draw."}[match.score[seat]]
        assert result in said
        assert str(match).rstrip() in said


def test_what_is_no_move_is_asked_again_and_values_are_exact(runs, monkeypatch, capsys):
    called(monkeypatch, ["maybe", "y", "7", "", "2", "q"], runs / "board")
    said = capsys.readouterr().out
    assert said.count("Do you move first?") == 2
    assert "7: no legal move; there are 1, 2, 3" in said
    assert "The run plays" in said
    assert "The game was left." in said
    best = solve(make(preset("connect", rows=3, columns=3, k=3)).mdp, 1.0)
    numbers = ["0" if x == 0 else f"{x:+.0f}".replace("-", "−") for x in (best.v[0], *best.q[0])]
    line = "{} exactly; the moves 1: {}, 2: {}, 3: {}.".format(*numbers)
    assert line in said


def test_games_without_a_model_and_of_ones_own(runs, monkeypatch, capsys):
    assert called(monkeypatch, ["2"], runs / "rules", "seat=first") == 0
    said = capsys.readouterr().out
    assert "exactly" not in said
    assert ". X ." in said
    assert called(monkeypatch, ["3", "2", "1", "2"], runs / "game", "seat=first", "trust=true", "sample=true") == 0
    said = capsys.readouterr().out
    assert "3: no legal move; there are 1, 2" in said
    assert "Moves: 2" in said


@pytest.mark.slow
@pytest.mark.parametrize("run", ["searched", "searched_rules"])
def test_who_learned_by_search_plays_by_search(run, runs, monkeypatch, capsys):
    """Every move is the one that the search finds best in the position before it."""
    for given, simulations in ((), 7), (("search=30",), 30), (("search=0",), 0):
        assert called(monkeypatch, ["1", "2", "3"] * 9, runs / run, "seat=second", *given) == 0
        said = capsys.readouterr().out
        assert (f"by a search of {simulations} simulations" in said) == (simulations > 0)
        policy = rlnet.load(runs / run)
        match, search = Match(policy.trained.problem.environment), search_of(policy.trained, simulations or None)
        for number, move in enumerate(said.split("Moves: ")[1].split()):
            if number % 2 == 0:
                found = search(np.asarray(match.observation)[None, None]).policy[0, 0].argmax()
                expected = found if simulations else policy(match.observation, match.mask)
                assert match.names[int(expected)] == move
            match.move(match.parse(move))
        assert match.over
    assert called(monkeypatch, ["1", "2", "3"] * 9, runs / run, "seat=second", "sample=true") == 0
    assert "Moves: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("run", "arguments", "message"),
    [
        ("board", ("search=5",), "search=5: algo=q_learning moves without a search; leave it out, or search=0"),
        ("searched", ("search=-1",), "search=-1: must be a whole number of at least 0"),
        ("walk", (), "env=random_walk is no game of two players"),
        ("board", ("seat=third",), "seat=third: allowed are first, second"),
        ("board", ("member=1",), "member=1"),
        ("board", ("member=x",), "member=x: must be a whole number of at least 0"),
        (
            "board",
            ("colour=red",),
            "colour=red: must be KEY=VALUE with one of the keys seat, member, search, sample, trust",
        ),
        ("game", ("seat=first",), "add trust=true"),
        ("nothing", (), "nothing"),
    ],
)
def test_what_cannot_be_played_ends_in_one_sentence(run, arguments, message, runs, monkeypatch, capsys):
    assert called(monkeypatch, [], runs / run, *arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1


def test_a_match_counts_the_rewards_of_both_players():
    match = Match(make(preset("game", rules=f"{__name__}:takes")))
    for move in ("2", "1", "2"):
        match.move(match.parse(move))
    assert match.score.tolist() == [1.0, -1.0]
    assert match.over
    with pytest.raises(ValueError, match="not legal"):
        match.move(0)
    with pytest.raises(ValueError, match="is no game"):
        Match(make(preset("random_walk")))
    assert np.isfinite(Match(make(preset("tic_tac_toe", max_states=3))).observation).all()
