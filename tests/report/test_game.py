"""The page of a game: its positions, read back from the page, and followed by clicks in a browser."""

import base64
import json
import re
import shutil
import zlib

import numpy as np
import pytest
from browser import after, needs_browser
from support import draw_nothing, quick

import rlnet
from rlnet.config import ConfigError
from rlnet.envs import make, preset
from rlnet.envs.boards.enumeration import enumerate_positions, game_of
from rlnet.envs.boards.rules import KInARow, play_moves
from rlnet.envs.boards.simulation import planes
from rlnet.learning import final_positions
from rlnet.mdp import solve
from rlnet.report import page, page_game


def matches(state=4):
    """Who takes the last of four wins; three taken at once give the mover the move again."""
    return {f"take {k}": (state - k, float(state == k), state == k, k == 3) for k in (1, 2, 3) if k <= state}


GAMES = {
    "board": ("env=connect", "env.rows=3", "env.columns=3", "env.k=3"),
    "cells": ("env=tic_tac_toe",),
    "words": ("env=game", f"env.rules={__name__}:matches"),
}


UNSOLVED = (*GAMES["board"], "env.max_states=9", "algo=ppo", "network=mlp", "network.hidden=[4]", "evaluation.every=0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of a few hundred steps, with pages that have no pictures, which take most of the time."""
    folder, picture = tmp_path_factory.mktemp("runs"), {"data": "", "width": 1, "height": 1, "alt": "", "note": ""}
    with pytest.MonkeyPatch.context() as patch:
        for place in ("page", "page_states"):
            patch.setattr(f"rlnet.report.{place}.embedded", lambda *_: picture)
        patch.setattr(page, "_curves", lambda _: [])
        patch.setattr(page, "scatter_plots", lambda _: [])
        draw_nothing(patch)
        for name, options in GAMES.items():
            rlnet.train(*options, "algo=q_learning", "network=tabular", "steps=100", folder=folder / name)
            page.write_page(folder / name, trust=True)
        rlnet.train(*UNSOLVED, "steps=100", folder=folder / "rules")
        page.write_page(folder / "rules")
    return folder


def positions(folder):
    """The data of a page, its arrays unpacked."""
    source = (folder / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="game-data">(.*?)</script>', source, re.S)
    data, at, offset = json.loads(found.group(1)), {}, 0
    content = zlib.decompress(base64.b64decode(data["packed"]))
    for name, kind, length in data["arrays"]:
        at[name] = np.frombuffer(content, np.dtype(kind).newbyteorder("<"), length, offset)
        offset += -(-at[name].nbytes // 8) * 8
    assert offset == len(content)
    return data, at


@pytest.mark.parametrize("name", GAMES)
def test_every_position_is_on_the_page_with_what_is_learned_and_exact(runs, name):
    data, at = positions(runs / name)
    mdp = make(preset("game", rules=f"{__name__}:matches")).mdp if name == "words" else None
    if mdp is None:
        mdp = make(preset("tic_tac_toe") if name == "cells" else preset("connect", rows=3, columns=3, k=3)).mdp
    best, values = solve(mdp, 1.0), dict(np.load(runs / name / "values.npz"))
    np.testing.assert_array_equal(at["count"], np.diff(mdp.pair_ptr))
    np.testing.assert_array_equal(at["action"], mdp.pair_action)
    np.testing.assert_array_equal(at["next"], np.where(mdp.terminated, -1, mdp.next_state))
    np.testing.assert_array_equal(at["again"], mdp.sign > 0)
    pairs = mdp.pair_state, mdp.pair_action
    expected = {"best": best.v, "qBest": best.q[pairs], "pi": values["pi"][0][pairs], "q": values["q"][0][pairs]}
    for key, numbers in expected.items():
        np.testing.assert_allclose(at[key] * data["scale"][key], numbers, atol=1e-4 * max(1, np.abs(numbers).max()))
    assert data["board"] == {"board": [3, 3, True], "cells": [3, 3, False], "words": None}[name]
    assert (data["labels"] is not None) == (name == "words")


def test_a_game_without_a_model_is_on_the_page_as_its_network_sees_it(runs):
    """On this small board all positions: moves as in the model, V and π of the network, −V of what follows a move."""
    data, at = positions(runs / "rules")
    found, policy = enumerate_positions(KInARow(3, 3, 3, gravity=True), 1000), rlnet.load(runs / "rules")
    mdp, obs = game_of(found), planes(found.cells)
    assert len(at["count"]) == mdp.n_states == 505
    v, pi = policy.value(obs, mdp.available), policy.probabilities(obs, mdp.available)
    s = {0: 0}  # positions of the page and of the model, by going through both together
    todo, first = [(0, 0)], np.append(0, np.cumsum(at["count"], dtype=int))
    while todo:
        k, state = todo.pop()
        assert at["v"][k] * data["scale"]["v"] == pytest.approx(v[state], abs=1e-3)
        for j in range(first[k], first[k + 1]):
            pair = mdp.pair_index[state, at["action"][j]]
            assert at["pi"][j] * data["scale"]["pi"] == pytest.approx(pi[state, at["action"][j]], abs=1e-3)
            assert (at["next"][j] == -1) == mdp.terminated[pair]
            value = mdp.reward[pair] if mdp.terminated[pair] else -v[mdp.next_state[pair]]
            assert at["q"][j] * data["scale"]["q"] == pytest.approx(value, abs=1e-3)
            after = int(at["next"][j])
            if after >= 0 and after not in s:
                s[after] = int(mdp.next_state[pair])
                todo.append((after, s[after]))
    assert len(s) == 505
    state = 0
    for move in data["lines"]["learned"]:
        assert move == int(policy(obs[state], mdp.available[state]))
        pair = mdp.pair_index[state, move]
        state = int(mdp.next_state[pair])
    assert mdp.terminated[pair]


def test_positions_that_do_not_fit_are_refused(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs / "rules", folder)
    arrays = dict(np.load(folder / "positions.npz"))
    np.savez(folder / "positions.npz", **{**arrays, "pi": arrays["pi"][:-1]})
    with pytest.raises(ConfigError, match=r"positions\.npz: does not hold the positions of this run"):
        page.write_page(folder)


def test_of_large_boards_the_first_moves_and_what_is_next_to_games_are_kept():
    """6×7: after four moves there are 1,120 different positions, after five 4,263 (OEIS A212693), which is too many."""
    kept = final_positions._kept(KInARow(6, 7, 4, gravity=True), [])
    assert np.bincount((kept != 0).sum(1)).tolist() == [1, 7, 49, 238, 1120]


def test_lines_of_play_are_whole_games(runs):
    """Optimal play: every move is optimal, and the game ends as its value says."""
    source = (runs / "words" / "report.html").read_text(encoding="utf-8")
    assert "(the first player wins)" in source
    for name in ("cells", "board"):
        mdp = make(preset("tic_tac_toe") if name == "cells" else preset("connect", rows=3, columns=3, k=3)).mdp
        best, data = solve(mdp, 1.0), positions(runs / name)[0]
        state = 0
        for move in data["lines"]["best"]:
            assert best.q[state, move] == pytest.approx(best.v[state])
            pair = mdp.pair_index[state, move]
            state = int(mdp.next_state[pair])
        assert mdp.terminated[pair]


def test_of_large_games_the_page_holds_what_is_next_to_the_games_played_out(monkeypatch):
    monkeypatch.setattr(page_game, "MOST_POSITIONS", 1000)
    monkeypatch.setattr(page_game, "FIRST", 300)
    mdp = make(preset("tic_tac_toe")).mdp
    states, _ = page_game.played(mdp, solve(mdp, 1.0).policy)
    keep = page_game.kept(mdp, [states])
    assert set(range(300)) | set(states) <= set(keep.tolist())
    for state in states:
        pairs = slice(mdp.pair_ptr[state], mdp.pair_ptr[state + 1])
        assert set(mdp.next_state[pairs][~mdp.terminated[pairs]].tolist()) <= set(keep.tolist())
    assert len(keep) < 340


@needs_browser
@pytest.mark.parametrize("name", quick(["rules", *GAMES], 2))
def test_moves_are_clicked_in_a_browser(runs, tmp_path, name):
    """The first move of the table, one of the board, a line of play to its end, and back; nothing goes wrong."""
    source = (runs / name / "report.html").read_text(encoding="utf-8")
    script = """
  const said = () => document.querySelector('#position h3').textContent;
  const click = (place) => place.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}));
  found.push(said());
  click(document.querySelector('#position tbody tr')); found.push(said());
  const stone = document.querySelector('#board .can'); if (stone) { click(stone); found.push(said()); }
  const links = document.querySelectorAll('[data-line=best] a'); click(links[links.length - 1]); found.push(said());
  found.push(document.querySelector('#position input').value);
  click(document.querySelectorAll('#position button')[0]); found.push(said());
"""
    line = "learned" if name == "rules" else "best"
    found = after(script.replace("data-line=best", f"data-line={line}"), source, tmp_path)
    moves = positions(runs / name)[0]["lines"][line]
    won = name == "rules" and play_moves(KInARow(3, 3, 3, gravity=True), [str(move + 1) for move in moves])[1] > 0
    ended = f"Over: {'OX'[len(moves) % 2]} has won." if won else "A draw."
    expected = {
        "rules": ["To move: X", "To move: O", "To move: X", ended],
        "board": ["To move: X", "To move: O", "To move: X", "A draw."],
        "cells": ["To move: X", "To move: O", "To move: X", "A draw."],
        "words": ["To move: the first player", "To move: the second player", "Over: the first player has won."],
    }[name]
    *said, typed, again = found
    assert said == expected
    assert again == said[0]
    data = positions(runs / name)[0]
    assert typed == " ".join(data["names"][move] for move in data["lines"][line])
