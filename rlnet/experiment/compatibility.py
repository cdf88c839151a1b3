"""Checks that algorithm, environment, exploration, optimiser and network of a config fit together."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlnet import algos
from rlnet.algos import Algorithm
from rlnet.algos.algorithm import Acting, Judged
from rlnet.algos.context import Q, Role, V
from rlnet.algos.loss_terms import COMPLETE
from rlnet.config import Config, ConfigError, EpochsConfig, OptimisticConfig, ReplayConfig, require
from rlnet.config.population import each_setting
from rlnet.envs import Environment
from rlnet.envs.actions import MOST, joint_size
from rlnet.mdp import FiniteMDP
from rlnet.policies.exploration import BEHAVIOURS, COUNTING


def check_exploration(config: Config, algorithm: Algorithm, environment: Environment) -> None:
    """Raise ConfigError where the exploration, or a network option for it, does not suit algorithm or environment."""
    name, network = config.exploration.name, config.network
    allowed = f"counts visits, but {config.env.title()} has no countable states"
    require(name not in COUNTING or environment.n_states is not None, "exploration", name, allowed)
    # Who acts by noisy parameters has no policy that could be evaluated; the greedy policy of the means is another.
    allowed = f"algo={config.algo.name} learns the value of the acting policy; use an algorithm that learns Q*"
    require(name != "noisy" or algorithm.judged is not Judged.BEHAVIOUR, "exploration", name, allowed)
    allowed = f"is not supported with the eligibility traces of algo={config.algo.name}; choose another exploration"
    require(name != "noisy" or algorithm.traces is None, "exploration", name, allowed)
    allowed = "exploration=optimistic sets the initial values by exploration.initial_value; leave this at 0"
    optimistic = isinstance(config.exploration, OptimisticConfig)
    require(not optimistic or network.initial_value == 0, "network.initial_value", network.initial_value, allowed)
    allowed = f"algo={config.algo.name} learns no values of discrete actions, which dueling needs; use false"
    splits = Q in algorithm.roles and environment.n_actions is not None
    require(not network.dueling or splits, "network.dueling", network.dueling, allowed)


def check_normalization(config: Config, algorithm: Algorithm, environment: Environment) -> None:
    """Raise ConfigError where there are no numbers to normalise, or no step that suits values in changing units."""
    network, env = config.network, config.env.title()
    allowed = f"the observations of {env} are state indices, tokens or stones, not numbers with a mean; use false"
    numbers = environment.n_states is None and environment.tokens is None and environment.board is None
    require(not network.normalize_observations or numbers, "network.normalize_observations", "true", allowed)
    if network.normalize_returns:
        key, name = "network.normalize_returns", config.algo.name
        allowed = f"algo={name} learns neither V nor Q; use false"
        require(bool({V, Q} & {Role(role.kind) for role in algorithm.roles}), key, "true", allowed)
        allowed = f"needs optimizer=adam, whose steps do not grow with the unit of values, not {config.optimizer.name}"
        require(config.optimizer.name == "adam", key, "true", allowed)


def check_game(config: Config, algorithm: Algorithm, environment: Environment) -> None:
    """Raise ConfigError where the algorithm has no meaning in a game of two players."""
    allowed = f"{config.env.title()} is a game of two players, whose players are not rewarded for entropy"
    require(not environment.game or algorithm.temperature is None, "algo", config.algo.name, allowed)


def check_texts(config: Config, algorithm: Algorithm, environment: Environment) -> None:
    """Raise ConfigError where completions would be cut before they are paid, or be paid a discounted reward."""
    if environment.tokens is not None and "group" in algorithm.options:
        allowed = f"must be 1: algo={config.algo.name} compares undiscounted returns of whole completions"
        for one in each_setting(config):
            require(one.gamma == 1, "gamma", one.gamma, allowed)
    if environment.tokens is not None and algorithm.data.whole_episodes:
        length, rollout = environment.tokens.task.length, config.algo.rollout
        allowed = f"must be at least env.length={length}, or completions are cut before they are rewarded"
        require(rollout >= length, "algo.rollout", rollout, allowed)


def check_algorithm(config: Config, algorithm: Algorithm) -> None:
    """Raise ConfigError where settings of data, optimiser or network do not suit the algorithm."""
    name, exploration = config.algo.name, config.exploration.name
    if algorithm.acting.explores:
        require(
            exploration in BEHAVIOURS, "exploration", exploration, f"algo={name} needs one of {', '.join(BEHAVIOURS)}"
        )
    else:
        _check_own_policy(config, algorithm)
    if algorithm.data.whole_episodes:
        allowed = f"must be at least 2: algo={name} learns from whole episodes, and this is the most steps of one"
        require(config.algo.rollout > 1, "algo.rollout", config.algo.rollout, allowed)
    if isinstance(config.algo, EpochsConfig) and algorithm.data.whole_episodes:
        allowed = f"must be 1: algo={name} learns from whole episodes"
        require(config.algo.minibatches == 1, "algo.minibatches", config.algo.minibatches, allowed)
    _check_hyper(config.algo.hyper, algorithm, name)
    if algorithm.regularisation is not None:
        beta = algorithm.regularisation(config.algo.hyper)
        require(math.isfinite(beta), "algo.hyper.beta", beta, "must be finite: it weighs a divergence in the reward")
    group = config.algo.options.get("group", 1)
    allowed = f"must be a multiple of algo.options.group={group}"
    require(config.algo.envs % group == 0, "algo.envs", config.algo.envs, allowed)
    if algorithm.update.row_by_row:
        allowed = f"must be sgd: algo={name} takes a step for every row, in most of which some members have no gradient"
        require(config.optimizer.name == "sgd", "optimizer", config.optimizer.name, allowed)
    if algorithm.traces == "dutch":
        allowed = f"must be 1: the traces of algo={name} correct for the steps of a single environment; use more seeds"
        require(config.algo.envs == 1, "algo.envs", config.algo.envs, allowed)
    if algorithm.traces == "replacing":
        allowed = "replacing traces need binary features: use network=tabular, or linear on such features"
        require(config.network.name != "mlp", "network", config.network.name, allowed)
    if isinstance(config.algo, ReplayConfig):
        _check_target_network(config.algo, algorithm)


def _check_own_policy(config: Config, algorithm: Algorithm) -> None:
    name, exploration, key = config.algo.name, config.exploration.name, "entropy_coefficient"
    rewarded = key in algorithm.hyper
    other = ", or entropy" if rewarded else ""
    allowed = f"must be none{other}: algo={name} acts by its own policy"
    require(exploration == "none" or (rewarded and exploration == "entropy"), "exploration", exploration, allowed)
    if exploration == "entropy":
        most = max(one.algo.hyper[key] for one in each_setting(config))
        allowed = "must be above 0 with exploration=entropy, whose schedule is a factor on it"
        require(most > 0, f"algo.hyper.{key}", most, allowed)


def _check_target_network(algo: ReplayConfig, algorithm: Algorithm) -> None:
    every, rate = algo.target_every, algo.target_rate
    if algorithm.data.target_network:
        allowed = "give exactly one of algo.target_every and algo.target_rate"
        require((every is None) != (rate is None), "algo.target_every", every, allowed)
    else:
        allowed = f"algo={algo.name} has no target network; use null"
        for key, value in (("target_every", every), ("target_rate", rate)):
            require(value is None, f"algo.{key}", value, allowed)


def single_actions(config: Config, algorithm: Algorithm, environment: Environment) -> Environment:
    """The environment as the algorithm acts in it: who needs a value for each action sees products multiplied out.

    Policies without action values have one distribution for each factor of a product.

    Raises:
        ConfigError: there are too many actions for that.
    """
    factors = environment.factors
    if factors is None or (algorithm.acting.by_policy and Q not in algorithm.roles):
        return environment
    count, (key, _, env) = joint_size(factors), config.env.title().partition("=")
    shown = " × ".join(map(str, factors)) if len(factors) <= 8 else f"{len(factors)} choices"
    able = ", ".join(name for name in algos.names() if _by_factors(algos.load(name)))
    allowed = (
        f"algo={config.algo.name} needs a value for each of the actions, which are {shown} = {count:.4g}, and at most "
        f"{MOST} are multiplied out; use one of {able}"
    )
    require(count <= MOST, key, env, allowed)
    return environment.joint()


def _by_factors(algorithm: Algorithm) -> bool:
    """Whether it learns a policy over discrete actions without action values."""
    return algorithm.acting.by_policy and algorithm.acting.discrete and Q not in algorithm.roles


def check_actions(config: Config, algorithm: Algorithm, environment: Environment) -> None:
    """Raise ConfigError where the algorithm cannot act in the environment's action space."""
    bounds, name = environment.action_bounds, config.algo.name
    key, _, env = config.env.title().partition("=")

    def can(acting: Acting) -> bool:
        return acting.discrete if bounds is None else acting.continuous

    if not can(algorithm.acting):
        needed, found = ("a Box", "Discrete") if bounds is None else ("Discrete", "a Box")
        able = ", ".join(other for other in algos.names() if can(algos.load(other).acting))
        needs = f"algo={name} needs actions that are {needed}, those of this environment are {found}"
        raise ConfigError(f"{key}={env}: {needs}; use one of {able}")
    if bounds is not None and algorithm.acting.squashes:
        allowed = f"algo={name} needs actions between finite bounds, here they are {bounds[0]} and {bounds[1]}"
        require(bool(np.isfinite(bounds).all()), key, env, allowed)
        allowed = f"algo={name} needs observations that are a Box, those of this environment are Discrete"
        require(environment.n_states is None, key, env, allowed)


def _check_hyper(hyper: Mapping[str, float], algorithm: Algorithm, name: str) -> None:
    known = ", ".join(algorithm.hyper) or "none"
    for key, value in hyper.items():
        require(key in algorithm.hyper, f"algo.hyper.{key}", value, f"algo={name} has no such number; it has: {known}")
        low, high = algorithm.hyper[key]
        unread = f"must be {low:g}: the chosen algo.options do not use it"
        allowed = unread if low == high else f"must be in [{low:g}, {high:g}]"
        require(low <= value <= high, f"algo.hyper.{key}", value, allowed)
    for key in algorithm.hyper:
        require(key in hyper, f"algo.hyper.{key}", "missing", f"algo={name} needs it")


def check_options(options: Mapping[str, Any], algorithm: Algorithm, name: str) -> None:
    """Raise ConfigError unless every option of the algorithm has one of its allowed values."""
    known = ", ".join(algorithm.options) or "none"
    for key, value in options.items():
        require(key in algorithm.options, f"algo.options.{key}", value, f"algo={name} has no such option: {known}")
        choices = algorithm.options[key]
        among = f"integers from {choices[0]}" if isinstance(choices, range) else ", ".join(map(str, choices)).lower()
        fits = value in choices and isinstance(value, type(choices[0]))
        require(fits, f"algo.options.{key}", value, f"allowed are {among}")
    for key in algorithm.options:
        require(key in options, f"algo.options.{key}", "missing", f"algo={name} needs it")


def check_returns(config: Config, algorithm: Algorithm, mdp: FiniteMDP | None) -> None:
    """Check that complete returns occur: episodes end, or γ^steps becomes negligible within a rollout."""
    if not algorithm.data.complete_returns or mdp is None or mdp.terminated.any():
        return
    limit = min(config.algo.rollout, config.env.max_episode_steps or config.algo.rollout)
    need = f"{config.env.title()} never ends, so a return is complete once gamma^steps is at most {COMPLETE:g}"
    advice = "use a smaller gamma, a longer algo.rollout and env.max_episode_steps, or a TD method"
    require(config.gamma**limit <= COMPLETE, "gamma", config.gamma, f"{need}; {limit} steps are too few: {advice}")
