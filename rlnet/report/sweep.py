"""`report.html` of a sweep, and the part of a run's page that sets the settings of its population side by side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from rlnet.config import ConfigError
from rlnet.config.files import MISFIT, check_folder, printable, reading
from rlnet.experiment.run_files import write_text
from rlnet.numerics.statistics import improvement, interval, iqm, mean
from rlnet.report.finished import Finished, is_run, read_run
from rlnet.report.html import embedded, number, render, shown, versions
from rlnet.report.methods import REACHED, Method, methods, score_of
from rlnet.report.sweep_figure import MOST, compared_curves, interval_figure, profile_figure

BESIDE = ("exact/regret", "exact/v_rmse", "exact/q_rmse")  # shown too where all runs are of one task
WORDS = {REACHED: "normalised return (0: random actions, 1: optimal)", "return/mean": "return at the end"}


def is_sweep(folder: Path) -> bool:
    """Whether a folder holds runs."""
    return folder.is_dir() and any(is_run(child) for child in folder.iterdir())


def write_sweep(folder: Path, trust: bool = False) -> Path:
    """Write report.html into the folder of a sweep, from the files of its runs, and return its path.

    Args:
        folder: of the sweep.
        trust: whether the configs of its runs may have code run: see `rlnet.config.trust`.

    Raises:
        ConfigError: the folder holds no runs, needs to be trusted, or a run's files cannot be read.
    """
    children = []
    if folder.is_dir():
        check_folder(folder)
        children = [child for child in folder.iterdir() if is_run(child)]
    if not children:
        raise ConfigError(f"{folder}: is neither the folder of a run nor of a sweep")
    children.sort(key=lambda child: (len(child.name), child.name))  # 0, 1, ..., 10
    runs = [read_run(child, trust) for child in children]
    path = folder / "report.html"
    with reading(folder, MISFIT):
        page = render("sweep.html", _context(folder, runs))
    write_text(path, page)
    return path


def _context(folder: Path, runs: Sequence[Finished]) -> dict[str, Any]:
    asked = list(dict.fromkeys(item for run in runs for item in run.overrides if not item.startswith("hydra.")))
    part = compared(runs)
    return {
        "title": f"Sweep of {len(runs)} runs: {', '.join(dict.fromkeys(run.config.algo.name for run in runs))} on "
        f"{', '.join(dict.fromkeys(run.config.env.name for run in runs))}",
        "subtitle": f"{sum(method.runs for method in part['methods'])} runs of single seeds",
        "verdict": part["verdict"],
        "methods": part,
        "runs": [_listed(run) for run in runs],
        "commands": [_command(runs, asked), f"python scripts/report.py {shlex.quote(str(folder))}"],
        "versions": versions(),
        "configurations": [],
    }


def _listed(run: Finished) -> dict[str, str]:
    verdict = run.comparison["verdict"] if run.comparison else "no finite model: nothing exact to compare with"
    page = run.folder / "report.html"
    return {
        "name": printable(run.folder.name),
        "asked": " ".join(run.overrides),
        "verdict": verdict,
        # As a path from here on, whatever the name: never as a scheme.
        "link": f"./{quote(run.folder.name)}/{'report.html' if page.is_file() else ''}",
    }


def _command(runs: Sequence[Finished], asked: Sequence[str]) -> str:
    """The sweep's command line, put together from those of its runs."""
    values: dict[str, list[str]] = {}
    for item in asked:
        key, _, value = item.partition("=")
        values.setdefault(key, []).append(value)
    arguments = " ".join(f"{key}={','.join(each)}" for key, each in values.items())
    return f"python scripts/train.py {'-m ' if len(runs) > 1 else ''}{arguments}"


def compared(runs: Sequence[Finished]) -> dict[str, Any]:
    """Table, pictures and verdict on the methods of some runs, the best interquartile mean first."""
    score = score_of(runs)
    ranked = [method for method in methods(runs) if score in method.scores]
    ranked.sort(key=lambda method: -np.nan_to_num(float(iqm(*method.samples(score))), nan=-np.inf))
    tasks = list(dict.fromkeys(task for method in ranked for task in method.scores[score]))
    beside = [name for name in BESIDE if len(tasks) == 1 and all(name in method.scores for method in ranked)]
    best = ranked[0]
    head = ["setting", "runs", f"IQM of {score.removeprefix('exact/')}", "95 % interval", "mean", "95 % interval"]
    head += ["P(the first is better than it)"] if len(ranked) > 1 else []
    head += [f"IQM of {name.removeprefix('exact/')}" for name in beside]
    rows = [{"name": method.name, "cells": _cells(method, best, score, beside, len(ranked) > 1)} for method in ranked]
    return {
        "methods": ranked,
        "note": f"IQM: interquartile mean of the {WORDS[score]}, over seeds{' and tasks' if len(tasks) > 1 else ''}; "
        "intervals by stratified bootstrap (Agarwal et al. 2021), from three runs of each task on.",
        "head": head,
        "rows": rows,
        "pictures": _pictures(ranked, score, tasks),
        "verdict": _verdict(ranked, score, tasks),
    }


def _cells(method: Method, best: Method, score: str, beside: Sequence[str], several: bool) -> list[dict[str, str]]:
    samples = method.samples(score)
    cells = [{"text": str(method.runs), "value": ""}]
    for statistic in (iqm, mean):
        middle = shown(score, float(statistic(*samples)))
        cells += [
            {"text": middle.text, "value": middle.value},
            {"text": _ends(samples, statistic), "value": ""},
        ]
    if several:
        cells.append({"text": "" if method is best else _improves(best, method, score), "value": ""})
    for name in beside:
        middle = shown(name, float(iqm(*method.samples(name))))
        cells.append({"text": middle.text, "value": middle.value})
    return cells


def _ends(samples: Sequence[np.ndarray], statistic) -> str:
    low, high = (float(x) for x in interval(samples, statistic))
    return f"{number(low)} to {number(high)}" if np.isfinite(low) else ""


def _improves(best: Method, other: Method, score: str) -> str:
    """P(a run of the first method is better than a run of the other), on the tasks that both have been run on."""
    x, y = best.scores[score], other.scores[score]
    shared = [task for task in x if task in y]
    if not shared:
        return ""
    samples = [x[task] for task in shared] + [y[task] for task in shared]
    ends = _ends(samples, improvement)
    return f"{float(improvement(*samples)):.2f}" + (f" ({ends})" if ends else "")


def _pictures(ranked: Sequence[Method], score: str, tasks: Sequence[str]) -> list[dict[str, Any]]:
    names, samples = [method.name for method in ranked], [method.samples(score) for method in ranked]
    what = score.removeprefix("exact/").replace("_", " ")
    drawn = [embedded(interval_figure(names, samples, what), "interquartile means with intervals")]
    note = f"The first {MOST} of {len(names)} settings." if len(names) > MOST else ""
    if max(method.runs for method in ranked) > 1:
        drawn.append(embedded(profile_figure(names, samples, what), "performance profiles", note))
    column = "exact/regret" if score == REACHED else score
    rows = [method.rows[tasks[0]] for method in ranked] if len(tasks) == 1 else []
    if rows and all(any(np.isfinite(float(row.get(column) or "nan")) for row in mine) for mine in rows):
        drawn.append(embedded(compared_curves(names, rows, column), f"learning curves of {column}", note))
    return drawn


def _verdict(ranked: Sequence[Method], score: str, tasks: Sequence[str]) -> str:
    best, what = ranked[0], WORDS[score].partition(" (")[0]
    samples = best.samples(score)
    ends = _ends(samples, iqm)
    reached = number(float(iqm(*samples))) + (f" (95 % interval {ends})" if ends else "")
    on = f"{len(tasks)} tasks" if len(tasks) > 1 else tasks[0]
    if len(ranked) == 1:
        return f"Over {best.runs} runs on {on} the interquartile mean of the {what} is {reached}."
    chance = _improves(best, ranked[1], score)
    return (
        f"Of {len(ranked)} settings on {on}, {best.name} has the highest interquartile mean of the {what}: {reached}. "
        f"A run of it beats a run of the next, {ranked[1].name}, with probability {chance}."
    )
