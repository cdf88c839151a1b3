"""Data of the state inspector of the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlnet.mdp import FiniteMDP
from rlnet.mdp.cells import Kind, cells_of, few_starts
from rlnet.mdp.marks import MARKS, signed
from rlnet.report.html import as_script
from rlnet.report.panels import action_names, grid_states, state_names

DIGITS = 6  # significant


def describe(mdp: FiniteMDP, values: dict[str, np.ndarray], member: int, exact: str) -> str:
    """JSON: for each state its name, V, Q, π, tries and their exact counterparts, of one member of a population.

    Args:
        values: the content of values.npz.
        member: which one.
        exact: what V is compared with, "V*" or "V^π".
    """
    starts = few_starts(mdp)
    content: dict[str, Any] = {
        "state": list(range(mdp.n_states)),
        "name": _names(mdp),
        "end": mdp.terminal.tolist(),
        "mark": _marks(mdp),
        "actions": action_names(mdp),
        "exact": exact,
        "first": int(starts[0]) if len(starts) else int(values["visits"][member].sum(1).argmax()),
        "visits": values["visits"][member].tolist(),
    }
    for name in ("v", "v_exact", "v_limited", "q", "q_exact", "pi", "pi_exact"):
        if name in values:
            content[name] = _plain(values[name][member])
    members = len(values["visits"])
    if members > 1 and "v" in values:
        content["members"] = members
        for name, of in (("v_mean", np.mean), ("v_min", np.min), ("v_max", np.max)):
            content[name] = _plain(of(values["v"], axis=0))
    return as_script(content)


def _names(mdp: FiniteMDP) -> list[str]:
    """The label or number of each state, and where it lies on the grid."""
    names = state_names(mdp)
    if mdp.shape is None:
        return [f"state {name}" for name in names]
    grid, named = grid_states(mdp), list(names)
    for (row, col), state in np.ndenumerate(grid):
        if state >= 0:
            named[state] = f"state {state}: row {row}, column {col}"
    return named


def _marks(mdp: FiniteMDP) -> list[str]:
    """Description of the cell of each state: "end that pays (+1)", or ""."""
    marks = [""] * mdp.n_states
    if mdp.shape is None:
        return marks
    grid, cells = grid_states(mdp), cells_of(mdp)
    for row, col in np.argwhere(cells.marked & (grid >= 0)):
        mark, reward = MARKS[Kind(cells.kind[row, col])], signed(cells.reward[row, col])
        marks[grid[row, col]] = f"{mark.name} ({reward})" if reward else mark.name
    return marks


def _plain(array: np.ndarray) -> Any:
    """Nested lists of numbers with a few digits; what is not finite: null (−inf, not available), "inf" or "nan"."""
    if array.ndim > 1:
        return [_plain(row) for row in array]
    return [
        float(f"{x:.{DIGITS}g}") if np.isfinite(x) else None if x == -np.inf else str(float(x)) for x in array.tolist()
    ]
