"""Learned policy and values in positions of a board game without a model: opening positions, and games of self-play."""

from typing import Any

import numpy as np

from rlnet.envs.boards.rules import Rules
from rlnet.envs.boards.simulation import planes
from rlnet.learning.players import observation, search_of
from rlnet.learning.trained import Trained

FIRST = 3_000  # positions after the first moves, at most
ENDED, ELSEWHERE = -1, -2  # in place of a successor: the game is over, or the position is not among these


def positions(trained: Trained) -> dict[str, np.ndarray]:
    """K positions and P moves from them, learned by one member, as arrays for a file.

    Returns:
        count int64 [K], moves of each position, in order; action, next (a position, `ENDED` or `ELSEWHERE`), gain (the
        reward of who moves, of moves that end the game), pi and q (−γ·V of what follows, or the gain): [P] each; v
        float32 [K]; the moves of games against itself from the start, by the most likely moves (learned) and by its
        search (search).
    """
    environment = trained.problem.environment
    assert environment.board is not None
    rules = environment.board.rules
    search = search_of(trained)
    lines = {"learned": _game(rules, lambda cells: int(trained.best(_seen(trained, rules, cells))[0, 0]))}
    if search is not None:
        lines["search"] = _game(rules, lambda cells: int(search(planes(cells)[None]).policy[0, 0].argmax()))
    cells = _kept(rules, [on for on, _ in lines.values()])
    number = {row.tobytes(): k for k, row in enumerate(cells)}
    own, action = np.nonzero(rules.legal(cells))
    after, reward, ended = rules.play(cells[own], action)
    following = np.array([number.get(row.tobytes(), ELSEWHERE) for row in after])
    seen, gamma = _seen(trained, rules, cells), float(trained.hyper["gamma"][0, 0])
    found: dict[str, Any] = {
        "count": np.bincount(own, minlength=len(cells)),
        "action": action,
        "next": np.where(ended, ENDED, following),
        "gain": np.where(ended, reward, 0.0),
    }
    probabilities, value = trained.probabilities(seen), trained.value(seen)
    assert probabilities is not None  # of moves there are always some
    found["pi"] = probabilities[0].cpu().numpy()[own, action]
    if value is not None:
        found["v"] = value[0].cpu().numpy()
        then = trained.value(_seen(trained, rules, after))
        assert then is not None
        found["q"] = np.where(ended, reward, -gamma * then[0].cpu().numpy())
    return found | {name: np.array(moves) for name, (_, moves) in lines.items()}


def _seen(trained: Trained, rules: Rules, cells: np.ndarray) -> Any:
    """Positions [B, C] as the networks of one member see them; where a game is over every move counts as legal."""
    legal = rules.legal(cells)
    return observation(planes(cells)[None], (legal | ~legal.any(-1, keepdims=True))[None], trained.theta.device)


def _game(rules: Rules, move: Any) -> tuple[np.ndarray, list[int]]:
    """The positions [T, C] and moves of a game in which both players move by `move` of a position [1, C]."""
    cells, over, on, moves = rules.start()[None], False, [], []
    while not over:
        on.append(cells[0])
        moves.append(move(cells))
        cells, _, ended = rules.play(cells, np.array([moves[-1]]))
        over = bool(ended[0])
    return np.stack(on), moves


def _kept(rules: Rules, lines: list[np.ndarray]) -> np.ndarray:
    """The first positions, as deep as there is room for, and those on lines of play and next to them: [K, C]."""
    level = rules.start()[None]
    kept = {level[0].tobytes(): level[0]}
    while len(level):
        level = _after(rules, level)
        fresh = {row.tobytes(): row for row in level}
        if len(kept) + len(fresh) > FIRST:
            break
        kept |= fresh
        level = np.array(list(fresh.values()), np.int8).reshape(-1, level.shape[1])
    for line in lines:
        kept |= {row.tobytes(): row for row in (*line, *_after(rules, line))}
    return np.array(list(kept.values()))


def _after(rules: Rules, cells: np.ndarray) -> np.ndarray:
    """The positions after every move in some, in which the game goes on."""
    own, action = np.nonzero(rules.legal(cells))
    after, _, ended = rules.play(cells[own], action)
    return after[~ended]
