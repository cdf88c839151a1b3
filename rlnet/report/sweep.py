"""`report.html` of a sweep, and the comparison of settings on a run's page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from rlnet.compare.names import LOSSES
from rlnet.compare.ranking import (
    ERROR,
    EXPLOITED,
    MOST_TOLD,
    REACHED,
    RETURN,
    SAMPLED,
    less_is_better,
    rank,
    rank_sentence,
)
from rlnet.config import ConfigError
from rlnet.config.files import MISFIT, check_folder, printable, reading
from rlnet.experiment.run_files import write_text
from rlnet.experiment.run_folder import as_typed
from rlnet.experiment.sweeps import FINISHED, JobRecord, became, planned, told_apart
from rlnet.numerics.statistics import INTERQUARTILE, Ranking, Statistic, improvement, interval, iqm, mean
from rlnet.report.evaluated import evaluation_verdict
from rlnet.report.finished import Finished, has_rows, is_run, read_run
from rlnet.report.html import embedded, number, render, shown, versions
from rlnet.report.hyperparameter_figures import heatmap_figure, parallel_figure
from rlnet.report.hyperparameters import Hyperparameter, best_command, hyperparameters
from rlnet.report.methods import Group, Method, groups
from rlnet.report.reproduce import command_beside, of_sweep
from rlnet.report.sweep_figure import MOST, compared_curves, interval_figure, profile_figure

BESIDE = (*LOSSES, "exact/v_rmse", "exact/q_rmse")  # shown too
WORDS = {
    ERROR: "error of V (root mean square where the given policy goes)",
    REACHED: "normalised return (0: random actions, 1: optimal)",
    EXPLOITED: "NashConv (what best responses gain against the policy)",
    RETURN: "expected return J(π)",
    SAMPLED: "undiscounted return of training episodes at the end, exploration included",
}
LEARNING = {REACHED: "exact/regret"}  # whose learning curve is drawn where it is not the score's own


def is_sweep(folder: Path) -> bool:
    """Whether a folder is a sweep: it holds runs."""
    return folder.is_dir() and any(is_run(child) for child in folder.iterdir())


def write_sweep(folder: Path, trust: bool = False) -> Path:
    """Write report.html into the folder of a sweep, from the files of its runs, and return its path.

    Args:
        folder: of the sweep.
        trust: whether the configs of its runs may have code run: see `rlnet.config.trust`.

    Raises:
        ConfigError: the folder holds no runs, needs to be trusted, or a run's files cannot be read.
    """
    children, jobs = [], []
    if folder.is_dir():
        check_folder(folder)
        children, jobs = [child for child in folder.iterdir() if is_run(child)], planned(folder)
    begun = [child for child in children if has_rows(child)]
    if not begun:
        if children or jobs:
            raise ConfigError(
                f"{folder}: none of the {max(len(children), len(jobs))} jobs here has logged anything yet"
            )
        raise ConfigError(f"{folder}: is neither the folder of a run nor of a sweep")
    begun.sort(key=lambda child: (len(child.name), child.name))  # 0, 1, ..., 10
    runs = [read_run(child, trust) for child in begun]
    path = folder / "report.html"
    with reading(folder, MISFIT):
        page = render("sweep.html", _context(folder, runs, jobs))
    write_text(path, page)
    return path


def _context(folder: Path, runs: Sequence[Finished], jobs: Sequence[JobRecord] = ()) -> dict[str, Any]:
    part = compared(runs)
    single = sum(method.runs for group in part["groups"] for method in group["methods"])
    return {
        "title": f"Sweep of {len(runs)} runs: {', '.join(dict.fromkeys(run.config.algo.name for run in runs))} on "
        f"{', '.join(dict.fromkeys(run.config.env.label for run in runs))}",
        "subtitle": f"{single} runs of single seeds",
        "verdict": part["verdict"],
        "methods": part,
        "runs": [_listed(run) for run in runs],
        "unfinished": [(one.name, printable(became(one))) for one in told_apart(jobs) if one.state != FINISHED],
        "commands": [*of_sweep(runs), f"{command_beside(runs[0], 'report')} {shlex.quote(str(folder))}"],
        "versions": versions(),
        "configurations": [],
    }


def _listed(run: Finished) -> dict[str, str]:
    verdict = run.comparison["verdict"] if run.comparison else evaluation_verdict(run)
    verdict = verdict or "no finite model: nothing exact to compare with"
    verdict = verdict if run.complete else f"not finished: step {run.step:,} of {run.config.steps:,}"
    page = run.folder / "report.html"
    return {
        "name": printable(run.folder.name),
        "asked": " ".join(as_typed(run.overrides)),
        "verdict": verdict,
        # As a path from here on, whatever the name: never as a scheme.
        "link": f"./{quote(run.folder.name)}/{'report.html' if page.is_file() else ''}",
    }


def compared(runs: Sequence[Finished]) -> dict[str, Any]:
    """Tables, pictures and verdict on the settings of some runs: a table for each problem, and no ranking across."""
    complete = [run for run in runs if run.complete]
    found = groups(complete)
    ranked = [_ranked(group) for group in found]
    said = [_said(group, ranking) for group, ranking in zip(found, ranked, strict=True)]
    tables = [_table(*each) for each in zip(found, ranked, said, strict=True)]
    return {"groups": tables, "verdict": " ".join([*_left_out(runs), *_mishaps(complete), *_verdicts(found, said)])}


def _ranked(group: Group) -> Ranking:
    return rank([method.scores[group.score] for method in group.methods], group.score)


def _table(group: Group, ranking: Ranking, said: str) -> dict[str, Any]:
    """The settings of one problem: the best first where it is better than another, else as they were asked for."""
    score = group.score
    shows = bool(ranking.beaten)
    order = ranking.order if shows else list(range(len(group.methods)))
    methods = [group.methods[k] for k in order]
    beside = [name for name in BESIDE if name != score and all(name in method.scores for method in methods)]
    head = ["setting", "runs", f"IQM of {_short(score)}", "95 % interval", "mean", "95 % interval"]
    head += [f"beside {methods[0].name}"] if shows else []
    head += [f"IQM of {_short(name)}" for name in beside]
    against = [[_against(group, ranking, k)] if shows else [] for k in order]
    return {
        "problem": group.problem,
        "verdict": said,
        "note": f"IQM: interquartile mean over seeds of the {WORDS[score]}; intervals by bootstrap (Agarwal et al. "
        "2021), from three runs on.",
        "head": head,
        "methods": methods,
        "rows": [
            {"name": method.name, "cells": _cells(method, score, shown_of_it, beside)}
            for method, shown_of_it in zip(methods, against, strict=True)
        ],
        "pictures": _pictures(methods, score),
        "best": best_command(group.methods[ranking.order[0]]) if len(methods) > 1 else "",
        "importance": [(one.name, f"{100 * one.share:.0f} %") for one in _importance(methods, score)],
    }


def _importance(methods: Sequence[Method], score: str) -> list[Hyperparameter]:
    """The hyperparameters whose share in the scores can be told, the largest first."""
    found = hyperparameters(methods, score) if len(methods) > 1 else []
    return [one for one in found if np.isfinite(one.share)]


def _short(score: str) -> str:
    return "training return" if score == SAMPLED else score.removeprefix("exact/")


def _cells(method: Method, score: str, against: Sequence[str], beside: Sequence[str]) -> list[dict[str, str]]:
    sample = method.scores[score]
    cells = [{"text": str(method.runs), "value": ""}]
    for statistic in (iqm, mean):
        middle = shown(score, float(statistic(sample)))
        cells += [
            {"text": middle.text, "value": middle.value},
            {"text": _ends([sample], statistic), "value": ""},
        ]
    cells += [{"text": text, "value": ""} for text in against]
    for name in beside:
        middle = shown(name, float(iqm(method.scores[name])))
        cells.append({"text": middle.text, "value": middle.value})
    return cells


def _ends(samples: Sequence[np.ndarray], statistic: Statistic) -> str:
    low, high = (float(x) for x in interval(samples, statistic))
    return f"{number(low)} to {number(high)}" if np.isfinite(low) else ""


def _against(group: Group, ranking: Ranking, k: int) -> str:
    """What the runs show of setting k beside the first: that it is worse, and how often a run of it is, or nothing."""
    if k not in ranking.beaten:
        return "" if k == ranking.order[0] else "no difference shown"
    sign = -1.0 if less_is_better(group.score) else 1.0
    pair = [np.nan_to_num(sign * group.methods[i].scores[group.score], nan=-np.inf) for i in (ranking.order[0], k)]
    ends = _ends(pair, improvement)
    return f"worse, P = {float(improvement(*pair)):.2f}" + (f" ({ends})" if ends else "")


def _pictures(methods: Sequence[Method], score: str) -> list[dict[str, Any]]:
    names = [method.name.replace("$", r"\$") for method in methods]  # no formula
    samples, what = [[method.scores[score]] for method in methods], _short(score).replace("_", " ")
    several = len(methods) > 1
    drawn = [embedded(interval_figure(names, samples, what), "interquartile means with intervals")] if several else []
    note = f"The first {MOST} of {len(names)} settings." if len(names) > MOST else ""
    if several and max(method.runs for method in methods) > 1:
        drawn.append(embedded(profile_figure(names, samples, what), "performance profiles", note))
    column = LEARNING.get(score, score)
    rows = [method.rows for method in methods]
    if all(any(np.isfinite(float(row.get(column) or "nan")) for row in mine) for mine in rows):
        drawn.append(embedded(compared_curves(names, rows, column), f"learning curves of {column}", note))
    return drawn + (_hyperparameter_pictures(methods, score, what) if several else [])


def _hyperparameter_pictures(methods: Sequence[Method], score: str, what: str) -> list[dict[str, Any]]:
    """Parallel coordinates of all settings, and a heatmap of the two hyperparameters that explain most."""
    found = hyperparameters(methods, score)
    middle = np.array([float(iqm(method.scores[score])) for method in methods])
    if len(found) < 2 or np.isfinite(middle).sum() < 2:
        return []
    drawn = [embedded(parallel_figure(found, middle, what), "settings in parallel coordinates")]
    figure = heatmap_figure(found[0], found[1], middle, what)
    note = f"Mean over the settings with these values of {found[0].name} and {found[1].name}."
    return drawn if figure is None else [*drawn, embedded(figure, "heatmap of two hyperparameters", note)]


def _said(group: Group, ranking: Ranking) -> str:
    """Which of the settings of one problem is best, as far as their runs can show, and what it reaches."""
    methods = group.methods
    best = methods[ranking.order[0]]
    what, sample = WORDS[group.score].partition(" (")[0], best.scores[group.score]
    ends = _ends([sample], iqm)
    reached = number(float(iqm(sample))) + (f" (95 % interval {ends})" if ends else "")
    middle = "interquartile mean" if best.runs >= INTERQUARTILE else "mean"
    over = f"over {best.runs} runs the {middle} of the {what}" if best.runs > 1 else f"the {what} of one run"
    if len(methods) == 1:
        return f"{best.name}: {over} is {reached}."
    sentence = rank_sentence(ranking, [one.name for one in methods], group.score, min(one.runs for one in methods))
    return f"{sentence} {best.name}: {over} is {reached}." if ranking.beaten else sentence


def _verdicts(found: Sequence[Group], said: Sequence[str]) -> list[str]:
    each = [f"For {group.problem}: {sentence}" for group, sentence in zip(found, said, strict=True)]
    return each if len(each) < 2 else [f"{len(each)} problems are not ranked against each other.", *each]


def _left_out(runs: Sequence[Finished]) -> list[str]:
    """A note on runs that are incomplete."""
    missing = [f"{_name(run)} (step {run.step:,} of {run.config.steps:,})" for run in runs if not run.complete]
    return [f"Left out, because not finished: {_few(missing)}."] if missing else []


def _mishaps(runs: Sequence[Finished]) -> list[str]:
    """A note on runs with failed members."""
    wrong = [
        _name(run)
        for run in runs
        for members in [run.comparison["members"] if run.comparison else []]
        if any(member.get("diverged") is not None or member.get("never_ends") for member in members)
    ]
    return [f"Something went wrong in {_few(wrong)}: see what is said of it below."] if wrong else []


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_TOLD]) + (f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else "")


def _name(run: Finished) -> str:
    return f"run {printable(run.folder.name)}"
