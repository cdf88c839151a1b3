"""Building the problem of a run from its config: environment, algorithm, networks, exact solution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet import algos
from rlnet.algos import Algorithm, AlgorithmContext
from rlnet.algos.algorithm import Judged
from rlnet.algos.context import PI
from rlnet.compare import (
    AGAINST_OPTIMAL,
    AGAINST_POLICY,
    Comparison,
    Tables,
    Truth,
    score_population,
    time_limit,
)
from rlnet.compare.completions import Completions
from rlnet.compare.constraint import Constrained
from rlnet.compare.names import OF_CONTROL
from rlnet.config import (
    Config,
    ConfigError,
    EpochsConfig,
    TabularConfig,
    require,
)
from rlnet.config.population import each_setting
from rlnet.envs import Environment, make
from rlnet.envs.limits import held
from rlnet.experiment.compatibility import (
    check_actions,
    check_algorithm,
    check_exploration,
    check_game,
    check_normalization,
    check_options,
    check_returns,
    check_texts,
    single_actions,
)
from rlnet.experiment.constrained import watched_event
from rlnet.experiment.exact_solutions import Solved, divergence_weight, solve_settings
from rlnet.experiment.fixed_policies import given_policies
from rlnet.experiment.networks import actions_of, available_actions, device_of, inputs_of, network_of
from rlnet.experiment.reference import reference_policy
from rlnet.experiment.searched_model import dynamics_of, symmetries_of
from rlnet.experiment.sizes import require_solvable, require_trainable
from rlnet.mdp import FiniteMDP, Solution
from rlnet.nets import Network
from rlnet.policies.exploration import BEHAVIOURS


@dataclass(frozen=True)
class Problem:
    """The learning problem of a run: environment, algorithm, context and exact solutions."""

    environment: Environment
    algorithm: Algorithm
    context: AlgorithmContext
    solutions: list[Solution] | None  # [M], at each member's γ; None without a finite model
    against: str  # which exact values the learner is compared with
    available: Tensor | None  # bool [S, A] of a finite model; None where nothing is ever masked
    # Of texts, [M]: the models in which the divergence from the reference policy counts, and what else is exact.
    models: list[FiniteMDP] | None = None
    completions: Completions | None = None
    log_reference: np.ndarray | None = None  # [S, A] of the reference policy
    watched: str = ""  # the event of the chance constraint; empty without one
    constrained: list[Constrained] | None = None  # [M], the exact optima under it, where there is a finite model

    @property
    def mdp(self) -> FiniteMDP:
        """The finite model; ValueError where the environment has none."""
        if self.environment.mdp is None:
            raise ValueError(f"env={self.environment.name}: there is no finite model")
        return self.environment.mdp

    def shown(self, device: torch.device | str) -> Tensor:
        """The different observations of the model's states, [S], or [R, F] (see `StateRows`) where they are rows."""
        rows = self.environment.states
        return (
            torch.arange(self.mdp.n_states, device=device) if rows is None else torch.from_numpy(rows.rows).to(device)
        )

    @property
    def exact(self) -> list[Solution]:
        """`solutions` of a finite model; ValueError where the environment has none."""
        if self.solutions is None:
            raise ValueError(f"env={self.environment.name}: there is no finite model, hence no exact solution")
        return self.solutions

    @property
    def limit(self) -> int | None:
        """The time limit under which policies are scored, too; None without one, and on a grid of states."""
        return None if self.environment.grid is not None else self.environment.max_steps

    @cached_property
    def approximation(self) -> str:
        """By how much an approximate model is wrong, as a sentence; empty where the model is exact."""
        grid = self.environment.grid
        if grid is None:
            return ""
        each = {solution.gamma: solution for solution in self.exact}
        said = [grid.error(solution) for solution in each.values()]
        return said[0] if len(said) == 1 else "; ".join(f"γ = {g:g}: {s}" for g, s in zip(each, said, strict=True))

    @cached_property
    def truths(self) -> list[Truth]:
        """The exact solutions [M] that members are scored against, with the optimum under the time limit."""
        steps = self.limit
        known: dict[int, Truth] = {}
        models = self.models or [self.mdp] * len(self.exact)
        constrained: Sequence[Constrained | None] = self.constrained or [None] * len(self.exact)
        for mdp, solution, under in zip(models, self.exact, constrained, strict=True):
            if id(solution) not in known:
                limit = None if steps is None else time_limit(mdp, solution.gamma, steps, solution.temperature)
                known[id(solution)] = Truth(mdp, solution, limit, under)
        return [known[id(solution)] for solution in self.exact]

    def score(self, tables: Tables, visits: np.ndarray) -> Comparison:
        """Score all members; in prediction, by the errors of values alone."""
        found = score_population(self.truths, tables, self.against, visits)
        if self.completions is not None:
            found = replace(found, scalars=found.scalars | self.completions.scores(tables.policy))
        if self.algorithm.judged != "given":
            return found
        return replace(found, scalars={name: x for name, x in found.scalars.items() if name not in OF_CONTROL})

    def of(self, members: Sequence[int]) -> "Problem":
        """The problem of some of the members."""
        tables = {name: getattr(self.context, name) for name in ("given_policy", "given_behaviour")}
        own: dict[str, Any] = {name: None if table is None else table[members] for name, table in tables.items()}
        if self.solutions is None:
            return replace(self, context=replace(self.context, **own))
        models = None if self.models is None else [self.models[m] for m in members]
        solutions = [self.solutions[m] for m in members]
        under = None if self.constrained is None else [self.constrained[m] for m in members]
        exact: dict[str, Any] = {"solutions": solutions, "models": models, "constrained": under}
        part = replace(self, context=replace(self.context, **own), **exact)
        vars(part)["truths"] = [self.truths[m] for m in members]  # what is known need not be found again
        return part


def build(config: Config, exact: bool = True, folder: Path | None = None) -> Problem:
    """Build the problem of a run: all of it that does not change.

    Args:
        config: a checked config.
        exact: whether a finite model is solved; without, `solutions` is None unless the given policy needs them.
        folder: of the run, if it has begun: what is stored there is read.

    Raises:
        ConfigError: settings that do not fit together.
    """
    return assemble(config, make(config.env), exact, folder)


def assemble(config: Config, environment: Environment, exact: bool = True, folder: Path | None = None) -> Problem:
    """`build` with a given environment."""
    algorithm = algos.load(config.algo.name)
    check_options(config.algo.options, algorithm, config.algo.name)
    algorithm = algorithm.chosen(config.algo.options)
    environment = single_actions(config, algorithm, environment)
    alone = each_setting(config)
    _check(config, alone, algorithm, environment)
    mdp = environment.mdp
    given, acting = None, None
    device = device_of(config.device)
    actions = actions_of(environment, algorithm, device)
    inputs = inputs_of(config, environment, device)
    networks: dict[str, Network] = {
        role: network_of(config, inputs, role, actions, environment) for role in algorithm.roles
    }
    reference, log_reference = _reference(config, algorithm, environment, networks, folder)
    watched, solved = watched_event(config, algorithm, environment), Solved()
    if mdp is not None and (exact or algorithm.judged is Judged.GIVEN):
        solved = solve_settings(config, alone, algorithm, mdp, log_reference, watched, environment.max_steps)
    if algorithm.judged is Judged.GIVEN:
        given, acting = given_policies(
            config, alone, mdp, solved.solutions, algorithm.data.off_policy, rows=environment.states
        )
    for one in alone:
        check_returns(one, algorithm, mdp)
    available = None if mdp is None else available_actions(mdp, device)
    context = AlgorithmContext(
        actions=actions,
        networks=networks,
        reference=reference,
        dueling=config.network.dueling,
        masked=environment.masks,
        behaviour=BEHAVIOURS[config.exploration.name] if algorithm.acting.explores else None,
        longest=config.algo.rollout if environment.tokens is None else environment.tokens.task.length,
        epochs=config.algo.epochs if isinstance(config.algo, EpochsConfig) else 1,
        options=config.algo.options,
        layout=environment.layout,
        states_of=None if environment.states is None else environment.states.states,
        given_policy=None if given is None else given.to(device),
        given_behaviour=None if acting is None else acting.to(device),
        dynamics=dynamics_of(config, algorithm, environment),
        symmetries=symmetries_of(config, environment, device),
    )
    against = AGAINST_OPTIMAL if algorithm.judged.is_control else AGAINST_POLICY
    completions = None
    if environment.tokens is not None and mdp is not None:
        completions = Completions(mdp, environment.tokens.shape, log_reference, environment.true_reward)
    texts = solved.models, completions, log_reference
    return Problem(
        environment, algorithm, context, solved.solutions, against, available, *texts, watched, solved.constrained
    )


def _check(config: Config, alone: list[Config], algorithm: Algorithm, environment: Environment) -> None:
    """Refuse settings that do not fit together, and more states than can be solved, or kept for each member."""
    for one in alone:
        check_algorithm(one, algorithm)
    for check in (check_actions, check_exploration, check_normalization, check_texts, check_game):
        check(config, algorithm, environment)
    title, mdp = config.env.title(), environment.mdp
    if mdp is not None:
        if not held(np.array(mdp.largest_reward)):
            allowed = "in which networks compute, cannot hold"
            raise ConfigError(
                f"{title}: a reward of its model has the size {mdp.largest_reward:g}, which float32, {allowed}"
            )
        require_solvable(mdp, title, len({one.gamma for one in alone}))
    states = environment.n_states if mdp is None else mdp.n_states
    if states is not None and environment.n_actions is not None:
        sizes = states, environment.n_actions, len(config.member_seeds)
        require_trainable(title, *sizes, scored=mdp is not None, table=isinstance(config.network, TabularConfig))


def _reference(
    config: Config,
    algorithm: Algorithm,
    environment: Environment,
    networks: Mapping[str, Network],
    folder: Path | None,
) -> tuple[Mapping[str, Tensor] | None, np.ndarray | None]:
    """The parameters of the reference policy, and of a finite model log π_ref [S, A]; None where there is none."""
    tokens = environment.tokens
    if tokens is None or PI not in algorithm.roles:
        allowed = f"{config.env.title()} has no reference policy to stay near to; use 0"
        for one in each_setting(config):
            require(divergence_weight(one, algorithm) == 0, "algo.hyper.beta", one.algo.hyper.get("beta"), allowed)
        return None, None
    return reference_policy(config, networks[PI], tokens, environment.n_states, folder)
