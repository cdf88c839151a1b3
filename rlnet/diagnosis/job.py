"""The job of `rlnet compare RUN_DIR --diagnose`: diagnose a finished run from its folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlnet.config import Config, ConfigError
from rlnet.config.population import member_settings, settings
from rlnet.diagnosis.blame import coverage, error_by_visits, regret_by_state
from rlnet.diagnosis.gradient import compare_gradients
from rlnet.diagnosis.split import Split, split
from rlnet.diagnosis.targets import NotDefined
from rlnet.experiment.checkpoints import NEWEST, read_checkpoint
from rlnet.experiment.comparison_files import Rescored, rescore
from rlnet.experiment.run_files import jsonable, write_json
from rlnet.learning.training_state import TrainingState

MOST_MEMBERS = 4  # of a population are diagnosed: the first of each context, or the first ones
MOST_STATES = 10  # that carry the regret are listed


def diagnose_and_write(folder: Path, result: Rescored | None = None) -> dict[str, Any]:
    """Diagnose a run, and write diagnosis.json into its folder atomically.

    Raises:
        ConfigError: the folder is not that of a finished run with a finite model.
    """
    document = diagnose(folder, result)
    write_json(folder / "diagnosis.json", document)
    return document


def diagnose(folder: Path, result: Rescored | None = None) -> dict[str, Any]:
    """Diagnose a finished run; returns the content of diagnosis.json.

    A part that is not defined for the run is {"not_defined": why}. Keys: `value` (the error of V or Q split into its
    parts, per member), `policy_gradient`, `coverage`, `error_by_visits`, `regret`; all but `value` and
    `policy_gradient` are of the member that is drawn everywhere (see `rlnet.compare.population.drawn`).

    Args:
        folder: of the run.
        result: what `rescore(folder)` returned, if that is known already.

    Raises:
        ConfigError: the folder is not that of a finished run with a finite model.
    """
    result = rescore(folder) if result is None else result
    run, values = _restored(folder, result), result.values
    problem, config = result.problem, result.config
    mdp, drawn = problem.mdp, result.drawn["member"]
    if problem.environment.grid is not None:
        raise ConfigError(
            f"{config.env.title()}: its model is approximate, so errors cannot be split into their causes"
        )
    if mdp.sign is not None:
        raise ConfigError(f"{config.env.title()}: errors in a game of two players cannot be split into their causes")
    members = _members(config, drawn)
    policy, visits = values["pi"][drawn], values["visits"][drawn]
    parts: list[Split] = []

    def value() -> dict[str, Any]:
        parts.append(split(run, values, members))
        return _described(parts[0])

    def by_visits() -> dict[str, Any]:
        if not parts:
            raise NotDefined("the error was not computed")
        return error_by_visits(parts[0].units, parts[0].error[members.index(drawn)], visits)

    document = {
        "env": config.env.name,
        "algo": config.algo.name,
        "network": config.network.name,
        "gamma": problem.exact[0].gamma,
        "members": [
            {"member": m, "seed": config.member_seeds[m], "settings": member_settings(config)[m]} for m in members
        ],
        "value": _or_why(value),
        "policy_gradient": _or_why(lambda: compare_gradients(run, values["pi"][members], members)),
        "coverage": coverage(mdp, visits, policy),
        "error_by_visits": _or_why(by_visits),
        "drawn": result.drawn,
        "regret": _or_why(lambda: _regret(result, policy)),
    }
    return jsonable(document)


def _members(config: Config, drawn: int) -> list[int]:
    """The members to diagnose: one of each setting, or all seeds of the only one, with the drawn member."""
    several = len(settings(config)) > 1
    chosen = list(range(0, len(config.member_seeds), config.seeds if several else 1))
    chosen = [drawn if several and m // config.seeds == drawn // config.seeds else m for m in chosen]
    kept = chosen[:MOST_MEMBERS]
    return kept if drawn in kept else [*kept[:-1], drawn]


def _or_why(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return part()
    except NotDefined as why:
        return {"not_defined": str(why)}


def _restored(folder: Path, result: Rescored) -> TrainingState:
    """Restore the run with its final parameters."""
    path = folder / NEWEST
    if not path.is_file():
        raise ConfigError(f"{folder}: holds no {NEWEST}, which has the learned parameters")
    run = TrainingState(result.config, result.problem)
    try:
        run.load_state_dict(read_checkpoint(path, result.config.device), result.config.trust)
    except ConfigError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder}: its checkpoint.pt cannot be read ({type(error).__name__})") from error
    return run


def _described(one: Split) -> dict[str, Any]:
    sizes, shares = one.sizes(), one.shares()
    return {
        "of": one.units.kind,
        "target": one.target,
        "data": one.data,
        "bootstrapping_not_defined": one.reason,
        "rmse": sizes,
        "share": shares,
        "mean_rmse": {name: float(x.mean()) for name, x in sizes.items()},
        "mean_share": {name: float(x.mean()) for name, x in shares.items()},
    }


def _regret(result: Rescored, policy: np.ndarray) -> dict[str, Any]:
    problem = result.problem
    mdp, optimal = problem.mdp, problem.exact[result.drawn["member"]]
    if problem.algorithm.judged == "given":
        raise NotDefined("the policy was given, not learned")
    if optimal.temperature > 0:
        raise NotDefined("the problem counts entropy as reward, so Q* alone does not say what an action costs")
    loss = regret_by_state(mdp, policy, optimal)
    order = np.argsort(-loss, kind="stable")[:MOST_STATES]
    shown = [s for s in order.tolist() if loss[s] > 1e-12 * max(1.0, abs(float(mdp.start @ optimal.v)))]
    best = optimal.q.argmax(1)
    return {
        "total": float(loss.sum()),
        "by_state": loss,
        "largest": [
            {"state": s, "loss": loss[s], "taken": int(policy[s].argmax()), "better": int(best[s])} for s in shown
        ],
    }
