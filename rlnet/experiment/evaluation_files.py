"""Files of the final evaluation: evaluation.json (numbers) and evaluation.npz (episodes)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlnet.algos.algorithm import Judged
from rlnet.compare.elo import ratings
from rlnet.compare.episodes import EVENT, QUANTITIES, TAIL, mean_interval
from rlnet.config import Config, ConfigError
from rlnet.config.files import read_arrays, read_json, reading
from rlnet.config.population import member_settings, settings
from rlnet.experiment.problem import Problem
from rlnet.experiment.run_files import write_arrays, write_json
from rlnet.numerics.statistics import CONFIDENCE, aggregate, wilson

DOCUMENT, ARRAYS = "evaluation.json", "evaluation.npz"
POSITIONS = "positions.npz"  # of a board game without a model, with what was learned of them
CALIBRATION, CONTESTS, ENDGAMES = "calibration", "contests", "endgames"
BESIDE = (CALIBRATION, CONTESTS, ENDGAMES)  # what an evaluation holds beside the episodes of its policies
MEANING = {
    "greedy": "the best action by the learned values, or the most likely one of the learned policy",
    "behaviour": "the policy that acts in training, exploration included",
    "given": "the given policy, whose value is learned",
}


def valued_policy(judged: Judged) -> str:
    """The evaluated policy whose value is learned."""
    return {Judged.GREEDY: "greedy", Judged.SOFT: "greedy", Judged.GIVEN: "given"}.get(judged, "behaviour")


def write_evaluation(
    folder: Path, config: Config, problem: Problem, evaluated: Mapping[str, Any], steps: Sequence[int]
) -> list[Path]:
    """Write evaluation.json and evaluation.npz into a run's folder, and return their paths.

    Args:
        folder, config, problem: of the run.
        evaluated: policy → name → [M, E], and perhaps what is in `BESIDE`, see `rlnet.learning.evaluation.evaluate`.
        steps: of each member, [M].
    """
    policies = {name: part for name, part in evaluated.items() if name not in BESIDE}
    members = _members(config, policies, steps)
    content = {
        "policies": {name: MEANING[name] for name in policies},
        "gamma": config.gamma,
        "confidence": CONFIDENCE,
        "intervals": "of a member: of the mean over episodes, by Student's t; over members: bootstrap; "
        "event: of a member Wilson's, over members what holds Wilson's of all episodes and the bootstrap's",
        "longest": problem.environment.max_steps or config.evaluation.max_steps,
        "time_limit": problem.environment.max_steps,
        "event": problem.watched or next(iter(problem.environment.events), None),
        "members": members,
        "settings": _settings(config, policies),
    }
    arrays = {f"{name}_{key}": value for name, part in policies.items() for key, value in part.items()}
    if CALIBRATION in evaluated:
        soft = problem.algorithm.temperature is not None or problem.algorithm.judged is Judged.SOFT
        arrays |= {f"{CALIBRATION}_{key}": value for key, value in evaluated[CALIBRATION].items()}
        content[CALIBRATION] = {
            "policy": valued_policy(problem.algorithm.judged),
            "left_out": evaluated[CALIBRATION]["left_out"],
            "tail": TAIL,
            "entropy": soft or "temperature" in problem.context.networks,
        }
    for name in (CONTESTS, ENDGAMES):
        if name in evaluated:
            arrays |= {f"{name}_{key}": value for key, value in evaluated[name].items()}
    if CONTESTS in evaluated:
        content[CONTESTS] = {"games": config.evaluation.games, "empty_cells": config.evaluation.endgame}
        for m, member in enumerate(members):
            member[CONTESTS] = rated(evaluated[CONTESTS]["points"][m], evaluated[CONTESTS]["step"][m].tolist())
            numbers = {key: float(x[m]) for key, x in evaluated.get(ENDGAMES, {}).items()}
            member[ENDGAMES] = {key: x if np.isfinite(x) else None for key, x in numbers.items()}
    write_json(folder / DOCUMENT, content)
    write_arrays(folder / ARRAYS, arrays)
    return [folder / DOCUMENT, folder / ARRAYS]


def read_evaluation(folder: Path, members: int) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """The content of both files of a run of so many members; None where it was not evaluated.

    Raises:
        ConfigError: one of them is missing, cannot be read, or does not fit the other.
    """
    document, arrays = folder / DOCUMENT, folder / ARRAYS
    if not document.exists():
        return None
    content, episodes = read_json(document), read_arrays(arrays)
    with reading(document, "is not the evaluation of this run"):
        if len(content["members"]) != members or not content["policies"]:
            raise ValueError(f"{len(content['members'])} members, not {members}")
        event = (EVENT,) if content.get("event") else ()
        for name in content["policies"]:
            shapes = {episodes[f"{name}_{key}"].shape for key in (*QUANTITIES, "terminated", "cut", *event)}
            if len(shapes) != 1 or len(next(iter(shapes))) != 2 or next(iter(shapes))[0] != members:
                raise ConfigError(f"{arrays}: does not fit {DOCUMENT} beside it")
    return content, episodes


def rated(points: np.ndarray, steps: Sequence[int]) -> list[dict[str, Any]]:
    """The players of a contest and their Elo ratings, 0 for the one who moves at random.

    Args:
        points: [P, P], see `rlnet.compare.elo.ratings`.
        steps: of the P − 2 earlier selves.
    """
    found = ratings(points)
    names = ["at random", *(f"after {step:,} steps" for step in steps), "at the end"]
    return [
        {"player": name, "elo": float(elo), "half_interval": float(half)}
        for name, elo, half in zip(names, *found, strict=True)
    ]


def _numbers(episodes: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Of the episodes [E] of one member and policy."""
    found: dict[str, Any] = {"episodes": len(episodes["length"])}
    for name in QUANTITIES:
        mean, half = mean_interval(episodes[name].astype(np.float64))
        spread = float(np.std(episodes[name], ddof=1))
        found[name] = {"mean": mean, "interval": [mean - half, mean + half], "std": spread}
    ends = {"terminated": episodes["terminated"], "cut": episodes["cut"]}
    ends["time_limit"] = ~episodes["terminated"] & ~episodes["cut"]
    found["ended_by"] = {name: int(flags.sum()) for name, flags in ends.items()}
    if EVENT in episodes:
        seen = int(episodes[EVENT].sum())
        found[EVENT] = {"episodes": seen, "interval": [float(x) for x in wilson(seen, len(episodes[EVENT]))]}
    return found


def _members(config: Config, policies: Mapping[str, Any], steps: Sequence[int]) -> list[dict[str, Any]]:
    each = enumerate(zip(config.member_seeds, member_settings(config), steps, strict=True))
    return [
        {"member": m, "seed": seed, "settings": setting, "steps": step}
        | {name: _numbers({key: x[m] for key, x in part.items()}) for name, part in policies.items()}
        for m, (seed, setting, step) in each
    ]


def _summed(episodes: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    return (*QUANTITIES, EVENT) if EVENT in episodes else QUANTITIES


def _settings(config: Config, policies: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Over the members of each setting: of their means, see `rlnet.numerics.statistics.aggregate`."""
    found = []
    for k, setting in enumerate(settings(config)):
        own = slice(k * config.seeds, (k + 1) * config.seeds)
        over = {
            name: aggregate({key: part[key][own].astype(np.float64).mean(-1) for key in _summed(part)})
            for name, part in policies.items()
        }
        for name, part in policies.items():
            if EVENT in part:
                _widen(over[name][EVENT], part[EVENT][own])
        found.append({"settings": setting, "members": config.seeds, **over})
    return found


def _widen(numbers: dict[str, Any], happened: np.ndarray) -> None:
    """Widen the interval of an event's share over members to Wilson's of all their episodes, `happened` bool [M, E].

    The bootstrap alone knows nothing of what no member has seen yet: of shares that are all 0 it would make [0, 0].
    """
    if numbers["mean_interval"] is None:
        return
    low, high = wilson(int(happened.sum()), happened.size)
    least, most = numbers["mean_interval"]
    numbers["mean_interval"] = [min(least, float(low)), max(most, float(high))]
