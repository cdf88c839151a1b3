"""Tables of the evaluation of board games without a model: Elo against earlier selves, endgames beside exact play."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlnet.experiment.evaluation_files import CONTESTS, ENDGAMES, rated

Table = tuple[str, list[str], list[list[str]]]  # a note, the head, the rows


def contest_tables(document: Mapping[str, Any], arrays: Mapping[str, np.ndarray], members: slice) -> list[Table]:
    """The tables of the members that are shown; none where there were no contests."""
    if CONTESTS not in document:
        return []
    tables = [_ratings(document[CONTESTS]["games"], arrays, members)]
    if f"{ENDGAMES}_positions" in arrays:
        tables.append(_endgames(document[CONTESTS]["empty_cells"], arrays, members))
    return tables


def _ratings(games: int, arrays: Mapping[str, np.ndarray], members: slice) -> Table:
    points, steps = arrays[f"{CONTESTS}_points"][members], arrays[f"{CONTESTS}_step"][members]
    count = len(points)
    players = rated(points.sum(0), np.round(steps.mean(0)).astype(int).tolist())
    last = points.sum(0)[:, -1] / (count * games)
    rows = [
        [
            player["player"],
            f"{player['elo']:.0f}".replace("-", "−"),
            f"± {player['half_interval']:.0f}" if k else "",
            f"{100 * last[k]:.0f} %" if k < len(players) - 1 else "",
        ]
        for k, player in enumerate(players)
    ]
    who = f", results of {count} members together" if count > 1 else ""
    note = (
        f"Everybody against everybody else, {games} games each{who}: openings of random moves, each in both seats. "
        "Elo by maximum likelihood (400 are odds of 10 to 1), 0 for the player who moves at random; 95 % intervals "
        "from the Fisher information, over games."
    )
    return note, ["player", "Elo", "95 %", "score against the last one"], rows


def _endgames(empties: int, arrays: Mapping[str, np.ndarray], members: slice) -> Table:
    found = {key.removeprefix(f"{ENDGAMES}_"): x[members] for key, x in arrays.items() if key.startswith(ENDGAMES)}
    note = (
        f"Endgames solved exactly: {int(found['positions'].sum()):,} positions that were reached against itself in "
        f"which at most {empties} cells are empty, with all that can follow. A move that keeps the value is optimal."
    )
    rows = []
    for name, prefix in (("the policy alone", ""), ("with its search", "search_")):
        if f"{prefix}optimal" in found and np.isfinite(found[f"{prefix}optimal"]).any():
            optimal, error = (np.nanmean(found[f"{prefix}{key}"]) for key in ("optimal", "error"))
            rows.append([name, f"{100 * optimal:.1f} %", f"{error:.3f}" if np.isfinite(error) else "–"])
    return note, ["who", "optimal moves", "error of V (root mean square)"], rows
