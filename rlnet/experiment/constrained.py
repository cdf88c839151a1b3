"""The chance constraint of a run: which event is meant, and the exact optima under it."""

from collections.abc import Sequence

from rlnet.algos import Algorithm
from rlnet.algos.algorithm import Judged
from rlnet.compare.constraint import Constrained, constrained_optimum
from rlnet.compare.risk import Risk
from rlnet.config import Config, ConfigError, require
from rlnet.config.population import constrained, each_setting
from rlnet.envs import Environment
from rlnet.mdp import FiniteMDP, Solution, solve


def watched_event(config: Config, algorithm: Algorithm, environment: Environment) -> str:
    """The event of the constraint; empty without one.

    Raises:
        ConfigError: the environment has no such event, or the algorithm cannot be constrained.
    """
    if not constrained(config):
        return ""
    known, event, title = environment.events, config.constraint.event, config.env.title()
    limit = each_setting(config)[0].constraint.limit
    require(bool(known), "constraint.limit", limit, f"{title} names no event that could be constrained; use null")
    if event is None and len(known) == 1:
        event = known[0]
    which = f"the events of {title} are {', '.join(known)}"
    require(event is not None, "constraint.event", "null", f"{which}; choose one")
    require(event in known, "constraint.event", event, which)
    name, allowed = config.algo.name, "cannot be constrained: {}; use constraint.limit=null"
    for unfit, why in (
        (algorithm.judged is Judged.GIVEN, "it evaluates a given policy"),
        (algorithm.acting.planner is not None, "its tree search plans without the cost of the constraint"),
        (algorithm.temperature is not None, "the entropy of its policy is a part of the reward"),
        (algorithm.regularisation is not None, "a divergence is a part of the reward"),
        (environment.game, f"{title} is a game of two players"),
    ):
        require(not unfit, "algo", name, allowed.format(why))
    return str(event)


def constrained_optima(
    config: Config, mdp: FiniteMDP, event: str, solutions: Sequence[Solution], horizon: int | None
) -> list[Constrained]:
    """The exact optima under the constraint, [M]; members of one setting share theirs.

    Args:
        solutions: [M], without the constraint.
        horizon: the time limit of an episode.

    Raises:
        ConfigError: no policy satisfies it.
    """
    found: list[Constrained] = []
    for k, one in enumerate(each_setting(config)):
        risk, limit = Risk(mdp, event, solutions[k * config.seeds], horizon), one.constraint.limit
        assert limit is not None
        optimum = constrained_optimum(risk, limit)
        if optimum is None:
            raise ConfigError(f"constraint.limit={limit}: is below what can be had; {_least(risk, limit)}")
        found += [optimum] * config.seeds
    return found


def _least(risk: Risk, limit: float) -> str:
    least = f"the least probability of {risk.event} that any policy attains is {risk.least:.4g}"
    how = "goes on for ever at a cost" if risk.horizon is None else "knows the steps left"
    return f"{least}, by one that {how}" if risk.least <= limit else least


def solved_under(optima: Sequence[Constrained], config: Config) -> list[Solution]:
    """The solutions [M] of the models in which the event costs λ*."""
    each = optima[:: config.seeds]
    found = [o.risk.optimal if o.multiplier == 0 else solve(o.model, o.risk.optimal.gamma) for o in each]
    return [solution for solution in found for _ in range(config.seeds)]


def largest_price(config: Config, steps: int) -> float:
    """The most that a multiplier can have become, if each step had ended an episode with the event; 0 without one."""
    constraint = config.constraint
    return 0.0 if constraint.limit is None else constraint.multiplier + constraint.rate * (1 - constraint.limit) * steps
