"""Which hyperparameters of a sweep matter, and the command of its best setting."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlnet.config.files import printable
from rlnet.experiment.run_folder import commands, override_key
from rlnet.numerics.statistics import iqm
from rlnet.report.methods import GROUPS, Method
from rlnet.report.reproduce import called

FEWEST = 4  # settings from which the share of a hyperparameter says anything


@dataclass(frozen=True)
class Hyperparameter:
    """A setting in which the methods of a group differ."""

    name: str
    values: list[Any]  # one of each method
    share: float  # of the variance of the methods' scores that it explains alone; nan where they are too few

    @property
    def numeric(self) -> bool:
        """Whether all its values are numbers."""
        return all(isinstance(x, int | float) and not isinstance(x, bool) for x in self.values)


def hyperparameters(methods: Sequence[Method], score: str) -> list[Hyperparameter]:
    """The settings in which methods differ, those that explain most of their scores first.

    A group of settings (`network`) stands for what it brings with it. Methods whose interquartile mean is not finite
    are left out.
    """
    tables = [method.settings for method in methods]
    middle = np.array([float(iqm(method.scores[score])) for method in methods])
    found: list[Hyperparameter] = []
    seen: list[list[int]] = []  # which methods share a value
    chosen: list[list[int]] = []  # the same of groups of settings, from which others follow
    known = dict.fromkeys(key for table in tables for key in table)
    for key in sorted(known, key=lambda key: key not in GROUPS):
        values = [table.get(key) for table in tables]
        texts = [repr(x) for x in values]
        parts = [texts.index(x) for x in texts]
        follows = any(len(set(zip(group, parts, strict=True))) == len(set(group)) for group in chosen)
        if len(set(parts)) < 2 or parts in seen or follows:
            continue
        seen.append(parts)
        if key in GROUPS:
            chosen.append(parts)
        name = key.removesuffix(".name")
        found.append(Hyperparameter(name, values, explained(classes(values), middle)))
    return sorted(found, key=lambda one: -np.nan_to_num(one.share, nan=-1.0))


def classes(values: Sequence[Any]) -> np.ndarray:
    """The class of each value: equal values share one; of many different numbers so do neighbours, √n in all."""
    texts = [repr(x) for x in values]
    different = sorted(set(texts), key=texts.index)
    numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)
    most = max(2, int(np.sqrt(len(values))))
    if numeric and len(different) > most and len(different) > len(values) / 2:
        numbers = np.array([float(x) for x in values])
        edges = np.quantile(numbers, np.linspace(0, 1, most + 1)[1:-1])
        return np.searchsorted(edges, numbers, side="right")
    return np.array([different.index(x) for x in texts])


def explained(groups: np.ndarray, scores: np.ndarray) -> float:
    """Share of the variance of scores that a grouping explains: ε², η² corrected for what chance explains.

    ε² = (SS_between − (k − 1)·SS_within/(n − k)) / SS_total for k groups of n scores in all, at least 0 (Kelley 1935).
    nan for fewer than `FEWEST` finite scores, or where every one has a group of its own.
    """
    finite = np.isfinite(scores)
    groups, scores = groups[finite], scores[finite]
    kinds, n = np.unique(groups), len(scores)
    if n < FEWEST or len(kinds) >= n:
        return float("nan")
    total = float(((scores - scores.mean()) ** 2).sum())
    if total <= 1e-18 * max(1.0, float((scores**2).sum())):
        return 0.0
    within = sum(float(((scores[groups == k] - scores[groups == k].mean()) ** 2).sum()) for k in kinds)
    between = total - within
    return max(0.0, (between - (len(kinds) - 1) * within / (n - len(kinds))) / total)


def best_command(method: Method) -> str:
    """The command that trains a setting again, with the seeds that it had."""
    run, own = method.run, method.varied
    starts = commands(run.folder)
    head = called(printable(str(starts[0]["command"]))) if starts else called("")
    kept = [item for item in run.overrides if not item.startswith("hydra.") and not _is_varied(item, own)]
    return " ".join(
        [head, *(shlex.quote(printable(item)) for item in kept), *(f"{k}={v:.12g}" for k, v in own.items())]
    )


def _is_varied(override: str, own: Mapping[str, float]) -> bool:
    key = override_key(override)
    return key.startswith("vary.") or key == "vary" or key in own
