"""The final comparison as files: what `train` writes, and scoring a finished run again from what it left."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlnet.build import Problem, build
from rlnet.compare import AGAINST_OPTIMAL, Comparison, Tables, score_population, sentence
from rlnet.config import Config, ConfigError
from rlnet.files import check_values, read_json, read_values, reading
from rlnet.members import member_settings, settings, varied
from rlnet.statistics import aggregate
from rlnet.validate import from_stored

JUDGED = {
    "given": "the given policy",
    "behaviour": "the policy that acts, with its exploration as it was at the end",
    "greedy": "the greedy policy of the learned Q",
    "actor": "the learned policy",
    "soft": "the softmax policy of the learned Q at the temperature of the problem",
}


def arrays(
    config: Config, problem: Problem, tables: Tables, comparison: Comparison, visits: np.ndarray
) -> dict[str, Any]:
    """The content of values.npz: learned and exact values side by side, [M, S] and [M, S, A]."""
    mdp, grid = problem.environment.mdp, member_settings(config)
    return {
        "state": np.arange(mdp.n_states),
        "v": comparison.v,
        "v_exact": comparison.v_exact,
        "q": tables.q,
        "q_exact": comparison.q_exact,
        "pi": tables.policy,
        "pi_exact": np.stack([solution.policy for solution in problem.solutions]),
        "v_limited": comparison.v_limited,
        "visits": visits,
        "seed": np.array(config.member_seeds),
        "gamma": np.array([solution.gamma for solution in problem.solutions]),
        **{name: np.array([setting[name] for setting in grid]) for name in grid[0]},
    }


def document(
    config: Config, problem: Problem, steps: list[int], diverged: list[int], scalars: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The content of comparison.json.

    Args:
        steps: [M], environment steps of each member.
        diverged: [M], the step by which it diverged, −1 for a sound member.
        scalars: the final scores, [M] each.
    """
    optimal = problem.against == AGAINST_OPTIMAL
    exact = {solution.gamma: solution for solution in problem.solutions}.values()
    each = _settings(config, problem, scalars)
    return {
        "verdict": _overall(each, config.seeds),
        "env": config.env.name,
        "algo": config.algo.name,
        "network": config.network.name,
        "gamma": [solution.gamma for solution in exact] if "gamma" in varied(config) else config.gamma,
        "judged_policy": JUDGED[problem.algorithm.judged],
        "objective": objective(problem),
        "compared_with": "V*, Q*" if optimal else "V^pi, Q^pi of the judged policy",
        "weights": "*_rmse: discounted visitation of the judged policy; *_uniform: all states that can be reached",
        "exact": {
            "method": ", ".join(dict.fromkeys(solution.method for solution in exact)),
            "error_bound": max(solution.error_bound for solution in exact),
            "seconds": sum(solution.seconds for solution in exact),
        },
        "members": [
            {
                "member": m,
                "seed": seed,
                "settings": setting,
                "step": steps[m],
                "diverged": diverged[m] if diverged[m] >= 0 else None,
                "scores": {name: values[m] for name, values in scalars.items()},
            }
            for m, (seed, setting) in enumerate(zip(config.member_seeds, member_settings(config), strict=True))
        ],
        "aggregate": aggregate(scalars),
        "settings": each,
        "time_limit": _time_limit(problem),
    }


def _settings(config: Config, problem: Problem, scalars: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """For each setting of `vary` (one, where nothing varies): its aggregate over seeds, and the verdict on that."""
    each = []
    for k, setting in enumerate(settings(config)):
        table = aggregate({name: values[k * config.seeds :][: config.seeds] for name, values in scalars.items()})
        middle = {name: row["iqm"] for name, row in table.items()}
        said = sentence(middle, problem.against, problem.algorithm.judged)
        each.append({"settings": setting, "verdict": said, "aggregate": table})
    return each


def _overall(each: list[dict[str, Any]], seeds: int) -> str:
    """One sentence: the verdict on the only setting, or on the one that comes nearest to its optimum."""
    over = f"Over {seeds} seeds (interquartile means): " if seeds > 1 else ""
    if len(each) == 1:
        return over + each[0]["verdict"]
    reached = [row["aggregate"]["exact/normalised_return"]["iqm"] for row in each]
    best = each[int(np.argmax(np.nan_to_num(reached, nan=-np.inf)))]
    name = ", ".join(f"{key}={value:g}" for key, value in best["settings"].items())
    return f"{over}of {len(each)} settings, {name} comes nearest to the optimum: {best['verdict']}"


def _time_limit(problem: Problem) -> dict[str, Any] | None:
    """What a time limit changes, and which of the two problems is being solved; None without a limit."""
    steps = problem.environment.max_steps
    if steps is None:
        return None
    cut = (
        "returns that the limit cuts short are left out"
        if problem.algorithm.whole_episodes
        else "where the limit cuts an episode, the target goes on with the value of its final state"
    )
    return {
        "steps": steps,
        "estimated": f"the stationary problem, in which no limit is in sight: {cut}",
        "limited": "exact/limited_*, exact/episode_*: the same policy and the best one in episodes of so many steps, "
        "by backward induction; v_limited in values.npz: with all of them ahead",
    }


def objective(problem: Problem) -> str:
    """What the exact values and returns are values of."""
    weights = ", ".join(f"{tau:g}" for tau in dict.fromkeys(solution.temperature for solution in problem.solutions))
    return "reward" if weights == "0" else f"reward + {weights}·entropy of the policy"


class Rescored(NamedTuple):
    """What `rescore` returns."""

    config: Config
    problem: Problem
    scalars: dict[str, np.ndarray]  # scored now, [M] each
    values: dict[str, np.ndarray]  # values.npz
    difference: float  # largest relative difference from the scores in comparison.json
    verdict: str  # the sentence in comparison.json


def rescore(folder: Path, trust: bool = False) -> Rescored:
    """Score a finished run again from its config and its values.npz.

    Args:
        folder: of the run.
        trust: whether its config may have code run: see `rlnet.trust`.

    Raises:
        ConfigError: the folder is not that of a finished run with a finite model, or it needs to be trusted.
    """
    config = from_stored(folder / ".hydra" / "config.yaml", trust)
    problem = build(config)
    if problem.environment.mdp is None:
        raise ConfigError(
            f"{folder}: env={config.env.name} has no finite model, so there is nothing exact to compare with"
        )
    for name in ("values.npz", "comparison.json"):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder}: holds no {name}; the run has not finished")
    values, stored = read_values(folder / "values.npz"), read_json(folder / "comparison.json")
    mdp, members = problem.environment.mdp, len(problem.solutions)
    check_values(folder / "values.npz", values, members, mdp.n_states, mdp.n_actions)
    with reading(folder / "comparison.json", "is not the comparison of this run"):
        verdict, each = str(stored.get("verdict", "")), [member["scores"] for member in stored["members"]]
        if len(each) != members:
            raise ValueError(f"{len(each)} members, not {members}")
        # An older version scored less.
        before = {name: np.array([float(scores[name]) for scores in each]) for name in each[0]}
    with reading(folder / "values.npz", "does not fit the config beside it"):
        learned_v = values["v"] if "v" in problem.algorithm.roles else None
        tables = Tables(values["pi"], learned_v, values.get("q"))
        scalars = score_population(problem.truths, tables, problem.against, values["visits"]).scalars
    known = [name for name in scalars if name in before]
    difference = max((_difference(scalars[name], before[name]) for name in known), default=float("inf"))
    return Rescored(config, problem, scalars, values, difference, verdict)


def _difference(now: np.ndarray, before: np.ndarray) -> float:
    """Largest relative difference; 0 where both are the same infinity, or both are no number."""
    apart = (now != before) & ~(np.isnan(now) & np.isnan(before))
    now, before = now[apart], before[apart]
    return float((np.abs(now - before) / np.maximum(np.abs(before), 1.0)).max(initial=0.0))
