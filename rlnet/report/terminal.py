"""Terminal output: scores, learned against exact values, files."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlnet.compare import names
from rlnet.report import sampled
from rlnet.report.live import Progress, progress
from rlnet.report.panels import (
    ERROR,
    VALUE,
    Panel,
    action_names,
    as_chain,
    check_panels,
    chosen_actions,
    state_names,
    unit_of,
)
from rlnet.report.text import fit, print_text, say
from rlnet.report.text_grid import show_grid

if TYPE_CHECKING:
    from rich.console import Console

    from rlnet.mdp import FiniteMDP

__all__ = ["Panel", "Progress", "progress", "show_files", "show_scores", "show_values"]

MAX_STATES = 20  # rows of a table of states

MEANINGS = (
    names.MEANINGS
    | sampled.MEANINGS
    | {
        "episode/length": "mean number of steps per episode",
        "episode/count": "training episodes since the row before",
        "loss/td_error": "root mean square TD error",
        "loss/value_error": "root mean square error of V",
        "loss/total": "what is minimised, on the last batch",
        "loss/mc_error": "root mean square error against returns",
        "loss/complete_returns": "share of the steps whose return was sampled to its end",
        "loss/kl": "divergence from the policy that acted, or of texts from the reference, in nats",
        "loss/policy_kl": "divergence of π from the search's policy, in nats",
        "loss/clipped": "share of the steps whose ratio lies outside the clip",
        "loss/agreement": "share of the pairs in which the preferred completion has gained",
        "loss/best_return": "mean return of the best of a group",
        "loss/grad_norm": "norm of its gradient, before clipping",
        "explore/epsilon": "probability of an action at random",
        "explore/entropy": "mean entropy of the policy, in nats",
        "explore/temperature": "of the softmax, or the price of entropy",
        "explore/bonus": "factor of the count bonus",
        "explore/entropy_factor": "factor of the entropy bonus",
        "explore/sigma": "mean deviation of the noise in parameters",
        "constraint/multiplier": "λ, what the event costs in the rewards that are learned from",
        "constraint/event_rate": "share of the training episodes with the event",
        "replay/correction": "β, exponent of the importance weights",
        "optimizer/learning_rate": "of the last update",
        "evaluation/return": "return of evaluation episodes, undiscounted",
        "evaluation/return_half_interval": "half of its 95 % interval over episodes",
        "evaluation/discounted": "the same, discounted",
        "evaluation/length": "their mean number of steps",
        "evaluation/event_rate": "share of them with the event",
        "evaluation/behaviour_return": "undiscounted, exploration included",
        "evaluation/behaviour_return_half_interval": "half of its 95 % interval over episodes",
        "evaluation/behaviour_discounted": "discounted, exploration included",
        "evaluation/behaviour_length": "their mean number of steps",
        "evaluation/behaviour_event_rate": "share of them with the event",
        "time/evaluation_share": "share of the time spent on evaluating",
        "time/compare_share": "share of the time spent on comparing",
        "time/steps_per_second": "environment steps per second",
    }
)
RATES = (*names.SHARES, "time/compare_share", "time/evaluation_share")
FILES = {
    "config.yaml": "the composed configuration",
    "metrics.csv": "every logged number, a row per step and member",
    "comparison.json": "the final scores against the exact solution",
    "evaluation.json": "returns of episodes in an environment of their own",
    "evaluation.npz": "every episode of them, and predicted returns",
    "positions.npz": "V and π of the first positions of the game, and of those next to games played out",
    "values.npz": "learned and exact V, Q and π of every state",
    "solution.npz": "the exact V, Q and optimal policy",
    "checkpoint.pt": "everything needed to resume",
    "reference.pt": "the reference policy",
    "diagnosis.json": "where the error comes from, and the regret",
    "audit.json": "what was tested, and every difference found",
    "estimator.json": "the expected update beside exact gradients",
    "estimator.html": "the same in words and with a picture, on one page",
    "trl.json": "the expected updates of TRL's trainers beside exact gradients",
    "trl.html": "the same in words and with a picture, on one page",
    "report.html": "the whole run on one page",
    "values.png": "values against the exact ones, as a picture",
    "curves.png": "learning curves",
}
OF_KIND = {".png": "a picture", ".json": "the same numbers, for programs"}  # files whose names are free


def show_scores(
    console: Console,
    title: str,
    scores: Mapping[str, Sequence[float] | np.ndarray],
    notes: Mapping[str, str] | None = None,
) -> None:
    """Print a table of scores with their meaning.

    Args:
        console: where to.
        title: the heading.
        scores: by name, one value per member [M]; with M > 1 mean, least and largest are shown.
        notes: by score name, a remark that follows its meaning; any other key becomes a line below the table.

    Raises:
        ValueError: a score has no value, or the scores differ in their number of members.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    notes = notes or {}
    members = {len(np.atleast_1d(values)) for values in scores.values()}
    if len(members) > 1 or members == {0}:
        raise ValueError(f"every score needs one value per member, there are {sorted(members)} values")
    many = max(members, default=1) > 1
    table = Table(title=Text(fit(console, title)), box=box.SIMPLE, title_justify="left", title_style="bold")
    table.pad_edge, table.padding = False, (0, 1, 0, 0)
    table.add_column("score", no_wrap=True)
    for heading in ("mean", "min", "max") if many else ("value",):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("meaning")
    strange = []
    for name, given in scores.items():
        values = np.atleast_1d(np.asarray(given, dtype=np.float64))
        meaning = "; ".join(filter(None, (MEANINGS.get(name, "") or names.meaning(name), notes.get(name, ""))))
        cells = [written(name, x) for x in (_spread(values) if many else values)]
        style = None if np.isfinite(values).all() else "bold red"
        table.add_row(
            Text(fit(console, name)), *(Text(cell, style=style or "") for cell in cells), Text(fit(console, meaning))
        )
        if many and not np.isfinite(values).all():
            strange.append(f"{name}: not finite for {int((~np.isfinite(values)).sum())} of {len(values)} members")
    console.print(table)
    if many:
        say(console, f"Mean, least and largest over {max(members)} members.")
    for line in [*strange, *(f"{key}: {note}" for key, note in notes.items() if key not in scores)]:
        say(console, line)


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, least and largest; infinities of both signs have no mean."""
    with np.errstate(invalid="ignore"):
        return float(values.mean()), float(values.min()), float(values.max())


def written(name: str, value: float) -> str:
    """A score as text: a share in %, others by four digits, what is only rounding as ≈ 0."""
    if not np.isfinite(value):
        return str(float(value))
    if name in RATES:
        return f"{100 * value:.1f} %"
    if 0 < abs(value) < 1e-9:
        return "≈ 0"  # rounding of an exact solution, not a result
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def show_values(console: Console, mdp: FiniteMDP, panels: Sequence[Panel]) -> None:
    """Print values of all states: grids with arrows where the model has a shape, otherwise a table of states.

    Args:
        console: where to; its width decides what stands side by side.
        mdp: the model; S states.
        panels: e.g. learned V, exact V* and their difference, each v [S] and perhaps a policy [S, A].

    Raises:
        ValueError: no panels, or one does not fit the model.
    """
    check_panels(mdp, panels)
    if mdp.shape is None or as_chain(mdp):
        _show_table(console, mdp, panels)
    else:
        show_grid(console, mdp, panels)


def _show_table(console: Console, mdp: FiniteMDP, panels: Sequence[Panel]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    units = {kind: unit_of(mdp, panels, kind) for kind in (VALUE, ERROR)}
    states, which = _rows_to_show(mdp, panels)
    labels, actions = state_names(mdp), action_names(mdp)
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("state")
    for panel in panels:
        table.add_column(fit(console, panel.title + units[panel.kind].suffix), justify="right")
        if panel.policy is not None:
            table.add_column("action")
    chosen = {id(p): chosen_actions(mdp, p.policy) for p in panels if p.policy is not None}
    for s in states:
        cells = [labels[s]]
        for panel in panels:
            cells.append("end" if mdp.terminal[s] else units[panel.kind].text(panel.v[s]))
            if panel.policy is not None:
                cells.append(_join(actions, np.flatnonzero(chosen[id(panel)][s])))
        table.add_row(*(Text(fit(console, cell)) for cell in cells))
    console.print(table)
    if which:
        say(console, f"The {len(states)} {which}, of {mdp.n_states}.")


def _rows_to_show(mdp: FiniteMDP, panels: Sequence[Panel]) -> tuple[np.ndarray, str]:
    """All states in their order, or those of largest error (what is no number first), or the first."""
    if mdp.n_states <= MAX_STATES:
        return np.arange(mdp.n_states), ""
    errors = [np.where(mdp.terminal, -1.0, np.nan_to_num(np.abs(p.v), nan=np.inf)) for p in panels if p.kind == ERROR]
    if not errors:
        return np.arange(MAX_STATES), "first states"
    return np.argsort(-np.max(errors, axis=0), kind="stable")[:MAX_STATES], "states with the largest error"


def _join(names: Sequence[str], chosen: np.ndarray, most: int = 4) -> str:
    between = " " if max(map(len, names)) == 1 else ", "
    shown = between.join(names[a] for a in chosen[:most])
    return shown if len(chosen) <= most else f"{shown} … ({len(chosen)})"


def show_files(console: Console, paths: Iterable[Path | str]) -> None:
    """Print the files that were written and what each is; a missing one is said to be missing."""
    from rich.text import Text

    files = [Path(path) for path in paths]
    if not files:
        return
    width = max(len(str(path)) for path in files)
    print_text(console, Text("Written:", style="bold"))
    for path in files:
        line = Text(f"  {str(path).ljust(width)}  ")
        line.append(_describe(path) if path.exists() else "missing", style="dim")
        console.print(line, soft_wrap=True)  # a path that a terminal broke in two cannot be copied


def _describe(path: Path) -> str:
    if path.name.startswith("events.out.tfevents"):
        return f"for TensorBoard: tensorboard --logdir {shlex.quote(str(path.parent))}"
    return FILES.get(path.name, OF_KIND.get(path.suffix, ""))
