"""Terminal output of a diagnosis."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlnet.mdp import FiniteMDP
from rlnet.report.panels import action_names, state_names
from rlnet.report.terminal import show_files
from rlnet.report.text import fit, say

PARTS = {
    "approximation": "what this function class cannot represent",
    "distribution": "the data weighs states otherwise than the comparison",
    "bootstrapping": "where exact expected updates would end, beyond that",
    "sampling": "sampled data and unfinished optimisation",
    "everything else": "all that is not approximation",
    "error": "all of it",
}


def show_diagnosis(document: dict[str, Any], mdp: FiniteMDP, file: Path) -> None:
    """Print a diagnosis, the content of diagnosis.json, and where that is."""
    console = Console()
    _show_value(console, document["value"], len(document["members"]))
    _show_gradient(console, document["policy_gradient"])
    _show_coverage(console, document["coverage"], document["error_by_visits"])
    _show_regret(console, document["regret"], mdp)
    show_files(console, [file])


def _undefined(console: Console, what: str, part: dict[str, Any]) -> bool:
    if "not_defined" in part:
        say(console, f"{what}: not defined here: {part['not_defined']}.")
    return "not_defined" in part


def _table(console: Console, title: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE, title=fit(console, title), title_justify="left", title_style="bold")
    table.pad_edge, table.padding = False, (0, 1, 0, 0)
    for k, heading in enumerate(columns):
        table.add_column(fit(console, heading), justify="left" if k == 0 else "right", no_wrap=True)
    return table


def _row(console: Console, table: Table, *cells: str) -> None:
    table.add_row(*(Text(fit(console, cell)) for cell in cells))


def _number(value: float | str | None) -> str:
    return "" if value is None else f"{float(value):.4g}" if not abs(float(value)) < 1e-7 else "≈ 0"


def _show_value(console: Console, part: dict[str, Any], members: int) -> None:
    if _undefined(console, "The error of the values", part):
        return
    over = f", mean over {members} members" if members > 1 else ""
    table = _table(console, f"Where the error of {part['of']} comes from{over}", "part", "rmse", "share")
    table.add_column("meaning")
    for name in (*part["share"], "error"):
        share = part["mean_share"].get(name, 1.0)
        percent = round(100 * float(share), 1) + 0.0  # no "-0.0"
        cells = (name, _number(part["mean_rmse"][name]), f"{percent:.1f} %", PARTS[name])
        _row(console, table, *cells)
    console.print(table)
    say(console, "The parts add up to the error state by state; a negative share cancels part of the others.")
    if part["bootstrapping_not_defined"]:
        say(console, f"Bootstrapping: not defined here: {part['bootstrapping_not_defined']}.")
    else:
        say(console, f"Target: {part['target']}. Weights of the data: {part['data']}.")


def _show_gradient(console: Console, part: dict[str, Any]) -> None:
    if _undefined(console, "Policy gradient", part):
        return
    table = _table(
        console, "The gradient of one update against the exact gradient of J", "number", "mean", "min", "max"
    )
    table.add_column("meaning")
    meanings = {
        "cosine": "of one batch with the exact one, mean over batches",
        "cosine_of_mean": "of the mean over batches with the exact one",
        "bias": "relative, beyond a scale",
        "bias_noise": "what sampling alone makes of it",
        "variance": "noise of one batch relative to the signal",
    }
    for name, meaning in meanings.items():
        values = [float(x) for x in part[name]]
        cells = (sum(values) / len(values), min(values), max(values))
        _row(console, table, name, *map(_number, cells), meaning)
    console.print(table)


def _show_coverage(console: Console, part: dict[str, Any], errors: dict[str, Any]) -> None:
    say(
        console,
        f"Coverage: {part['tried']} of {part['pairs']} reachable (s, a) were tried, {part['median_visits']:.0f} times "
        f"in the median; {100 * part['tried_by_policy']:.0f} % of those that the policy takes.",
    )
    if _undefined(console, "Error against visits", errors):
        return
    table = _table(console, "Error against visits", "visits", "how many", "mean error", "largest")
    for row in errors["rows"]:
        name = "none" if row["most"] == 0 else f"{row['least']:,} to {row['most']:,}"
        _row(console, table, name, str(row["units"]), _number(row["mean"]), _number(row["max"]))
    console.print(table)


def _show_regret(console: Console, part: dict[str, Any], mdp: FiniteMDP) -> None:
    if _undefined(console, "Regret", part):
        return
    if not part["largest"]:
        say(console, "Regret: none, the policy is optimal from the start.")
        return
    states, actions = state_names(mdp), action_names(mdp)
    table = _table(
        console, f"Where the regret of {part['total']:.4g} arises", "state", "loss", "share", "takes", "better"
    )
    for row in part["largest"]:
        names = actions[row["taken"]], actions[row["better"]]
        share = f"{100 * row['loss'] / part['total']:.1f} %"
        _row(console, table, states[row["state"]], _number(row["loss"]), share, *names)
    console.print(table)
