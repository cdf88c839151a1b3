"""Given policies of prediction: the target policy and the behaviour policy."""

from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet.compare.judge import evaluate_quietly
from rlnet.config import Config, ConfigError, PredictionConfig, require
from rlnet.config.files import read_arrays
from rlnet.envs.state_rows import GridRows, StateRows
from rlnet.mdp import FiniteMDP, ImproperPolicyError, Solution

SOURCES = "uniform, optimal, a list with a weight for each action, or a values.npz or solution.npz"


def given_policies(
    config: Config,
    alone: list[Config],
    mdp: FiniteMDP | None,
    solutions: list[Solution] | None,
    corrects: bool,
    rows: StateRows | GridRows | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The policies to be predicted and those that act, as probabilities [M, S, A]; None where they are the same.

    Where all members have the same γ there is one of each in memory.

    Args:
        config: of the population.
        alone: the config of each of its settings.
        mdp: the model; solutions: [M], at each member's γ.
        corrects: whether the algorithm corrects for acting by another policy.
        rows: what is shown in each state; None: its number.

    Raises:
        ConfigError: a policy that cannot be used, one that never takes an action of the predicted one, or one that
            acts differently in states that look alike.
    """
    name = config.algo.name
    if mdp is None or solutions is None or not isinstance(config.algo, PredictionConfig):
        raise ConfigError(f"algo={name}: predicts the value of a given policy, which needs a finite model")
    source, acts = config.algo.policy, config.algo.behaviour
    allowed = f"algo={name} learns on-policy, from the predicted policy alone; use null"
    require(acts is None or corrects, "algo.behaviour", acts, allowed)
    truth = {solution.gamma: solution for solution in solutions}
    found: dict[float, list[np.ndarray]] = {}
    for one in {one.gamma: one for one in alone}.values():
        policy = _predicted(source, one, mdp, truth[one.gamma])
        found[one.gamma] = [_as_shown(policy, "algo.policy", source, mdp, rows)]
        if acts is not None:
            acting = _acting(acts, policy, mdp, truth[one.gamma])
            found[one.gamma].append(_as_shown(acting, "algo.behaviour", acts, mdp, rows))
    each = [found[one.gamma] for one in alone for _ in range(config.seeds)]

    def stacked(tables: list[np.ndarray]) -> Tensor:
        if len(found) == 1:
            return torch.as_tensor(tables[0]).float().expand(len(tables), -1, -1)
        return torch.as_tensor(np.stack(tables)).float()

    tables = [stacked(list(column)) for column in zip(*each, strict=True)]
    return tables[0], None if acts is None else tables[1]


def _predicted(source: Any, config: Config, mdp: FiniteMDP, solution: Solution) -> np.ndarray:
    """The policy to be predicted at one γ, as probabilities [S, A]."""
    policy = _policy(source, "algo.policy", mdp, solution)
    try:
        evaluate_quietly(mdp, policy, config.gamma)  # only whether it can be evaluated
    except ImproperPolicyError as error:
        raise ConfigError(f"gamma={config.gamma}: algo.policy={source} has no finite value here ({error})") from error
    except ValueError as error:
        raise ConfigError(f"algo.policy={source}: is not a policy of {config.env.title()} ({error})") from error
    return policy


def _acting(source: Any, target: np.ndarray, mdp: FiniteMDP, solution: Solution) -> np.ndarray:
    """The behaviour policy while `target` is predicted, as probabilities [S, A]."""
    key = "algo.behaviour"
    if isinstance(source, Real) and not isinstance(source, bool):
        share = float(source)
        require(0 <= share <= 1, key, source, "a share of uniform actions must be in [0, 1]")
        policy = (1 - share) * target + share * _uniform(mdp)
    else:
        policy = _policy(source, key, mdp, solution)
        sums = policy.sum(1)[~mdp.terminal]
        proper = (policy >= 0).all() and not policy[~mdp.available].any() and np.allclose(sums, 1)
        require(bool(proper), key, source, "is not a policy of this environment")
    missing = np.argwhere((target > 0) & (policy <= 0) & ~mdp.terminal[:, None])
    if len(missing):
        s, a = missing[0]
        raise ConfigError(f"{key}={source}: never takes action {a} in state {s}, which the predicted policy takes")
    return policy


def _as_shown(
    policy: np.ndarray, key: str, source: Any, mdp: FiniteMDP, rows: StateRows | GridRows | None
) -> np.ndarray:
    """The policy [S, A], in terminal states that of a state that looks alike; refused where observations do not decide.

    Raises:
        ConfigError: it acts differently in two states that look alike.
    """
    if not isinstance(rows, StateRows):
        return policy
    alive = np.flatnonzero(~mdp.terminal)
    chosen = rows.first.copy()
    chosen[rows.of_state[alive[::-1]]] = alive[::-1]  # of each observation the first state that goes on
    shown = policy[chosen][rows.of_state]
    differs = (np.abs(shown - policy).max(1) > 1e-6) & ~mdp.terminal
    s = int(differs.argmax())
    allowed = f"acts differently in states {chosen[rows.of_state[s]]} and {s}, which look alike to who acts"
    require(not differs.any(), key, source, allowed)
    return shown


def _uniform(mdp: FiniteMDP) -> np.ndarray:
    return mdp.available / np.maximum(mdp.available.sum(1, keepdims=True), 1)


def _policy(source: Any, key: str, mdp: FiniteMDP, solution: Solution) -> np.ndarray:
    """The policy that a setting names, as probabilities [S, A]."""
    if isinstance(source, list):
        fits = len(source) == mdp.n_actions and all(isinstance(x, Real) and float(x) >= 0 for x in source)
        require(fits and sum(source) > 0, key, source, f"must be {mdp.n_actions} weights of at least 0, one per action")
        weights = mdp.available * np.array(source, dtype=float)
        lost = np.flatnonzero((weights.sum(1) == 0) & ~mdp.terminal)
        require(len(lost) == 0, key, source, f"leaves no action in state {lost[0] if len(lost) else ''}")
        return weights / np.maximum(weights.sum(1, keepdims=True), 1e-300)
    if source == "uniform":
        return _uniform(mdp)
    if source == "optimal":
        return solution.policy
    require(isinstance(source, str), key, source, f"must be {SOURCES}")
    return _saved(Path(source), key, mdp)


def _saved(path: Path, key: str, mdp: FiniteMDP) -> np.ndarray:
    require(path.exists(), key, path, f"must be {SOURCES}; there is no such file")
    try:
        found = read_arrays(path)
    except ConfigError as error:
        raise ConfigError(f"{key}={error}; must be {SOURCES}") from error
    require("pi" in found or "policy" in found, key, path, f"must be {SOURCES}; it holds no policy")
    policy = found["pi"] if "pi" in found else found["policy"]
    policy = policy[0] if "pi" in found and policy.ndim == 3 and len(policy) else policy
    wanted = (mdp.n_states, mdp.n_actions)
    require(policy.shape == wanted, key, path, f"holds a policy of shape {policy.shape}, not {wanted}")
    return policy
