"""The exact solutions of a run: of each of its settings, under its chance constraint where it has one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from rlnet.algos import Algorithm
from rlnet.compare.constraint import Constrained
from rlnet.config import Config, ConfigError
from rlnet.experiment.constrained import constrained_optima, solved_under
from rlnet.mdp import FiniteMDP, ImproperPolicyError, Solution, UnboundedValueError, solve


def exact_solution(mdp: FiniteMDP, gamma: float, env: str, **options: Any) -> Solution:
    """`mdp.solve`, with a ConfigError that names the key where the problem has no finite solution at this γ.

    Args:
        mdp, gamma, options: as for `solve`.
        env: how messages name the environment: see `EnvConfig.title`.
    """
    try:
        return solve(mdp, gamma, **options)
    except (ImproperPolicyError, UnboundedValueError) as error:
        why = str(error).removeprefix("gamma=1: ")  # it says what to do, too
        raise ConfigError(f"gamma={gamma}: {env} has no finite values without discount: {why}") from error


class Solved(NamedTuple):
    """What is solved exactly, of M members; None where nothing is."""

    solutions: list[Solution] | None = None
    models: list[FiniteMDP] | None = None  # where they are not the environment's own
    constrained: list[Constrained] | None = None


def solve_settings(
    config: Config,
    alone: list[Config],
    algorithm: Algorithm,
    mdp: FiniteMDP,
    log_reference: np.ndarray | None,
    watched: str,
    max_steps: int | None,
) -> Solved:
    """The exact solutions of each setting, for all its seeds; under the chance constraint where there is one.

    Args:
        config: of all members.
        alone: the config of each setting.
        algorithm, mdp: of the run.
        log_reference: log π_ref [S, A] of the reference policy; None without one.
        watched: the event of the chance constraint; empty without one.
        max_steps: the time limit within which its probability counts.
    """
    each = [_regularised(mdp, log_reference, divergence_weight(one, algorithm)) for one in alone]
    solutions = [found for found in _solutions(each, alone, algorithm) for _ in range(config.seeds)]
    if watched in (mdp.events or {}):
        under = constrained_optima(config, mdp, watched, solutions, max_steps)
        return Solved(solved_under(under, config), [own.model for own in under], under)
    return Solved(solutions, None if log_reference is None else [x for x in each for _ in range(config.seeds)])


def divergence_weight(config: Config, algorithm: Algorithm) -> float:
    """β of the divergence from the reference policy."""
    return 0.0 if algorithm.regularisation is None else float(algorithm.regularisation(config.algo.hyper))


def _regularised(mdp: FiniteMDP, log_reference: np.ndarray | None, beta: float) -> FiniteMDP:
    """The model in which E[R] + β·H(π) is E[R] − β·KL(π ‖ π_ref) of the given one: β·log π_ref joins every reward."""
    if log_reference is None or beta == 0:
        return mdp
    bonus = beta * log_reference[mdp.pair_state, mdp.pair_action]
    return replace(mdp, reward=mdp.reward + np.repeat(bonus, np.diff(mdp.outcome_ptr)))


def _solutions(models: Sequence[FiniteMDP], alone: list[Config], algorithm: Algorithm) -> list[Solution]:
    """The exact solution for each setting of a population; each problem is solved once."""
    exact: dict[tuple[float, float, float], Solution] = {}
    found = []
    for mdp, one in zip(models, alone, strict=True):
        beta = divergence_weight(one, algorithm)
        tau = beta if algorithm.temperature is None else algorithm.temperature(one.algo.hyper)
        kind = one.gamma, tau, beta
        if kind not in exact:
            exact[kind] = exact_solution(mdp, one.gamma, one.env.title(), temperature=tau)
        found.append(exact[kind])
    return found
