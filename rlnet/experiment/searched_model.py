"""Inputs of algorithms that act by search: the model to search in, and the symmetries of a board."""

import torch

from rlnet.algos import Algorithm
from rlnet.config import Config, ConfigError, require
from rlnet.envs import Environment
from rlnet.envs.state_rows import GridRows
from rlnet.planning import Dynamics, NotDeterministicError, RulesDynamics, Symmetries, TableDynamics


def dynamics_of(config: Config, algorithm: Algorithm, environment: Environment) -> Dynamics | None:
    """The model that an algorithm searches in; None for those that do not search.

    Raises:
        ConfigError: it searches, and the environment has no deterministic model.
    """
    if algorithm.acting.planner is None:
        return None
    key, _, env = config.env.title().partition("=")
    needs = f"algo={config.algo.name} searches in a deterministic finite model or the rules of a board game"
    mdp, rows = environment.mdp, environment.states
    if mdp is not None and not isinstance(rows, GridRows):
        alike = 0 if rows is None else mdp.n_states - len(rows.rows)
        if alike:
            raise ConfigError(f"{key}={env}: {needs}; here {alike} states look like others, and cannot be recognised")
        try:
            return TableDynamics(mdp, rows)
        except NotDeterministicError as error:
            raise ConfigError(f"{key}={env}: {needs}; here {error}") from error
    if environment.board is None:
        raise ConfigError(f"{key}={env}: {needs}, and this environment has neither")
    return RulesDynamics(environment.board.rules)


def symmetries_of(config: Config, environment: Environment, device: torch.device) -> Symmetries | None:
    """The symmetries of a board game, where the algorithm is to learn from them.

    Raises:
        ConfigError: they are asked for, and the environment is no board game.
    """
    if not config.algo.options.get("symmetries", False):
        return None
    allowed = f"{config.env.title()} is no board game, of which symmetries are known; use false"
    require(environment.board is not None, "algo.options.symmetries", True, allowed)
    assert environment.board is not None
    return Symmetries(environment.board.rules, environment.board.cells, device)
