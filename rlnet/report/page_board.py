"""The board on the page of a game without a model: positions that were kept, as they were learned, and whole games."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlnet.config.files import read_arrays, reading
from rlnet.envs import Board
from rlnet.envs.boards.rules import Rules
from rlnet.experiment.evaluation_files import POSITIONS
from rlnet.report.drawing_data import drawing_script, packed
from rlnet.report.finished import Finished
from rlnet.report.html import as_script

LINES = {
    "search": "The run against itself, by its search:",
    "learned": "The learned policy against itself, by its most likely moves:",
}


def unsolved_section(run: Finished) -> dict[str, Any] | None:
    """The board, positions and games as in `rlnet.report.page_game`, without exact values; None without such a file.

    Raises:
        ConfigError: the file does not hold what a run writes there.
    """
    path = run.folder / POSITIONS
    if not path.is_file() or run.board is None:
        return None
    found = read_arrays(path)
    with reading(path, "does not hold the positions of this run"):
        data = _content(found, run.board)
        lines = {name: found[name].tolist() for name in LINES if name in found}
        names = run.board.rules.move_names
        shown = [
            {
                "name": name,
                "title": LINES[name],
                "moves": [names[a] for a in moves],
                "result": _result(run.board.rules, moves),
            }
            for name, moves in lines.items()
        ]
    seeds = run.config.member_seeds
    who = f"Member 0 (seed {seeds[0]}). " if len(seeds) > 1 else ""
    note = (
        f"{who}Click a move on the board or in the table. Values are those of the player who moves, as learned: "
        f"+1 wins, 0 is a draw, −1 loses. {len(found['count']):,} positions are here: those after the first moves, and "
        "those next to the games."
    )
    content = as_script(data | {"lines": lines})
    return {"note": note, "lines": shown, "data": content, "script": drawing_script("game")}


def _content(found: dict[str, np.ndarray], board: Board) -> dict[str, Any]:
    """What the script needs; ValueError for arrays that do not fit each other."""
    states, moves = len(found["count"]), len(found["action"])
    if int(found["count"].sum()) != moves or any(len(found[name]) != moves for name in ("next", "gain", "pi")):
        raise ValueError("arrays of different lengths")
    if not ((found["next"] >= -2) & (found["next"] < states)).all():
        raise ValueError("a successor that is none of the positions")
    arrays: dict[str, np.ndarray] = {
        "count": found["count"].astype(np.uint16),
        "action": found["action"].astype(np.uint16),
        "next": found["next"].astype(np.int32),
        "again": np.zeros(moves, np.uint8),
    }
    numbers: dict[str, np.ndarray] = {name: found[name] for name in ("gain", "pi", "v", "q") if name in found}
    rules = board.rules
    return {
        **packed(arrays, numbers),
        "start": 0,
        "names": list(rules.move_names),
        "labels": None,
        "q": "−V of what follows",
        "board": [*rules.shape, rules.n_actions < len(rules.start())],
    }


def _result(rules: Rules, moves: list[int]) -> str:
    """Who has won a whole game."""
    cells, reward = rules.start()[None], 0.0
    for action in moves:
        cells, gained, _ = rules.play(cells, np.array([action]))
        reward = float(gained[0])
    winner = "first" if (len(moves) % 2 == 1) == (reward > 0) else "second"
    return "a draw" if reward == 0 else f"the {winner} player wins"
