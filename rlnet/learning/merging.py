"""Merging shards: runs of one config that differ in their seeds alone become the run of all their members.

Members depend on nothing but themselves, so the merged folder holds what one run of all of them would have written:
the rows of metrics.csv, scores, arrays and parameters, but for what a clock says. Rollouts of whole episodes are as
long as the longest one of a population; there the parameters are the same up to the rounding of sums, and a shard that
has no row at a step of the log gets one without numbers.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlnet.algos.context import V
from rlnet.compare import Comparison, Tables
from rlnet.config import Config, ConfigError
from rlnet.config.files import (
    MALFORMED,
    MISFIT,
    check_values,
    read_arrays,
    read_json,
    read_rows,
    read_values,
    read_yaml,
    reading,
)
from rlnet.config.memory import require_memory
from rlnet.config.optional import chosen
from rlnet.config.population import joined
from rlnet.experiment.checkpoints import NEWEST, read_checkpoint, write_checkpoint
from rlnet.experiment.evaluation_files import BESIDE, POSITIONS, read_evaluation
from rlnet.experiment.problem import Problem, build
from rlnet.experiment.reference import write_reference
from rlnet.experiment.run_files import Record
from rlnet.experiment.run_folder import STORED, claimed, keep_settings, override_key, program, shown
from rlnet.experiment.shards import joint
from rlnet.learning.final_files import End, Judgement, finish
from rlnet.learning.training_state import same_settings

PLACE = ".merging"  # the folder in which the files are written, inside of that in which they are to be
OWN = ("step", "member", "seed")
NAMES = ("v", "v_exact", "q", "q_exact", "pi", "v_limited", "visits")


@dataclass(frozen=True)
class Shard:
    """A finished run of some members."""

    folder: Path
    config: Config
    members: list[int]  # which they are of all
    state: dict[str, Any]  # its checkpoint


def merge(folders: Sequence[Path], folder: Path, trust: bool = False) -> Problem:
    """Merge finished runs into a new folder; returns the problem that all of them were of.

    Args:
        folders: of runs, or of sweeps, of which every job is meant.
        folder: the new one; it must not hold a run.
        trust: whether their configs may have code run: see `rlnet.config.trust`.

    Raises:
        ConfigError: the runs do not fit together, or `folder` holds a run.
    """
    whole, runs = joint(folders, trust)
    whole = replace(whole, trust=False)  # who reads the merged folder decides that
    first = runs[0][1]
    with claimed(folder):
        shards = _shards(whole, runs)
        problem = build(whole, folder=first)
        place = folder / PLACE
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            _write(place, whole, problem, shards)
            given = [str(item) for item in read_yaml(first / STORED / "overrides.yaml", computed=True)]
            own = [item for item in given if override_key(item) not in ("seed", "seeds")]
            keep_settings(folder, asdict(whole), given=[*own, f"seeds={whole.seeds}", f"seed={whole.seed}"])
            # metrics.csv comes last: a folder that holds one is not written into again.
            for path in sorted(place.iterdir(), key=lambda path: path.name == "metrics.csv"):
                _move(path, folder / path.name)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return problem


def _move(path: Path, to: Path) -> None:
    if to.is_dir():
        shutil.rmtree(to)
    os.replace(path, to)


def _shards(whole: Config, runs: Sequence[tuple[Config, Path]]) -> list[Shard]:
    """The shards with their checkpoints; a member's number is settings × seeds."""
    for _, run in runs:
        if not (run / NEWEST).is_file() or not (run / "metrics.csv").is_file():
            raise ConfigError(f"{run}: {_unfinished(run)}")
    need = 2.0 * sum((run / NEWEST).stat().st_size for _, run in runs)
    require_memory({f"{len(runs)} checkpoints, which become one": need})
    grid = np.arange(len(whole.member_seeds)).reshape(-1, whole.seeds)
    found = []
    for config, run in runs:
        state, place = read_checkpoint(run / NEWEST), config.seed - whole.seed
        with reading(run / NEWEST, MISFIT):
            _check_own(config, state["config"], run / NEWEST)
            members = grid[:, place : place + config.seeds].ravel().tolist()
            if len(state["steps"]) != len(members):
                raise ConfigError(f"{run / NEWEST}: has {len(state['steps'])} members, its config {len(members)}")
            done = int(state["steps"].min())
        if done < config.steps:
            raise ConfigError(f"{run}: {_unfinished(run)}")
        found.append(Shard(run, config, members, state))
    return found


def _check_own(config: Config, stored: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError for a checkpoint of another run."""
    try:
        same_settings(config, stored)
    except ConfigError as error:
        raise ConfigError(f"{path}: is not of the run whose config lies beside it ({error})") from error


def _unfinished(run: Path) -> str:
    return f"its run has not finished; go on with: {program('train')} resume={shown(run)}"


def _write(place: Path, whole: Config, problem: Problem, shards: Sequence[Shard]) -> None:
    """All files of the merged run but for its settings."""
    if problem.context.reference is not None:
        write_reference(place, whole, problem.context.reference)
    members = [shard.members for shard in shards]
    parts = [{k: x for k, x in shard.state.items() if k not in ("config", "record")} for shard in shards]
    try:
        state = joined(parts, members)
    except (*MALFORMED, RuntimeError) as error:
        raise ConfigError(f"{shards[0].folder}: its checkpoint does not fit those of the others ({error})") from error
    # Services have been told by the shards; a folder has one log.
    logger = "tensorboard" if "tensorboard" in chosen(whole.logger) else "none"
    with closing(Record(place, replace(whole, logger=logger))) as record:
        record.begin()
        scalars = _rows(record, shards)
        last, visits = _judged(problem, shards) if problem.solutions is not None else (None, None)
        evaluated = _evaluated(shards)
        path = shards[0].folder / POSITIONS
        seen = read_arrays(path) if path.is_file() else None
        steps, diverged = state["steps"].tolist(), state["diverged"].tolist()
        end = End(whole, problem, steps, diverged, visits, scalars, last, evaluated, seen)
        rest = {"config": asdict(whole), "record": record.place(), "scores": None, "evaluation": None}
        write_checkpoint(place, {**state, **rest})
        finish(end, record, None)


def _rows(record: Record, shards: Sequence[Shard]) -> dict[str, np.ndarray]:
    """Write the rows of all shards; the last ones are returned, name → [M]."""
    tables, members = [_table(shard) for shard in shards], [shard.members for shard in shards]
    names = list(tables[0][1])
    for shard, (_, scalars, _) in zip(shards, tables, strict=True):
        if list(scalars) != names:
            raise ConfigError(f"{shard.folder / 'metrics.csv'}: has other columns than that of {shards[0].folder}")
    row: dict[str, np.ndarray] = {}
    for place in sorted(set().union(*(places for _, _, places in tables))):
        own = [_at(place, *table) for table in tables]
        steps, row = joined([one[0] for one in own], members), joined([one[1] for one in own], members)
        record.row(steps, row)
    return row


Table = tuple[np.ndarray, dict[str, np.ndarray], dict[float, int]]


def _table(shard: Shard) -> Table:
    """The log of a shard: steps [G, M], name → [G, M], and which of the G rows of all members stands at which place.

    Places count the steps of the log; the last rows stand at infinity.
    """
    path, config = shard.folder / "metrics.csv", shard.config
    with reading(path, "is not the log of the run beside it"):
        rows, count = read_rows(path), len(shard.members)
        own = [(str(m), str(seed)) for m, seed in enumerate(config.member_seeds)]
        if not rows or [(row["member"], row["seed"]) for row in rows] != own * (len(rows) // count):
            raise ValueError("members or seeds are others")
        steps = np.array([int(row["step"]) for row in rows]).reshape(-1, count)
        names = [name for name in rows[0] if name not in OWN and "/" in name]
        scalars = {name: np.array([float(row[name] or "nan") for row in rows]).reshape(-1, count) for name in names}
    ends = [*(steps.max(1) // config.log_every)[:-1].tolist(), np.inf]
    return steps, scalars, {place: k for k, place in enumerate(ends)}


def _at(place: float, steps: np.ndarray, scalars: Mapping[str, np.ndarray], places: Mapping[float, int]) -> Any:
    """The row of a table at a place; where there is none, its last steps and no numbers."""
    if place in places:
        k = places[place]
        return steps[k], {name: values[k] for name, values in scalars.items()}
    before = max((k for other, k in places.items() if other < place), default=0)
    return steps[before], {name: np.full(steps.shape[1], np.nan) for name in scalars}


def _judged(problem: Problem, shards: Sequence[Shard]) -> tuple[Judgement, np.ndarray]:
    """Learned tables and scores of all members, and their visits."""
    mdp, members = problem.mdp, [shard.members for shard in shards]
    values, scores = [], []
    for shard in shards:
        for name in ("values.npz", "comparison.json"):
            if not (shard.folder / name).is_file():
                raise ConfigError(f"{shard.folder}: {_unfinished(shard.folder)}")
        path = shard.folder / "values.npz"
        own, count = read_values(path), len(shard.members)
        check_values(path, own, count, mdp.n_states, mdp.n_actions)
        values.append({name: own[name] for name in NAMES if name in own})
        counted = shard.state["visits"].numpy()
        if own["visits"].shape == counted.shape and not np.array_equal(own["visits"], counted):
            raise ConfigError(f"{path}: does not fit the checkpoint beside it")
        path = shard.folder / "comparison.json"
        with reading(path, "is not the comparison of this run"):
            each = [one["scores"] for one in read_json(path)["members"]]
            found = {name: np.array([float(one[name]) for one in each]) for name in each[0]}
            if len(each) != count:
                raise ValueError(f"{len(each)} members, not {count}")
        scores.append(found)
    everything = _joined_files(values, members, shards, "values.npz")
    scalars = _joined_files(scores, members, shards, "comparison.json")
    v = everything.get("v")
    tables = Tables(everything["pi"], v if V in problem.algorithm.roles else None, everything.get("q"))
    exact = everything["v_exact"], everything["q_exact"], everything.get("v_limited")
    step = max(int(shard.state["steps"].max()) for shard in shards)
    return Judgement(step, tables, Comparison(scalars, v, *exact)), everything["visits"]


def _joined_files(parts: Sequence[Any], members: Any, shards: Sequence[Shard], name: str) -> dict[str, np.ndarray]:
    for shard, part in zip(shards, parts, strict=True):
        if part.keys() != parts[0].keys():
            raise ConfigError(f"{shard.folder / name}: holds other names than that of {shards[0].folder}")
    return joined(parts, members)


def _evaluated(shards: Sequence[Shard]) -> dict[str, Any] | None:
    """The final episodes and contests of all members; None where they were not evaluated."""
    found = [read_evaluation(shard.folder, len(shard.members)) for shard in shards]
    parts = [{} if one is None else _groups(*one) for one in found]
    return _joined_files(parts, [shard.members for shard in shards], shards, "evaluation.json") or None


def _groups(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of an evaluation by policy, and what it holds beside its policies."""
    groups = {
        name: {key.removeprefix(f"{name}_"): x for key, x in arrays.items() if key.startswith(f"{name}_")}
        for name in (*content["policies"], *BESIDE)
    }
    return {name: group for name, group in groups.items() if group}
