"""The part of a run's page that its evaluation fills: one sentence, a table, pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rlnet.algos import load
from rlnet.compare.episodes import EVENT, Reliability, mean_interval, reliability
from rlnet.config.population import constrained, each_setting
from rlnet.experiment.evaluation_files import CALIBRATION
from rlnet.numerics.statistics import wilson
from rlnet.report.contested import contest_tables
from rlnet.report.evaluation_figure import reliability_figure, returns_figure
from rlnet.report.finished import Finished
from rlnet.report.html import embedded, number


class Chosen(NamedTuple):
    """The setting whose episodes are drawn: all of a run with one, else the one of the largest mean return."""

    number: int
    members: slice
    name: str  # empty where there is only one


def evaluation_verdict(run: Finished) -> str:
    """What the main policy earned, how often the event happened, how far its predictions are off, in a sentence each.

    Empty without evaluation.
    """
    if run.evaluation is None:
        return ""
    chosen, (document, arrays) = _chosen(run), run.evaluation
    policy = next(iter(document["policies"]))
    mean, low, high = _over_members(run, policy, "return", chosen)
    episodes, members = arrays[f"{policy}_return"].shape[1], chosen.members.stop - chosen.members.start
    of = f"{episodes} episodes" + (f" of each of {members} members" if members > 1 else "")
    said = f"The {policy} policy earns {number(mean)} (95 %: {number(low)} to {number(high)}) in {of}{chosen.name}."
    if mean == low == high:
        said = f"The {policy} policy earns {number(mean)} in each of {of}{chosen.name}."
    if document.get("event"):
        mean, low, high = (100 * share for share in _over_members(run, policy, EVENT, chosen))
        said += f" The event {document['event']}: in {mean:.3g} % of them (95 %: {low:.3g} % to {high:.3g} %)"
        limit = each_setting(run.config)[chosen.number].constraint.limit
        said += "." if limit is None else f", where constraint.limit is {100 * limit:.3g} %."
    found = None if constrained(run.config) else _reliability(run, chosen)  # of which the prediction counts λ
    return said if found is None else f"{said} {_bias(run, found)}"


def evaluation_section(run: Finished) -> dict[str, Any] | None:
    """Table and pictures of the final evaluation; None where there was none."""
    if run.evaluation is None:
        return None
    chosen, (document, arrays) = _chosen(run), run.evaluation
    policies = document["policies"]
    returns = {name: arrays[f"{name}_return"][chosen.members].ravel() for name in policies}
    pictures = []
    found = _reliability(run, chosen)
    if found is not None:
        title = "calibration: obtained over predicted returns"
        pictures.append(embedded(reliability_figure(found, _predicted(run)), title))
    pictures.append(embedded(returns_figure(returns), "distribution of the returns of evaluation episodes"))
    means = "; ".join(f"{name}: {text}" for name, text in policies.items())
    note = "Whole episodes in an environment of their own, with random numbers of their own, after the last step. "
    return {
        "note": f"{note}{means[0].upper()}{means[1:]}.{_cut(run)}",
        "head": [
            "policy",
            "return",
            "95 %",
            "discounted",
            "95 %",
            *([f"with {document['event']} (95 %)"] if document.get("event") else []),
            "steps",
            "ended by itself",
            "by the time limit",
            "cut",
        ],
        "rows": _rows(run),
        "pictures": pictures,
        "calibration": _calibration(run, chosen),
        "tables": contest_tables(document, arrays, chosen.members),
    }


def _chosen(run: Finished) -> Chosen:
    document, _ = run.evaluation or ({}, {})
    settings, policy = document["settings"], next(iter(document["policies"]))
    best = max(range(len(settings)), key=lambda k: float(settings[k][policy]["return"]["mean"]))
    each = len(document["members"]) // len(settings)
    return Chosen(best, slice(best * each, (best + 1) * each), _named(settings[best]["settings"], len(settings)))


def _named(setting: dict[str, float], count: int) -> str:
    text = ", ".join(f"{name.rpartition('.')[2]} = {value:g}" for name, value in setting.items())
    return f", with {text} (the largest of {count} settings)" if count > 1 else ""


def _over_members(run: Finished, policy: str, quantity: str, chosen: Chosen) -> tuple[float, float, float]:
    """Mean and 95 % interval: over members where there are three or more, else over all episodes."""
    document, arrays = run.evaluation or ({}, {})
    numbers = document["settings"][chosen.number][policy][quantity]
    if numbers["mean_interval"] is not None:
        low, high = numbers["mean_interval"]
        return float(numbers["mean"]), float(low), float(high)
    samples = arrays[f"{policy}_{quantity}"][chosen.members].ravel()
    if quantity == EVENT:
        low, high = wilson(int(samples.sum()), len(samples))
        return float(samples.mean()), float(low), float(high)
    mean, half = mean_interval(samples.astype(np.float64))
    return float(mean), float(mean - half), float(mean + half)


def _rows(run: Finished) -> list[list[str]]:
    """A row for each setting and policy."""
    document, arrays = run.evaluation or ({}, {})
    settings, rows = document["settings"], []
    each = len(document["members"]) // len(settings)
    for k, setting in enumerate(settings):
        own = Chosen(k, slice(k * each, (k + 1) * each), "")
        text = ", ".join(f"{name.rpartition('.')[2]} = {value:g}" for name, value in setting["settings"].items())
        for policy in document["policies"]:
            cells = [f"{policy}{', ' if text else ''}{text}"]
            for quantity in ("return", "discounted"):
                mean, low, high = _over_members(run, policy, quantity, own)
                cells += [number(mean), f"{number(low)} to {number(high)}"]
            if document.get("event"):
                mean, low, high = _over_members(run, policy, EVENT, own)
                cells.append(f"{100 * mean:.3g} % ({100 * low:.3g} to {100 * high:.3g})")
            cells.append(number(arrays[f"{policy}_length"][own.members].mean()))
            terminated, cut = (arrays[f"{policy}_{name}"][own.members] for name in ("terminated", "cut"))
            for flags in (terminated, ~terminated & ~cut, cut):
                cells.append(f"{100 * flags.mean():.0f} %")
            rows.append(cells)
    return rows


def _cut(run: Finished) -> str:
    document, arrays = run.evaluation or ({}, {})
    if not any(arrays[f"{policy}_cut"].any() for policy in document["policies"]):
        return ""
    return (
        f" Episodes without an end were cut after {document['longest']:,} steps (evaluation.max_steps): their "
        "undiscounted returns are those of so many steps."
    )


def _reliability(run: Finished, chosen: Chosen) -> Reliability | None:
    _, arrays = run.evaluation or ({}, {})
    if f"{CALIBRATION}_predicted" not in arrays:
        return None
    predicted, obtained, episode = (
        arrays[f"{CALIBRATION}_{name}"][chosen.members] for name in ("predicted", "obtained", "episode")
    )
    clusters = episode + 1e6 * np.arange(len(episode))[:, None]  # episodes of other members are others
    return reliability(predicted.ravel(), obtained.ravel(), clusters.ravel())


def _predicted(run: Finished) -> str:
    return "V(s)" if "v" in load(run.config.algo.name).roles else "value by Q"


def _bias(run: Finished, found: Reliability) -> str:
    low, high = found.bias_interval
    size = f"{number(abs(found.bias))} on average (95 %: {number(low)} to {number(high)})"
    what = _predicted(run)
    what = what[0].upper() + what[1:]
    if low <= 0 <= high:
        return f"{what} is off the obtained returns by {number(found.bias)} on average, which chance explains."
    how = "over-estimates" if found.bias > 0 else "under-estimates"
    return f"{what} {how} the obtained returns by {size}."


def _calibration(run: Finished, chosen: Chosen) -> str:
    """What the reliability diagram shows, and what it leaves out."""
    document, arrays = run.evaluation or ({}, {})
    if CALIBRATION not in document:
        return ""
    left = float(np.mean(arrays[f"{CALIBRATION}_left_out"][chosen.members]))
    gone = ""
    if left > 0:
        gone = (
            f" {100 * left:.0f} % of the steps are left out: they come so late that, where an episode did not end by "
            f"itself, what would have followed weighs more than {100 * document[CALIBRATION]['tail']:.0f} % by its "
            "discount; where it weighs less, the prediction at the last observation stands for it."
        )
    soft = (
        " The algorithm maximises reward plus entropy, so its prediction counts entropy that no return holds."
        if document[CALIBRATION]["entropy"]
        else ""
    )
    if constrained(run.config):
        soft = " What is learned from is the reward less λ for each event: the prediction counts λ, no return does."
    return (
        f"Calibration, {document[CALIBRATION]['policy']} policy: steps in bins by what was predicted, beside the "
        "discounted return from there on; intervals by resampling episodes, whose steps depend on each other."
        f"{gone}{soft}"
    )
