"""Several settings side by side: the runs of a sweep and the members of their populations, grouped and aggregated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rlnet.report.finished import Finished
from rlnet.report.html import number

REACHED = "exact/normalised_return"  # 0 random, 1 optimal: comparable between problems
SAMPLED = "return/mean"  # where there is no finite model
LAST = 0.1  # of the logged rows: how much of the end of a run its sampled return is taken from
NOT_A_METHOD = ("seed", "seeds", "resume")  # runs that differ in nothing else are repetitions


@dataclass(frozen=True)
class Method:
    """All runs of one setting: scores by name, then by task (environment), one number for each seed."""

    name: str
    scores: Mapping[str, Mapping[str, np.ndarray]]
    rows: Mapping[str, Sequence[Mapping[str, str]]] = field(repr=False)  # by task: of metrics.csv, members renumbered

    def samples(self, score: str) -> list[np.ndarray]:
        """The runs of each task, [n] each."""
        return list(self.scores[score].values())

    @property
    def runs(self) -> int:
        return sum(len(sample) for sample in next(iter(self.scores.values())).values())


def methods(runs: Sequence[Finished]) -> list[Method]:
    """The settings that the runs and their members differ in; environments are tasks, seeds are repetitions."""
    differing = _differing(runs)
    found: dict[str, dict[str, list[tuple[Finished, list[int]]]]] = {}
    for run in runs:
        for members, own in _members(run):
            setting = {key: _override(run, key) for key in differing} | own
            name = ", ".join(f"{key}={value}" for key, value in setting.items()) or run.config.algo.name
            found.setdefault(name, {}).setdefault(run.config.env.name, []).append((run, members))
    return [_method(name, tasks) for name, tasks in found.items()]


def score_of(runs: Sequence[Finished]) -> str:
    """What methods are ranked by."""
    return REACHED if all(run.comparison is not None for run in runs) else SAMPLED


def _override(run: Finished, key: str) -> str:
    """What the command line said of a key; its own default where it said nothing."""
    said = dict(item.lstrip("+~").partition("=")[::2] for item in run.overrides)
    return said.get(key, "default")


def _differing(runs: Sequence[Finished]) -> list[str]:
    """The keys of the command lines whose values are not the same in all runs, but env and seeds."""
    keys = dict.fromkeys(item.lstrip("+~").partition("=")[0] for run in runs for item in run.overrides)
    skipped = ("env", *NOT_A_METHOD)
    kept = [key for key in keys if key not in skipped and not key.startswith(("hydra", "vary"))]
    return [key for key in kept if len({_override(run, key) for run in runs}) > 1]


def _members(run: Finished) -> list[tuple[list[int], dict[str, str]]]:
    """The members of each setting of a population, and that setting as text."""
    from rlnet.config.population import member_settings

    groups: dict[tuple, list[int]] = {}
    for m, setting in enumerate(member_settings(run.config)):
        groups.setdefault(tuple((key, number(value)) for key, value in setting.items()), []).append(m)
    return [(members, dict(setting)) for setting, members in groups.items()]


def _method(name: str, tasks: Mapping[str, list[tuple[Finished, list[int]]]]) -> Method:
    scores: dict[str, dict[str, np.ndarray]] = {}
    rows: dict[str, list[dict[str, str]]] = {}
    for task, parts in tasks.items():
        rows[task] = []
        numbers: dict[str, list[float]] = {}
        for run, members in parts:
            for m in members:
                mine = [row for row in run.rows if int(row["member"]) == m]
                member = len(numbers.get(SAMPLED, []))
                rows[task] += [{**row, "member": str(member)} for row in mine]
                numbers.setdefault(SAMPLED, []).append(_sampled(mine))
                for key, value in (run.comparison["members"][m]["scores"] if run.comparison else {}).items():
                    numbers.setdefault(key, []).append(float(value))
        for key, values in numbers.items():
            scores.setdefault(key, {})[task] = np.array(values)
    return Method(name, scores, rows)


def _sampled(rows: Sequence[Mapping[str, str]]) -> float:
    """The mean of the sampled returns that were logged last; nan where no episode ended."""
    logged = [float(row[SAMPLED]) for row in rows if row.get(SAMPLED)]
    last = logged[-max(1, round(LAST * len(logged))) :]
    return float(np.mean(last)) if last else float("nan")
