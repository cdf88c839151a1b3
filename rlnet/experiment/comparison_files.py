"""Files of the final comparison (values.npz, comparison.json), and scoring a finished run again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlnet.compare import AGAINST_OPTIMAL, Comparison, Tables
from rlnet.compare.constraint_bound import best_of_all_policies
from rlnet.compare.member_failures import Mishap, out_of_range
from rlnet.compare.population import Population, drawn, each_verdict, overall_verdict
from rlnet.compare.risk import Risk, point_of, risk_frontier
from rlnet.config import Config, ConfigError, LinearConfig, OptimisticConfig
from rlnet.config.files import check_values, read_json, read_values, reading
from rlnet.config.population import each_setting, member_settings, settings, varied
from rlnet.config.stored import from_stored
from rlnet.experiment.constrained import largest_price
from rlnet.experiment.problem import Problem, build
from rlnet.numerics.statistics import INTERQUARTILE, aggregate

Scalars = dict[str, np.ndarray]  # name → [M]

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
    mdp, grid = problem.mdp, member_settings(config)
    return {
        "state": np.arange(mdp.n_states),
        "v": comparison.v,
        "v_exact": comparison.v_exact,
        "q": tables.q,
        "q_exact": comparison.q_exact,
        "pi": tables.policy,
        "pi_exact": np.stack([solution.policy for solution in problem.exact]),
        "v_limited": comparison.v_limited,
        "visits": visits,
        "seed": np.array(config.member_seeds),
        "gamma": np.array([solution.gamma for solution in problem.exact]),
        **({} if problem.log_reference is None else {"pi_reference": np.exp(problem.log_reference)}),
        **{name: np.array([setting[name] for setting in grid]) for name in grid[0]},
    }


def mishaps(
    config: Config, problem: Problem, tables: Tables, steps: Sequence[int], diverged: Sequence[int], scalars: Scalars
) -> list[Mishap]:
    """The failures of each member.

    Args:
        tables: what they have learned.
        steps: [M], environment steps of each.
        diverged: [M], the step by which its gradient was not finite, −1 for others.
        scalars: the final scores, [M] each.
    """
    found, alone = [], each_setting(config)
    for m, truth in enumerate(problem.truths):
        own = alone[m // config.seeds]
        v, q = (None if table is None else table[m] for table in (tables.v, tables.q))
        values = out_of_range(truth, v, q, max(_first_values(own), largest_price(own, steps[m])))
        gradient = f"a gradient was not finite by step {diverged[m]}" if diverged[m] >= 0 else ""
        endless = problem.algorithm.judged != "given" and not np.isfinite(scalars["exact/return"][m])
        idle = own.optimizer.learning_rate == 0
        found.append(Mishap("; ".join(filter(None, (gradient, values))), bool(endless), idle))
    return found


def _first_values(config: Config) -> float:
    """The magnitude of the initial values, where the config sets them."""
    exploration, network = config.exploration, config.network
    given = (network.weights or []) if isinstance(network, LinearConfig) else []
    optimistic = exploration.initial_value if isinstance(exploration, OptimisticConfig) else 0.0
    return max(abs(x) for x in (network.initial_value, optimistic, *given))


def document(
    config: Config, problem: Problem, tables: Tables, steps: list[int], diverged: list[int], scalars: Scalars
) -> dict[str, Any]:
    """The content of comparison.json.

    Args:
        tables: what was learned.
        steps: [M], environment steps of each member.
        diverged: [M], the step by which its gradient was not finite, −1 for others.
        scalars: the final scores, [M] each.
    """
    optimal = problem.against == AGAINST_OPTIMAL
    exact = {solution.gamma: solution for solution in problem.exact}.values()
    what = mishaps(config, problem, tables, steps, diverged, scalars)
    population = _population(config, problem, scalars, what)
    each = each_verdict(population)
    members = [
        {
            "member": m,
            "seed": seed,
            "settings": setting,
            "step": steps[m],
            "diverged": diverged[m] if diverged[m] >= 0 else steps[m] if what[m].diverged else None,
            "diverged_because": what[m].diverged or None,
            "never_ends": what[m].endless,
            "scores": {name: values[m] for name, values in scalars.items()},
        }
        for m, (seed, setting) in enumerate(zip(config.member_seeds, member_settings(config), strict=True))
    ]
    return {
        "verdict": approximately(problem, overall_verdict(population)),
        "env": config.env.name,
        "algo": config.algo.name,
        "network": config.network.name,
        "gamma": [solution.gamma for solution in exact] if "gamma" in varied(config) else config.gamma,
        "judged_policy": JUDGED[problem.algorithm.judged],
        "prediction": problem.algorithm.judged == "given",
        "objective": objective(problem),
        "compared_with": "V*, Q*" if optimal else "V^pi, Q^pi of the judged policy",
        "weights": "*_rmse: discounted visitation of the judged policy; *_uniform: all states that can be reached",
        "exact": {
            "method": ", ".join(dict.fromkeys(solution.method for solution in exact)),
            "error_bound": max(solution.error_bound for solution in exact),
            "seconds": sum(solution.seconds for solution in exact),
            **({"approximate": problem.approximation} if problem.approximation else {}),
            **({"tried": problem.environment.tried} if problem.environment.tried else {}),
        },
        "members": members,
        "drawn": drawn(members, each),
        "aggregate": aggregate(scalars),
        "aggregate_over": _over_whom(what),
        "settings": each,
        "time_limit": _time_limit(problem),
        **({"events": _events(problem, tables)} if problem.mdp.events else {}),
    }


def approximately(problem: Problem, verdict: str) -> str:
    """A verdict that begins with what is approximate in its truth."""
    said = problem.approximation
    return f"{said[:1].upper()}{said[1:]}. Against these values: {verdict}" if said else verdict


def _events(problem: Problem, tables: Tables) -> list[dict[str, Any]]:
    """The exact risk of what the model names: of the optimal policies as it costs more, and of the members' policies.

    The frontier is that of the first setting's discount.
    """
    found = []
    for k, risk in enumerate(problem.truths[0].risks):
        places = [point_of(truth.risks[k], policy) for truth, policy in zip(problem.truths, tables.policy, strict=True)]
        frontier = risk_frontier(risk)
        found.append(
            {
                "event": risk.event,
                "horizon": risk.horizon,
                "optimal": risk.of_optimal,
                "optimal_return": point_of(risk, risk.optimal.policy).ret,
                "least": risk.least,
                "frontier": [{"penalty": p.penalty, "return": p.ret, "probability": p.probability} for p in frontier],
                "members": [{"return": p.ret, "probability": p.probability} for p in places],
                **_constraint(problem, risk),
            }
        )
    return found


def _constraint(problem: Problem, risk: Risk) -> dict[str, Any]:
    """The exact optimum under the chance constraint of the first setting, if it is one of this event."""
    if problem.constrained is None or problem.watched != risk.event:
        return {}
    under = problem.constrained[0]
    safer, bolder = (point_of(risk, place.policy).ret for place in (under.safer, under.bolder))
    ret = under.share * bolder + (1 - under.share) * safer
    numbers = {"limit": under.limit, "multiplier": under.multiplier, "share": under.share}
    found: dict[str, Any] = {**numbers, "return": ret, "probability": under.probability, "optimal_return": under.ret}
    found["optimal_return_of_all_policies"] = best_of_all_policies(under.risk, under.limit, under.multiplier)
    return {"optimal": under.probability, "constraint": found}


def _population(config: Config, problem: Problem, scalars: Scalars, what: list[Mishap]) -> Population:
    firsts = problem.exact[:: config.seeds]
    weight = "temperature" if problem.algorithm.regularisation is None else "β ="
    names = [f"γ = {s.gamma:.12g}" + (f", {weight} {s.temperature:.12g}" if s.temperature else "") for s in firsts]
    if problem.constrained is not None:
        limits = [under.limit for under in problem.constrained[:: config.seeds]]
        names = [f"{name}, P({problem.watched}) ≤ {limit:.12g}" for name, limit in zip(names, limits, strict=True)]
    seeds = config.member_seeds[: config.seeds]
    return Population(settings(config), seeds, names, scalars, what, problem.against, problem.algorithm.judged)


def _over_whom(what: Sequence[Mishap]) -> str:
    """Which members the aggregates include, as a sentence."""
    count, wrong = len(what), sum(not mishap.sound for mishap in what)
    if count == 1:
        return "the only member"
    text = f"all {count} members" + (f", including {wrong} with failures" if wrong else "")
    return (
        text if count >= INTERQUARTILE else f"{text}; of fewer than {INTERQUARTILE} an interquartile mean is the mean"
    )


def _time_limit(problem: Problem) -> dict[str, Any] | None:
    """The effect of the time limit on the problem, as data of comparison.json; None without a limit."""
    steps = problem.limit
    if steps is None:
        return None
    cut = (
        "returns that the limit cuts short are left out"
        if problem.algorithm.data.whole_episodes
        else "where the limit cuts an episode, the target goes on with the value of its final state"
    )
    return {
        "steps": steps,
        "estimated": f"the stationary problem, in which no limit is in sight: {cut}",
        "limited": "exact/limited_*, exact/episode_*: the same policy and the best one in episodes of so many steps, "
        "by backward induction; v_limited in values.npz: with all of them ahead",
    }


def objective(problem: Problem) -> str:
    """The objective of the exact values, in words: reward, or reward plus entropy."""
    weights = ", ".join(f"{tau:g}" for tau in dict.fromkeys(solution.temperature for solution in problem.exact))
    what = "entropy of the policy" if problem.algorithm.regularisation is None else "KL(π ‖ π_ref)"
    sign = "+" if problem.algorithm.regularisation is None else "−"
    if problem.constrained is not None:
        prices = ", ".join(f"{price:.4g}" for price in dict.fromkeys(c.multiplier for c in problem.constrained))
        return f"reward − {prices}·1[{problem.watched}], the exact multiplier of the constraint"
    return "reward" if weights == "0" else f"reward {sign} {weights}·{what}"


@dataclass(frozen=True)
class Scored:
    """The final scores of a run, and what they are of."""

    config: Config
    problem: Problem
    drawn: dict[str, Any]  # as `rlnet.compare.population.drawn` says
    scalars: dict[str, np.ndarray]  # [M] each
    values: dict[str, np.ndarray]  # the arrays of values.npz
    verdict: str  # the sentence in comparison.json


@dataclass(frozen=True)
class Rescored(Scored):
    """Result of `rescore`: the recomputed scores, and how far they differ from the stored ones."""

    difference: float  # largest relative difference from the scores in comparison.json


def rescore(folder: Path, trust: bool = False) -> Rescored:
    """Score a finished run again from its config and its values.npz.

    Args:
        folder: of the run.
        trust: whether its config may have code run: see `rlnet.config.trust`.

    Raises:
        ConfigError: the folder is not that of a finished run with a finite model, or it needs to be trusted.
    """
    config = from_stored(folder / ".hydra" / "config.yaml", trust)
    problem = build(config, folder=folder)
    if problem.environment.mdp is None:
        raise ConfigError(
            f"{folder}: {config.env.title()} has no finite model, so there is nothing exact to compare with"
        )
    for name in ("values.npz", "comparison.json"):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder}: holds no {name}; the run has not finished")
    values, stored = read_values(folder / "values.npz"), read_json(folder / "comparison.json")
    mdp, members = problem.mdp, len(problem.exact)
    check_values(folder / "values.npz", values, members, mdp.n_states, mdp.n_actions)
    with reading(folder / "comparison.json", "is not the comparison of this run"):
        verdict, each = str(stored.get("verdict", "")), [member["scores"] for member in stored["members"]]
        if len(each) != members:
            raise ValueError(f"{len(each)} members, not {members}")
        chosen = stored.get("drawn") or drawn(stored["members"], stored["settings"])
        if not 0 <= int(chosen["member"]) < members:
            raise ValueError(f"the drawn member is {chosen['member']}, of {members}")
        # An older version scored less.
        before = {name: np.array([float(scores[name]) for scores in each]) for name in each[0]}
    with reading(folder / "values.npz", "does not fit the config beside it"):
        learned_v = values["v"] if "v" in problem.algorithm.roles else None
        tables = Tables(values["pi"], learned_v, values.get("q"))
        scalars = problem.score(tables, values["visits"]).scalars
    known = [name for name in scalars if name in before]
    difference = max((_difference(scalars[name], before[name]) for name in known), default=float("inf"))
    return Rescored(config, problem, chosen, scalars, values, verdict, difference)


def _difference(now: np.ndarray, before: np.ndarray) -> float:
    """Largest relative difference; 0 where both are the same infinity, or both are no number."""
    apart = (now != before) & ~(np.isnan(now) & np.isnan(before))
    now, before = now[apart], before[apart]
    return float((np.abs(now - before) / np.maximum(np.abs(before), 1.0)).max(initial=0.0))
