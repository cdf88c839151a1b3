"""The part of a run's page about a game: the board, any position by clicking moves, and whole games."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlnet.mdp import FiniteMDP, Solution, solve
from rlnet.report.drawing_data import drawing_script, packed
from rlnet.report.finished import Finished
from rlnet.report.html import as_script
from rlnet.report.page_states import member_note
from rlnet.report.panels import action_names

MOST_POSITIONS = 150_000  # that are all on the page; of more, the first ones and those beside the games played out
FIRST = 20_000
ENDED, ELSEWHERE = -1, -2  # in place of a successor: the game is over, or the position is not on the page


def game_section(run: Finished) -> dict[str, Any] | None:
    """The board, its positions and the games played out; None where the model is no game, or has chance in it."""
    mdp = run.mdp
    if mdp.sign is None or mdp.n_outcomes != mdp.n_pairs:
        return None
    m = run.shown["member"]
    best = solve(mdp, float(run.values["gamma"][m]))
    pi = np.asarray(run.values["pi"][m])
    lines = {
        "best": ("Optimal play of both:", played(mdp, best.policy)),
        "learned": ("The learned policy against itself, by its most likely moves:", played(mdp, pi)),
    }
    keep = kept(mdp, [states for _, (states, _) in lines.values()])
    names = action_names(mdp)
    data = _content(run, best, pi, keep)
    data["lines"] = {name: moves for name, (_, (_, moves)) in lines.items()}
    shown = (
        "All positions are here."
        if len(keep) == mdp.n_states
        else f"{len(keep):,} of {mdp.n_states:,} positions are here."
    )
    note = (
        f"{member_note(run)} Click a move on the board or in the table. Values are those of the player who moves: "
        f"+1 wins, 0 is a draw, −1 loses. {shown}"
    ).strip()
    return {
        "note": note,
        "lines": [
            {"name": name, "title": title, "moves": [names[a] for a in moves], "result": _result(mdp, states, moves)}
            for name, (title, (states, moves)) in lines.items()
        ],
        "data": as_script(data),
        "script": drawing_script("game"),
    }


def played(mdp: FiniteMDP, policy: np.ndarray) -> tuple[list[int], list[int]]:
    """The states and moves of a game in which both players take their most likely move, at most as many as states."""
    state = int(np.argmax(mdp.start))
    states, moves = [], []
    for _ in range(mdp.n_states):
        action = int(np.argmax(np.where(mdp.available[state], policy[state], -1.0)))
        states.append(state)
        moves.append(action)
        pair = mdp.pair_index[state, action]
        if mdp.terminated[pair]:
            break
        state = int(mdp.next_state[pair])
    return states, moves


def _result(mdp: FiniteMDP, states: list[int], moves: list[int]) -> str:
    """Who has won, by the sum of the first player's rewards."""
    total, side = 0.0, 1
    for state, action in zip(states, moves, strict=True):
        pair = mdp.pair_index[state, action]
        total += side * float(mdp.reward[pair])
        side *= 1 if mdp.sign is None else int(mdp.sign[pair])
    ended = bool(mdp.terminated[mdp.pair_index[states[-1], moves[-1]]])
    if not ended:
        return "and so on for ever"
    return "the first player wins" if total > 0 else "the second player wins" if total < 0 else "a draw"


def kept(mdp: FiniteMDP, lines: list[list[int]]) -> np.ndarray:
    """The positions that the page holds, in rising order: all, or the first ones and those next to a line of play."""
    if mdp.n_states <= MOST_POSITIONS:
        return np.arange(mdp.n_states)
    on = np.unique(np.concatenate(lines))
    pairs = np.concatenate([np.arange(mdp.pair_ptr[s], mdp.pair_ptr[s + 1]) for s in on])
    beside = mdp.next_state[pairs][~mdp.terminated[pairs]]
    return np.unique(np.concatenate([np.arange(FIRST), on, beside]))


def _content(run: Finished, best: Solution, pi: np.ndarray, keep: np.ndarray) -> dict[str, Any]:
    """What the script needs: the positions as packed arrays, and how to draw them."""
    mdp, m, board = run.mdp, run.shown["member"], run.board
    counts = np.diff(mdp.pair_ptr)[keep]
    pairs = np.repeat(np.asarray(mdp.pair_ptr)[keep], counts) + _ramp(counts)
    own, action = np.asarray(mdp.pair_state)[pairs], np.asarray(mdp.pair_action)[pairs]
    place = np.full(mdp.n_states, ELSEWHERE)
    place[keep] = np.arange(len(keep))
    following = np.where(mdp.terminated[pairs], ENDED, place[mdp.next_state[pairs]])
    assert mdp.sign is not None
    arrays = {
        "count": counts.astype(np.uint16),
        "action": action.astype(np.uint16),
        "next": following.astype(np.int32),
        "again": (mdp.sign[pairs] > 0).astype(np.uint8),
    }
    numbers = {"best": best.v[keep], "qBest": best.q[own, action], "pi": pi[own, action]}
    for name, key, at in (("v", "v", keep), ("q", "q", (own, action))):
        if key in run.values:
            numbers[name] = np.asarray(run.values[key][m])[at]
    labels = mdp.labels is not None and board is None and len(keep) <= FIRST
    return {
        **packed(arrays, numbers),
        "start": int(place[np.argmax(mdp.start)]),
        "names": list(action_names(mdp)),
        "labels": [str(mdp.labels[s]) for s in keep] if labels and mdp.labels is not None else None,
        "board": None if board is None else [*board.rules.shape, board.rules.n_actions < len(board.rules.start())],
    }


def _ramp(counts: np.ndarray) -> np.ndarray:
    """0 .. n − 1 for each n of the counts, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
