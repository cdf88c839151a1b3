"""HTML tables of models and solutions for notebooks (`_repr_html_`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rlnet.mdp.model.finite_mdp import FiniteMDP
    from rlnet.mdp.solution import Solution

MOST = 10  # states that are listed
MOST_NAMES = 6  # names in one cell


def html_table(title: str, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """A titled table. Every text is escaped: names may come from anywhere.

    Args:
        title: above the table.
        rows: the cells of each row; the first one names the row.
        head: of the columns; empty: none.
    """
    lines = [f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>"] if head else []
    for name, *cells in rows:
        lines.append(f"<tr><th>{escape(str(name))}</th>{''.join(f'<td>{escape(str(x))}</td>' for x in cells)}</tr>")
    return f"<table><caption>{escape(title)}</caption>{''.join(lines)}</table>"


def model_table(mdp: FiniteMDP) -> str:
    """Sizes and names of a model and where episodes start. Nothing is solved."""
    begin = np.flatnonzero(mdp.start)
    start = [f"{_name(mdp.labels, s)}: {mdp.start[s]:.4g}" for s in begin[:MOST_NAMES].tolist()]
    actions = [_name(mdp.action_labels, a) for a in range(min(mdp.n_actions, MOST_NAMES))]
    low, high = (mdp.reward.min(), mdp.reward.max()) if mdp.n_outcomes else (0.0, 0.0)
    rows = [
        ("states", f"{mdp.n_states:,}, {int(np.count_nonzero(mdp.terminal)):,} of them terminal"),
        ("actions", f"{mdp.n_actions:,} ({_listed(actions, mdp.n_actions)})"),
        ("available (s, a)", f"{mdp.n_pairs:,}"),
        ("outcomes (s, a, r, s')", f"{mdp.n_outcomes:,}"),
        ("rewards", f"{low:.5g} to {high:.5g}"),
        ("start distribution", _listed(start, len(begin))),
    ]
    if mdp.shape is not None:
        rows.append(("drawing", f"{mdp.shape[0]} × {mdp.shape[1]} cells"))
    return html_table("FiniteMDP", rows)


def solution_table(solution: Solution) -> str:
    """How a solution was found, the bound on its error, and v and the listed actions of the first states.

    Of a solution with a horizon: with all steps ahead.
    """
    finite = solution.q.ndim == 3
    v, policy = (solution.v[0], solution.policy[:1].sum(axis=0)) if finite else (solution.v, solution.policy)
    about = [
        ("method", solution.method),
        ("γ", f"{solution.gamma:g}"),
        *([("temperature", f"{solution.temperature:g}")] if solution.temperature else []),
        *([("horizon", f"{len(solution.q)} steps")] if finite else []),
        ("error bound", f"max |v − exact| ≤ {solution.error_bound:.3g}"),
        ("states", f"{len(v):,}"),
        ("v", f"{v.min():.5g} to {v.max():.5g}"),
    ]
    rows: list[tuple[object, ...]] = []
    for s in range(min(len(v), MOST)):
        taken = np.flatnonzero(policy[s])
        actions = [f"{a}" if len(taken) == 1 else f"{a} ({policy[s, a]:.3g})" for a in taken[:MOST_NAMES].tolist()]
        rows.append((s, f"{v[s]:.6g}", _listed(actions, len(taken)) or "none"))
    if len(v) > MOST:
        rows.append(("…", f"{len(v) - MOST:,} more states", ""))
    return html_table("Solution", about) + html_table("values", rows, ("state", "v", "actions (probability)"))


def _name(names: Sequence[str] | None, k: int) -> str:
    return str(k) if names is None else names[k]


def _listed(names: Sequence[str], count: int) -> str:
    return ", ".join(names) + (f", … ({count:,} in all)" if count > len(names) else "")
