"""`report.html` of a run: one self-contained page, with the commands that reproduce it."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from rlnet.compare.names import BOUNDS, in_order, meaning
from rlnet.config import ConfigError
from rlnet.config.files import MISFIT, reading, regular
from rlnet.config.population import settings
from rlnet.envs import Environment
from rlnet.experiment.evaluation_files import DOCUMENT
from rlnet.experiment.run_files import write_text
from rlnet.report import terminal
from rlnet.report.curves import PICTURES
from rlnet.report.evaluated import evaluation_section, evaluation_verdict
from rlnet.report.figures import curves_figure
from rlnet.report.finished import Finished, read_run
from rlnet.report.html import embedded, number, render, shown, versions
from rlnet.report.page_board import unsolved_section
from rlnet.report.page_game import game_section
from rlnet.report.page_states import completion_tables, member_note, scatter_plots, state_maps
from rlnet.report.panels import action_names, state_names
from rlnet.report.reproduce import command_beside, of_run
from rlnet.report.risk import risk_section
from rlnet.report.sampled import beside_exact
from rlnet.report.situations import situations_section
from rlnet.report.sweep import compared

CLIP, LARGEST_CLIP = "clip.gif", 8_000_000  # a film of an episode; bytes that a page takes
GUARANTEES = set(BOUNDS.values())
BLAME = {
    "approximation": "what the network class cannot represent",
    "sampling": "sampling and optimisation",
    "everything else": "not due to the network class",
}
TIME_LIMIT = (  # stationary, limited
    ("of the judged policy", "exact/return", "exact/limited_return"),
    ("of the best policy", "exact/optimal_return", "exact/limited_optimal_return"),
)


def write_page(folder: Path, trust: bool = False, environment: Environment | None = None) -> Path:
    """Write report.html into a run's folder, from the files there, and return its path.

    Args:
        folder: of the run.
        trust: whether its config may have code run: see `rlnet.config.trust`.
        environment: the one that its config describes, where it need not be built again.

    Raises:
        ConfigError: the folder is not that of a run, or needs to be trusted, or its files do not fit together.
    """
    run = read_run(folder, trust, environment)
    with reading(folder, MISFIT):
        page = render("run.html", _context(run))
    path = folder / "report.html"
    write_text(path, page)
    return path


def _context(run: Finished) -> dict[str, Any]:
    config, comparison = run.config, run.comparison
    members = len({row["member"] for row in run.rows})
    context: dict[str, Any] = {
        "title": f"{config.algo.name} on {config.env.label}",
        "subtitle": _subtitle(run, members),
        "many": members > 1,
        "commands": commands(run),
        "versions": versions(),
        "configurations": [("", (run.folder / ".hydra" / "config.yaml").read_text(encoding="utf-8"))],
        "curves": _curves(run),
        "clip": _clip(run.folder),
    }
    with reading(run.folder / DOCUMENT, "is not the evaluation of this run"):
        context["evaluation"] = evaluation_section(run)
    if comparison is None:
        own = {"last": _last(run), "verdict": evaluation_verdict(run), "game": unsolved_section(run)}
        return context | own
    context |= {
        "verdict": verdict(run),
        "scores": score_rows(comparison["aggregate"]),
        "scores_note": f"Judged: {comparison['judged_policy']}, against {_reference(comparison)}. "
        f"{comparison['weights'][0].upper()}{comparison['weights'][1:]}.{_counted(comparison)}",
        "training": _training(run),
        "tried": comparison["exact"].get("tried", ""),
        "certificates": _tightness(comparison["aggregate"]),
        "time_limit": _time_limit(comparison),
        "methods": compared([run]) if len(comparison["settings"]) > 1 else None,
        "diagnosis": _diagnosis(run.diagnosis),
        "costly": _costly(run),
        "scatter": scatter_plots(run),
        "completions": completion_tables(run),
        "risks": risk_section(comparison),
        "situations": situations_section(run),
        "game": game_section(run),
        "scatter_note": member_note(run),
    }
    return context | state_maps(run)


def _clip(folder: Path) -> str | None:
    """The film of the folder, base64, where somebody has asked for one."""
    path = folder / CLIP
    if not path.exists():
        return None
    content = regular(path, LARGEST_CLIP).read_bytes()
    if not content.startswith((b"GIF87a", b"GIF89a")):
        raise ConfigError(f"{path}: is no GIF")
    return base64.b64encode(content).decode("ascii")


def _reference(comparison: dict[str, Any]) -> str:
    """What is compared with: V*, Q*, say."""
    return ("approximate " if comparison["exact"].get("approximate") else "") + comparison["compared_with"]


def _counted(comparison: dict[str, Any]) -> str:
    """A sentence on what exact returns and values count, where that is not the reward alone."""
    what = comparison["objective"]
    return "" if what == "reward" else f" J, V and Q count {what}."


def verdict(run: Finished) -> str:
    """The verdict of comparison.json, and the main part of the error where that was diagnosed."""
    said = run.judged["verdict"]
    shares = ((run.diagnosis or {}).get("value") or {}).get("mean_share")
    if not shares:
        return said
    parts = {name: share for name, share in shares.items() if name not in ("error", "distribution")}
    name, share = max(parts.items(), key=lambda item: float(item[1]))
    return f"{said} {100 * float(share):.0f} % of the squared error is {BLAME.get(name, name)}."


def commands(run: Finished) -> list[str]:
    """The commands that repeat the run, its scores and its page."""
    folder = shlex.quote(str(run.folder))
    again = [f"{command_beside(run, name)} {folder}" for name in ("compare", "report")]
    return [*of_run(run), *(again if run.comparison else again[1:])]


def _subtitle(run: Finished, members: int) -> str:
    config = run.config
    gamma = config.gamma if run.comparison is None else run.comparison["gamma"]
    gamma = ", ".join(f"{x:g}" for x in gamma) if isinstance(gamma, list) else f"{gamma:g}"
    seeds = f"seed {config.seed}" if config.seeds == 1 else f"seeds {config.seed} to {config.seed + config.seeds - 1}"
    grid = len(settings(config))
    population = f", {grid} settings, {members} members" if grid > 1 else ""
    return f"γ = {gamma}, {config.network.name} network, {config.steps:,} steps, {seeds}{population}"


def score_rows(aggregate: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of scores, in the order of MEANINGS; guarantees beside what they bound."""
    rows = []
    for name in in_order(aggregate):
        if name in GUARANTEES:
            continue
        numbers, bound = aggregate[name], aggregate.get(BOUNDS.get(name, ""))
        rows.append(
            {
                "name": name,
                "short": name.removeprefix("exact/"),
                "meaning": meaning(name),
                "mean": shown(name, numbers["mean"]),
                "iqm": shown(name, numbers["iqm"]),
                "broken": not np.isfinite(float(numbers["mean"])),
                "bound_name": BOUNDS.get(name),
                "bound": None if bound is None else shown(name, bound["mean"]),
                "bound_text": "" if bound is None else _guarantee(name, bound["mean"]),
                **{key: _interval(name, numbers[key]) for key in ("mean_interval", "iqm_interval")},
            }
        )
    return rows


def _training(run: Finished) -> str:
    """The returns of training beside J(π), where all members solve the same problem in the same way."""
    comparison = run.comparison
    if comparison is None or len(comparison["settings"]) > 1:
        return ""
    value = comparison["aggregate"]["exact/return"]["mean"]
    return beside_exact(run.rows, value, comparison["objective"])


def _guarantee(name: str, bound: float | str) -> str:
    return f"≤ {shown(name, bound).text}" if np.isfinite(float(bound)) else "nothing"


def _interval(name: str, ends: list[float] | None) -> str:
    return "" if ends is None else " to ".join(shown(name, x).text for x in ends)


def _tightness(aggregate: dict[str, Any]) -> str:
    """How far the guarantees lie above the true errors."""
    ratios = []
    for true, bound in BOUNDS.items():
        if true in aggregate and bound in aggregate:
            error, proved = float(aggregate[true]["mean"]), float(aggregate[bound]["mean"])
            if np.isfinite(proved) and np.isfinite(error) and error > 1e-9:
                ratios.append(f"{proved / error:.3g} times {true.removeprefix('exact/')}")
    known = [bound for bound in GUARANTEES & set(aggregate) if not np.isfinite(float(aggregate[bound]["mean"]))]
    none = (
        " Nothing is proved where the bound is infinite: no bound on the steps to the end was found." if known else ""
    )
    return (f"Here they are {', '.join(ratios)}." if ratios else "") + none


def _time_limit(comparison: dict[str, Any]) -> dict[str, Any] | None:
    limit, aggregate = comparison.get("time_limit"), comparison["aggregate"]
    if limit is None:
        return None

    def middle(name: str) -> str:
        return shown(name, aggregate[name]["iqm"]).text

    rows = [[what, middle(plain), middle(limited)] for what, plain, limited in TIME_LIMIT]
    for row, name in zip(rows, ("exact/episode_return", "exact/optimal_episode_return"), strict=True):
        row.append(middle(name))
    head = ["expected return", "without the limit", "with it", "with it, undiscounted"]
    estimated = f"{limit['estimated']}.{_counted(comparison)}"
    return {"steps": limit["steps"], "estimated": estimated, "head": head, "rows": rows}


def _diagnosis(diagnosis: dict[str, Any] | None) -> dict[str, Any] | None:
    value = (diagnosis or {}).get("value") or {}
    if "mean_share" not in value:
        return None
    rows = [
        [name, number(value["mean_rmse"][name]), f"{100 * float(share):.1f} %"]
        for name, share in value["mean_share"].items()
    ]
    return {"head": [f"part of the error of {value['of']}", "rmse", "share of the squared error"], "rows": rows}


def _costly(run: Finished) -> dict[str, Any] | None:
    """Table of the states with the largest regret, where that was diagnosed."""
    largest = ((run.diagnosis or {}).get("regret") or {}).get("largest")
    if not largest:
        return None
    states, actions = state_names(run.mdp), action_names(run.mdp)
    rows = [[states[x["state"]], number(x["loss"]), actions[x["taken"]], actions[x["better"]]] for x in largest]
    return {"head": ["state", "part of the regret", "taken most", "an optimal action"], "rows": rows}


def _curves(run: Finished) -> list[dict[str, Any]]:
    """Learning curves, one picture for each quantity that was logged."""
    drawn: list[dict[str, Any]] = []
    evaluated = run.evaluation is not None
    for title, names in PICTURES:
        if "evaluation/return" in names and not evaluated:
            continue
        if names == ("return/mean",) and evaluated:  # drawn beside the evaluation
            continue
        if any(np.isfinite(float(row.get(name) or "nan")) for row in run.rows for name in names):
            drawn.append(embedded(curves_figure(run.rows, [(title, names)]), f"learning curve: {title}"))
    return drawn


def _last(run: Finished) -> dict[str, Any]:
    """The last logged scalars, for environments without a finite model."""
    last = [row for row in run.rows if row["step"] == run.rows[-1]["step"]]
    rows = []
    for name in last[0]:
        numbers = np.array([float(row[name]) for row in last if row[name]]) if "/" in name else np.zeros(0)
        if len(numbers):
            rows.append([name, number(numbers.mean()), terminal.MEANINGS.get(name, "")])
    return {"head": ["number", f"after {int(last[0]['step']):,} steps", "meaning"], "rows": rows}
