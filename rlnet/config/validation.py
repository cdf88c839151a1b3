"""Validation: composed or stored YAML to checked configs. Every range is checked here, once."""

import math
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlnet.config import (
    SCHEDULES,
    AuditConfig,
    CausalLMConfig,
    CnnConfig,
    Config,
    ConfigError,
    ConstantConfig,
    ConstraintConfig,
    EpochsConfig,
    EvaluationConfig,
    MlpConfig,
    ModuleConfig,
    NoisyConfig,
    OptimisticConfig,
    PiecewiseConfig,
    ReplayConfig,
    ScheduleConfig,
    SolveConfig,
    TrainerAuditConfig,
    check_env,
    require,
)
from rlnet.config.job_memory import memory_of
from rlnet.config.keys import check_keys
from rlnet.config.memory import require_memory
from rlnet.config.optional import chosen
from rlnet.config.population import each_setting
from rlnet.config.search_ranges import check_search
from rlnet.mdp.solving import ITERATIVE, METHODS

# What a schedule gives to an exploration: its range, and what it is.
SCHEDULED = {
    "epsilon_greedy": (0.0, 1.0, "ε of exploration=epsilon_greedy"),
    "softmax": (1e-6, float("inf"), "the temperature of exploration=softmax"),
    "count_bonus": (0.0, float("inf"), "c of exploration=count_bonus"),
    "entropy": (0.0, float("inf"), "the factor on algo.hyper.entropy_coefficient"),
}
EVALUATED = ("greedy", "behaviour", "both")


def _check_schedule(schedule: ScheduleConfig, key: str, low: float, high: float, meaning: str) -> None:
    bounds = f"must be in [{low:g}, {high:g}]" if high < float("inf") else f"must be a finite number, at least {low:g}"

    def within(value: float) -> bool:
        return low <= value <= high and math.isfinite(value)

    for item in fields(schedule):
        value = getattr(schedule, item.name)
        if item.name == "fraction":
            require(0 < value <= 1, f"{key}.fraction", value, "must be a share of the run in (0, 1]")
        elif item.name == "decay":
            require(0 < value <= 1, f"{key}.decay", value, "must be a factor in (0, 1]")
        elif item.metadata.get("per_member"):
            require(within(value), f"{key}.{item.name}", value, f"{meaning} {bounds}")
    if schedule.name == "exponential":
        for name in ("start", "end"):
            value = getattr(schedule, name)
            require(value > 0, f"{key}.{name}", value, "an exponential schedule needs numbers above 0")
    if isinstance(schedule, PiecewiseConfig):
        at, values = list(schedule.at), list(schedule.values)
        rising = len(at) > 0 and at == sorted(at) and at[0] >= 0 and at[-1] <= 1
        require(rising, f"{key}.at", at, "must be shares of the run in [0, 1], in rising order")
        require(len(values) == len(at), f"{key}.values", values, f"must be {len(at)} numbers, one for each of {key}.at")
        require(all(map(within, values)), f"{key}.values", values, f"{meaning} {bounds}")


def _check_exploration(config: Config) -> None:
    name, schedule = config.exploration.name, config.schedule
    if isinstance(config.exploration, NoisyConfig):
        sigma = config.exploration.sigma
        require(0 < sigma < float("inf"), "exploration.sigma", sigma, "must be a finite number above 0")
    if isinstance(config.exploration, OptimisticConfig):
        value = config.exploration.initial_value
        require(math.isfinite(value), "exploration.initial_value", value, "must be a finite number")
    if name not in SCHEDULED:
        require(schedule.name == "none", "schedule", schedule.name, f"exploration={name} has nothing to schedule")
        return
    allowed = f"exploration={name} needs a schedule: {', '.join(SCHEDULES.names())}"
    require(schedule.name != "none", "schedule", schedule.name, allowed)
    _check_schedule(schedule, "schedule", *SCHEDULED[name])


def _check_replay(algo: ReplayConfig) -> None:
    for key in ("capacity", "batch", "n_step", "learning_starts", "updates"):
        require(getattr(algo, key) >= 1, f"algo.{key}", getattr(algo, key), "must be at least 1")
    held = algo.capacity - algo.n_step * algo.envs
    allowed = f"must be at most algo.capacity - algo.n_step·algo.envs = {held}"
    require(algo.learning_starts <= held, "algo.learning_starts", algo.learning_starts, allowed)
    every, rate = algo.target_every, algo.target_rate
    require(every is None or every >= 1, "algo.target_every", every, "must be at least 1, or null")
    for key in ("priority", "priority_floor"):
        value = getattr(algo, key)
        require(0 <= value < float("inf"), f"algo.{key}", value, "must be a finite number, at least 0")
    allowed = "must be above 0, so that every transition can be drawn again"
    require(algo.priority == 0 or algo.priority_floor > 0, "algo.priority_floor", algo.priority_floor, allowed)
    _check_schedule(algo.correction, "algo.correction", 0.0, 1.0, "β, how far importance weights correct,")
    require(rate is None or 0 < rate <= 1, "algo.target_rate", rate, "must be in (0, 1], or null")


def _check_evaluation(evaluation: EvaluationConfig) -> None:
    every, policy = evaluation.every, evaluation.policy
    allowed = "must be at least 1, 0 for no evaluation, or null: chosen automatically"
    require(every is None or every >= 0, "evaluation.every", every, allowed)
    for key in ("episodes", "final_episodes"):
        value = getattr(evaluation, key)
        require(value >= 2, f"evaluation.{key}", value, "must be at least 2, or there is no interval")
    require(policy in EVALUATED, "evaluation.policy", policy, f"allowed are {', '.join(EVALUATED)}")
    for key, least in (("selves", 0), ("games", 2), ("endgame", 0)):
        require(
            getattr(evaluation, key) >= least,
            f"evaluation.{key}",
            getattr(evaluation, key),
            f"must be at least {least}",
        )
    require(evaluation.games % 2 == 0, "evaluation.games", evaluation.games, "must be even: half in each seat")
    require(evaluation.max_steps >= 1, "evaluation.max_steps", evaluation.max_steps, "must be at least 1")


def _check_constraint(constraint: ConstraintConfig) -> None:
    limit = constraint.limit
    allowed = "must be a probability in [0, 1), or null for no constraint"
    require(limit is None or 0 <= limit < 1, "constraint.limit", limit, allowed)
    for key, above in (("multiplier", False), ("rate", True)):
        value, allowed = getattr(constraint, key), f"must be a finite number{' above' if above else ', at least'} 0"
        require(0 <= value < float("inf") and not (above and value == 0), f"constraint.{key}", value, allowed)
    require(0 <= constraint.after < 1, "constraint.after", constraint.after, "must be a share of the run in [0, 1)")
    for item in fields(constraint) if limit is None else ():
        value = getattr(constraint, item.name)
        require(value == item.default, f"constraint.{item.name}", value, "needs a constraint.limit, like 0.05")


def _check_train(config: Config) -> None:
    for key in ("steps", "log_every", "compare_every", "checkpoint_every"):
        require(getattr(config, key) >= 1, key, getattr(config, key), "must be at least 1")
    threads = config.threads
    allowed = "must be at least 1, or null: chosen automatically from the workload"
    require(threads is None or threads >= 1, "threads", threads, allowed)
    require(config.processes is None or config.processes >= 1, "processes", config.processes, allowed)
    allowed = "must be a share of the run's time in (0, 1]"
    require(0 < config.compare_share <= 1, "compare_share", config.compare_share, allowed)
    _check_evaluation(config.evaluation)
    _check_constraint(config.constraint)
    chosen(config.logger)
    for key in ("envs", "rollout"):
        require(getattr(config.algo, key) >= 1, f"algo.{key}", getattr(config.algo, key), "must be at least 1")
    if isinstance(config.algo, EpochsConfig):
        require(config.algo.epochs >= 1, "algo.epochs", config.algo.epochs, "must be at least 1")
        rows, parts = config.algo.envs * config.algo.rollout, config.algo.minibatches
        require(1 <= parts <= rows, "algo.minibatches", parts, f"must be in [1, algo.envs·algo.rollout = {rows}]")
    if isinstance(config.algo, ReplayConfig):
        _check_replay(config.algo)
    initial = config.network.initial_value
    require(math.isfinite(initial), "network.initial_value", initial, "must be a finite number")
    if isinstance(config.network, MlpConfig):
        mlp = config.network
        require(all(width >= 1 for width in mlp.hidden), "network.hidden", mlp.hidden, "must be widths of at least 1")
        activations = ("relu", "tanh", "silu")
        allowed = f"allowed are {', '.join(activations)}"
        require(mlp.activation in activations, "network.activation", mlp.activation, allowed)
    if isinstance(config.network, CnnConfig):
        cnn, widths = config.network, config.network.hidden or []
        for key, among in (("body", ("auto", "nature", "small")), ("channels", ("auto", "first", "last"))):
            require(getattr(cnn, key) in among, f"network.{key}", getattr(cnn, key), f"allowed are {', '.join(among)}")
        require(all(width >= 1 for width in widths), "network.hidden", cnn.hidden, "must be widths of at least 1")
    if isinstance(config.network, CausalLMConfig):
        _check_causal_lm(config.network)
    if isinstance(config.network, MlpConfig | ModuleConfig):
        seen, allowed = config.network.input, "allowed are one_hot, features"
        require(seen in ("one_hot", "features"), "network.input", seen, allowed)
    optimizer = config.optimizer
    rate, norm = optimizer.learning_rate, optimizer.max_grad_norm
    require(0 <= rate < float("inf"), "optimizer.learning_rate", rate, "must be a finite number, at least 0")
    require(norm is None or norm > 0, "optimizer.max_grad_norm", norm, "must be above 0, or null for no clipping")
    limit = optimizer.max_kl
    require(limit is None or limit > 0, "optimizer.max_kl", limit, "must be above 0, or null for steps of any length")
    require(optimizer.schedule.name != "none", "optimizer.schedule", "none", f"use {', '.join(SCHEDULES.names())}")
    _check_schedule(optimizer.schedule, "optimizer.schedule", 0.0, float("inf"), "the factor on the learning rate")
    if isinstance(optimizer.schedule, ConstantConfig):
        allowed = "must be 1: it is a factor on optimizer.learning_rate, which is to be set itself"
        require(optimizer.schedule.value == 1, "optimizer.schedule.value", optimizer.schedule.value, allowed)
    _check_exploration(config)


def _check_causal_lm(network: CausalLMConfig) -> None:
    allowed = "allowed are llama, gpt2"
    require(network.architecture in ("llama", "gpt2"), "network.architecture", network.architecture, allowed)
    for key in ("hidden_size", "layers", "heads", "intermediate_size"):
        require(getattr(network, key) >= 1, f"network.{key}", getattr(network, key), "must be at least 1")
    size, heads = network.hidden_size, network.heads
    allowed = f"must be network.heads={heads} times an even number"
    require(size % (2 * heads) == 0, "network.hidden_size", size, allowed)


def _check_solve(config: SolveConfig) -> None:
    require(config.method in METHODS, "method", config.method, f"allowed are {', '.join(METHODS)}")
    require(0 < config.tol < float("inf"), "tol", config.tol, "must be a finite number above 0")
    require(
        0 <= config.temperature < float("inf"), "temperature", config.temperature, "must be a finite number, at least 0"
    )
    require(config.horizon is None or config.horizon >= 0, "horizon", config.horizon, "must be at least 0, or null")
    require(config.device in ("cpu", "cuda"), "device", config.device, "allowed are cpu, cuda")
    if config.horizon is not None or config.temperature > 0:
        special = "temperature" if config.horizon is None else "horizon"
        for key, only in (("method", "auto"), ("device", "cpu")):
            allowed = f"a problem with a {special} is solved by its own method; leave {key}={only}"
            require(getattr(config, key) == only, key, getattr(config, key), allowed)
        require(not config.verify, "verify", config.verify, f"is not available with a {special}")
    if config.device != "cpu":
        swept = ("auto", *ITERATIVE)
        allowed = f"allowed with device={config.device} are {', '.join(swept)}"
        require(config.method in swept, "method", config.method, allowed)


def _check_audit(config: AuditConfig) -> None:
    for key in ("samples", "envs"):
        require(getattr(config, key) >= 1, key, getattr(config, key), "must be at least 1")
    require(0 < config.level < 1, "level", config.level, "must be a probability in (0, 1)")
    require(config.seed >= 0, "seed", config.seed, "must be a non-negative integer")


def check(config: Any) -> Any:
    """Check the ranges of the settings of a job, and return them.

    Raises:
        ConfigError: the first number that is not.
    """
    if isinstance(config, TrainerAuditConfig):
        config.check()
        return config
    if isinstance(config, AuditConfig):
        check_env(config.env)
        require_memory(memory_of(config))
        _check_audit(config)
        return config
    if isinstance(config, Config):
        require(config.seeds >= 1, "seeds", config.seeds, "must be at least 1")
        allowed = "must be a whole number from 0 to 2^63 − seeds"
        require(0 <= config.seed <= 2**63 - config.seeds, "seed", config.seed, allowed)
        require_memory(memory_of(config))
        for one in each_setting(config):
            _check_gamma_and_env(one)
            _check_train(one)
        if config.search is not None:
            check_search(config)
    else:
        _check_gamma_and_env(config)
        require_memory(memory_of(config))
        _check_solve(config)
    return config


def _check_gamma_and_env(config: Config | SolveConfig) -> None:
    require(0 <= config.gamma <= 1, "gamma", config.gamma, "must be in [0, 1]")
    check_env(config.env)


def from_hydra(composed: DictConfig) -> Any:
    """The composed config as checked settings of a job: `Config`, `SolveConfig`, ...

    Raises:
        ConfigError: a value is missing or out of range.
        omegaconf.errors.OmegaConfBaseException: an interpolation does not resolve.
    """
    check_keys(composed)
    missing = sorted(OmegaConf.missing_keys(composed))
    if missing:
        raise ConfigError(f"{missing[0]}: has no value; give one as {missing[0]}=...")
    return check(OmegaConf.to_object(composed))
