"""The part of a run's page about states: interactive drawings, scatter plots, completions of token policies."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlnet.compare import reachable
from rlnet.mdp import FiniteMDP
from rlnet.mdp.cells import Kind, cells_of
from rlnet.mdp.marks import meanings
from rlnet.report.completions import frontier_figure, likeliest, per_prompt, policies_of
from rlnet.report.figures import values_figure
from rlnet.report.finished import Finished
from rlnet.report.html import TEMPLATES, embedded, number
from rlnet.report.panels import Panel, learned_and_exact, state_names
from rlnet.report.scatter_figure import scatter_figure, visits_figure
from rlnet.report.states import describe
from rlnet.report.svg_map import bars, maps

MOST_STATES = 2500  # of an interactive drawing; with more, the page would take too long to open
LONGEST_ROW = 15  # cells of a grid of one row that is drawn as a grid
WORST = 20  # states that are listed instead


def scatter_plots(run: Finished) -> list[dict[str, Any]]:
    """Learned against exact, and error against visits: of Q, or of V where there is no Q."""
    m, values, states = run.shown["member"], run.values, reachable(run.mdp)
    kind = next((kind for kind in ("q", "v") if kind in values), None)
    if kind is None:
        return []
    learned, exact = values[kind][m], values[f"{kind}_exact"][m]
    pictures = (
        (scatter_figure(run.mdp, learned, exact, states), "learned against exact values"),
        (visits_figure(run.mdp, learned, exact, values["visits"][m], states), "error against visits"),
    )
    return [embedded(figure, alt) for figure, alt in pictures]


def completion_tables(run: Finished) -> dict[str, Any] | None:
    """Tables and figures of a token policy: completions, and its place on the frontier."""
    known = run.completions
    if known is None:
        return None
    m, drawn = run.shown["member"], []
    if known.log_reference is not None:
        drawn.append(embedded(frontier_figure(known, run.rows), "the reward-KL frontier and the run's path"))
    tables = [
        per_prompt(run.mdp, known, run.values["pi"][m]),
        likeliest(run.mdp, known, policies_of(run.values, m, "optimal π*")),
    ]
    return {"note": member_note(run), "pictures": drawn, "tables": tables}


def member_note(run: Finished) -> str:
    """Which member is drawn, where there are several."""
    return f"Drawn is {run.shown['name']}." if run.shown["name"] else ""


def state_maps(run: Finished) -> dict[str, Any]:
    """The drawings of all states and what the inspector needs; a list of the worst ones where there are too many."""
    mdp, m, values = run.mdp, run.shown["member"], run.values
    if "v" not in values:
        return {}
    if mdp.n_states > MOST_STATES or (mdp.sign is not None and mdp.shape is None):  # games are shown by their boards
        return {"worst": _worst(run)}
    grid = mdp.shape is not None and (min(mdp.shape) > 1 or max(mdp.shape) <= LONGEST_ROW)
    visits = values["visits"][m].sum(1)
    return {
        "maps": (maps if grid else bars)(mdp, _panels(run), visits),
        "maps_kind": "grid" if grid else "bars",
        "maps_note": f"{member_note(run)} Point at a state, or click one to keep it (again, or Escape, to let go). "
        + (f"Arrows: most probable actions; pink frame: start{_marks_note(mdp)}." if grid else ""),
        "states": describe(mdp, values, m, "V*" if _optimal(run) else "V^π"),
        "script": (TEMPLATES / "inspect.js").read_text(encoding="utf-8"),
    }


def _optimal(run: Finished) -> bool:
    """Whether values were compared with V*, not with those of a policy."""
    return bool(run.judged["compared_with"].startswith("V*"))


def _panels(run: Finished) -> list[Panel]:
    """Learned and exact values and policies of the member that is drawn."""
    m, values = run.shown["member"], run.values
    return learned_and_exact(
        values["v"][m],
        values["v_exact"][m],
        values["pi"][m],
        values["pi_exact"][m],
        "optimal" if _optimal(run) else "policy",
        approximation=run.judged["exact"].get("approximate", ""),
    )


def _marks_note(mdp: FiniteMDP) -> str:
    """Legend of the letters in the cells."""
    cells = cells_of(mdp)
    wall = ["dark: wall"] if (cells.kind == Kind.WALL).any() else []
    return "".join(f"; {text}" for text in [text for _, text in meanings(cells)] + wall)


def _worst(run: Finished) -> dict[str, Any]:
    mdp, m, values = run.mdp, run.shown["member"], run.values
    error = np.where(mdp.terminal, 0.0, np.nan_to_num(values["v"][m] - values["v_exact"][m], nan=np.inf))
    order = np.argsort(-np.abs(error), kind="stable")[:WORST]
    names, visits = state_names(mdp), values["visits"][m].sum(1)
    rows = [
        [names[s], number(values["v"][m][s]), number(values["v_exact"][m][s]), number(error[s]), f"{visits[s]:,}"]
        for s in order
    ]
    note = f"{member_note(run)} The {len(rows)} states of largest error, of {mdp.n_states:,}."
    tried = Panel("visits in training: log₁₀(1 + n)", np.log10(1.0 + visits))
    images = [
        embedded(values_figure(mdp, _panels(run)), "learned and exact values of all states, and their difference"),
        embedded(values_figure(mdp, [tried]), "how often each state was visited"),
    ]
    return {"note": note, "head": ["state", "learned V", "exact V", "error", "visits"], "rows": rows, "images": images}
