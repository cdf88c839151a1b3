"""Methods of a sweep: its runs and the members of their populations, grouped by problem and setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from rlnet.compare.ranking import SAMPLED, ranked_by
from rlnet.config import EnvConfig, PredictionConfig, leaves
from rlnet.config.population import each_setting, settings
from rlnet.report.finished import Finished
from rlnet.report.sampled import at_the_end, rows_by_member

LONGEST = 60  # characters of a value in a name
# Settings in which repetitions may differ, or that belong to the problem.
NOT_A_METHOD = (
    *(
        "env",
        "gamma",
        "seed",
        "seeds",
        "vary",
        "search",
        "resume",
        "trust",
        "plugins",
        "device",
        "threads",
        "processes",
    ),
    *("compile", "logger", "log_every", "compare_every", "compare_share", "checkpoint_every"),
)
GROUPS = ("algo.name", "network.name", "exploration.name", "schedule.name", "optimizer.name")  # decide many settings


@dataclass(frozen=True)
class Method:
    """All runs of one setting on one problem; of several with the same seed, which are one run, the first."""

    name: str
    scores: Mapping[str, np.ndarray]  # [n] each
    rows: Sequence[Mapping[str, str]] = field(repr=False)  # of metrics.csv, members renumbered
    settings: Mapping[str, Any] = field(repr=False)  # all that may decide the result
    run: Finished = field(repr=False)  # the first that had them
    varied: Mapping[str, float] = field(repr=False)  # what it varied between its members, by full path

    @property
    def runs(self) -> int:
        return len(self.scores[SAMPLED])


@dataclass(frozen=True)
class Group:
    """The settings that were tried on one problem: only they are ranked against each other."""

    problem: str  # e.g. "cliff, γ = 0.9"
    score: str  # by which they are ranked
    methods: list[Method]


@dataclass(frozen=True)
class _Part:
    """The members of one setting of one run."""

    run: Finished
    members: list[int]
    problem: dict[str, Any]  # all that decides what the best possible result is
    settings: dict[str, Any]  # all other settings that may decide the result


def groups(runs: Sequence[Finished]) -> list[Group]:
    """Group the settings of runs and of their members by problem."""
    found: dict[str, list[_Part]] = {}
    for part in (part for run in runs for part in _parts(run)):
        found.setdefault(repr(part.problem), []).append(part)
    names = _problem_names([parts[0] for parts in found.values()])
    return [_group(name, parts) for name, parts in zip(names, found.values(), strict=True)]


def _parts(run: Finished) -> list[_Part]:
    config = run.config
    parts = []
    for k, one in enumerate(each_setting(config)):
        policy = one.algo.policy if isinstance(one.algo, PredictionConfig) else None
        prediction, exact = isinstance(one.algo, PredictionConfig), run.comparison is not None
        stored = run.judged["settings"][k].get("problem") if exact else None
        problem = {
            "prediction": f"the value of {_policy(policy)}" if prediction else None,
            "exact": exact,
            "env": one.env.stepped(),
            "objective": stored or f"γ = {one.gamma:.12g}",
        }
        every = leaves(asdict(one))
        deciding = {key: every[key] for key in every if key.partition(".")[0] not in NOT_A_METHOD}
        members = list(range(k * config.seeds, (k + 1) * config.seeds))
        parts.append(_Part(run, members, problem, deciding))
    return parts


def _policy(given: Any) -> str:
    return f"the {given} policy" if given in ("uniform", "optimal") else f"the policy {_text(given)}"


def _problem_names(firsts: Sequence[_Part]) -> list[str]:
    """One name for each problem: the environment, what tells it from others of that name, and the discount."""
    labels = [part.run.config.env.label for part in firsts]
    own = [_own(part.run.config.env) for part in firsts]
    names = []
    for part, label, mine in zip(firsts, labels, own, strict=True):
        alike = [other for other, name in zip(own, labels, strict=True) if name == label]
        several = [key for key in mine if any(other.get(key) != mine[key] for other in alike)]
        parts = [label, *(f"env.{key}={_text(mine[key])}" for key in several), part.problem["objective"]]
        what = part.problem["prediction"]
        names.append((f"{what} on " if what else "") + ", ".join(parts))
    return _numbered(names)


def _own(env: EnvConfig) -> dict[str, Any]:
    """The settings that distinguish an environment from others of the same name."""
    return leaves({item.name: getattr(env, item.name) for item in fields(env) if item.name not in ("name", "gamma")})


def _group(problem: str, parts: Sequence[_Part]) -> Group:
    alike: dict[str, list[_Part]] = {}
    for part in parts:
        alike.setdefault(repr(part.settings), []).append(part)
    names = _names([(same[0].settings, _typed(same[0].run)) for same in alike.values()])
    methods = [_method(name, same) for name, same in zip(names, alike.values(), strict=True)]
    shared = [name for name in methods[0].scores if all(name in method.scores for method in methods)]
    scores = {name: np.concatenate([method.scores[name] for method in methods]) for name in shared}
    return Group(problem, ranked_by(scores, parts[0].problem["prediction"] is not None), methods)


def _typed(run: Finished) -> list[str]:
    """The settings that were given on the command line."""
    keys = [item.lstrip("+~").partition("=")[0] for item in run.overrides]
    return [key.removeprefix("vary.") for key in keys] + list(run.config.vary)


def _names(of_methods: Sequence[tuple[Mapping[str, Any], Sequence[str]]]) -> list[str]:
    """One name for each setting: of what differs, as little as tells them apart, what was typed first."""
    tables = [table for table, _ in of_methods]
    if len(tables) == 1:
        return [str(tables[0]["algo.name"])]
    known = list(dict.fromkeys(key for table in tables for key in table))
    typed = {key for _, keys in of_methods for key in keys}

    def was_typed(key: str) -> bool:
        return key.removesuffix(".name") in typed or any(key == end or key.endswith(f".{end}") for end in typed)

    # Values that a group brings with it follow from the name of the group.
    order = sorted(known, key=lambda key: (not was_typed(key), key not in GROUPS))
    chosen: list[str] = []
    apart = 1
    for key in order:
        now = len({tuple(_text(table.get(one)) for one in (*chosen, key)) for table in tables})
        if now > apart:
            chosen, apart = [*chosen, key], now
    shown = [key for key in known if key in chosen]
    return _numbered(
        [
            ", ".join(f"{key.removesuffix('.name')}={_text(table[key])}" for key in shown if key in table)
            or str(table["algo.name"])
            for table in tables
        ]
    )


def _text(value: Any) -> str:
    """A setting as text for the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f"{value:.12g}" if isinstance(value, float) else str(value).replace("\n", " ")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _numbered(names: Sequence[str]) -> list[str]:
    """The same names, those that stand there twice with a number each."""
    return [
        name if names.count(name) == 1 else f"{name} ({names[: k + 1].count(name)})" for k, name in enumerate(names)
    ]


def _method(name: str, parts: Sequence[_Part]) -> Method:
    rows: list[dict[str, str]] = []
    numbers: dict[str, list[float]] = {}
    seen: set[int] = set()
    for part in parts:
        run, seeds = part.run, part.run.config.member_seeds
        of_member = rows_by_member(run.rows)
        for m in part.members:
            if seeds[m] in seen:
                continue
            mine = of_member.get(m, [])
            rows += [{**row, "member": str(len(seen))} for row in mine]
            seen.add(seeds[m])
            numbers.setdefault(SAMPLED, []).append(at_the_end(mine, SAMPLED))
            for key, value in (run.comparison["members"][m]["scores"] if run.comparison else {}).items():
                numbers.setdefault(key, []).append(float(value))
    first = parts[0]
    varied = settings(first.run.config)[first.members[0] // first.run.config.seeds]
    arrays = {key: np.array(values) for key, values in numbers.items()}
    return Method(name, arrays, rows, first.settings, first.run, varied)
