"""The structured configs: what can be set, and of which type.

The YAML files of `configs/` are merged into these dataclasses by Hydra, which checks keys and types; `rlnet.validate`
checks ranges and hands out objects whose attributes can be set only once. A number that decides no shape is marked
`PER_MEMBER`: it travels as a tensor [M, 1], one number for each member of a population.
"""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from math import prod
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

PER_MEMBER = {"per_member": True}


class ConfigError(ValueError):
    """A setting that cannot be used. The message is one sentence that names the key, the value and what is allowed."""


class RunFailed(RuntimeError):
    """A run that began could not be finished. The message is one sentence that says why and what may help."""


def require(condition: bool, key: str, value: Any, allowed: str) -> None:
    """Raise ConfigError 'key=value: allowed' unless `condition` holds (NaN never does)."""
    if not condition:
        raise ConfigError(f"{key}={value}: {allowed}")


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"a.b": value}."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


class Settings:
    """Base of all config dataclasses: an attribute can be set once, by the constructor.

    `dataclass(frozen=True)` would say the same, but OmegaConf makes such schemas read-only for overrides too.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            raise FrozenInstanceError(f"cannot assign to {name!r}: settings do not change after validation")
        object.__setattr__(self, name, value)


# ---------------------------------------------------------------------------------------------- environments


@dataclass
class CellConfig(Settings):
    """What a letter of a gridworld map means."""

    reward: float | None = None  # on entering the cell, in place of env.step_reward
    wall: bool = False
    start: bool = False  # episodes begin in one of the start cells, each equally likely
    terminal: bool = False  # entering ends the episode
    send_to: str | None = None  # entering moves the agent on, in the same step, to the one cell with this letter
    jump_to: str | None = None  # every action taken here leads to the one cell with this letter
    jump_reward: float = 0.0  # the reward of that jump


@dataclass
class EnvConfig(Settings):
    """Common to all environments."""

    name: str = MISSING
    gamma: float = MISSING  # the discount of the setting in which the problem is usually stated
    max_episode_steps: int | None = None  # a time limit: truncates, never terminates


@dataclass
class GridworldConfig(EnvConfig):
    """A map of characters: '#' wall, '.' free, 'S' start, 'G' goal; `cells` says what further letters mean."""

    map: str = MISSING
    cells: dict[str, CellConfig] = field(default_factory=dict)
    step_reward: float = 0.0  # reward of every step, unless the entered cell has its own
    bump_reward: float | None = None  # reward of a step off the map or into a wall; null: the same as step_reward
    slip: float = 0.0  # probability of moving at a right angle to the chosen direction (half of it to each side)
    wind: list[int] = field(default_factory=list)  # cells that a step from each column is blown upwards
    diagonal: bool = False  # eight moves instead of four


@dataclass
class RandomWalkConfig(EnvConfig):
    """States in a row with an exit at each end; actions left and right, of 1 to `jump` states, equally likely."""

    length: int = 19
    jump: int = 1
    left_reward: float = -1.0
    right_reward: float = 1.0
    groups: int | None = None  # features: neighbours aggregated into so many groups; null: 10, or `length` if less


@dataclass
class MaximisationBiasConfig(EnvConfig):
    """Two states, of which one has many actions with equal, noisy rewards: S&B Example 6.7."""

    actions: int = 10  # of state B
    mean: float = -0.1  # of their rewards
    deviation: float = 1.0


@dataclass
class BairdConfig(EnvConfig):
    """Baird's counterexample, S&B Example 11.1."""


@dataclass
class GymnasiumConfig(EnvConfig):
    """Any registered Gymnasium environment; its finite model is used where it has one."""

    id: str = MISSING
    kwargs: dict[str, Any] = field(default_factory=dict)
    stepping: str = "auto"  # batched: all members at once (CartPole); vector: Gymnasium's own form; sync; async


def check_env(env: EnvConfig) -> None:
    """Raise ConfigError where a number of an environment is out of range."""
    limit = env.max_episode_steps
    require(limit is None or limit >= 1, "env.max_episode_steps", limit, "must be at least 1, or null for no limit")
    if isinstance(env, GridworldConfig):
        require(0 <= env.slip <= 1, "env.slip", env.slip, "must be a probability in [0, 1]")
    if isinstance(env, MaximisationBiasConfig):
        require(env.actions >= 2, "env.actions", env.actions, "must be at least 2")
        require(env.deviation >= 0, "env.deviation", env.deviation, "must be at least 0")
    if isinstance(env, RandomWalkConfig):
        require(env.length >= 1, "env.length", env.length, "must be at least 1")
        require(1 <= env.jump <= env.length, "env.jump", env.jump, f"must be in [1, env.length={env.length}]")
        allowed = f"must be in [1, env.length={env.length}], or null"
        require(env.groups is None or 1 <= env.groups <= env.length, "env.groups", env.groups, allowed)


# ---------------------------------------------------------------------------------------------- learning


@dataclass
class ScheduleConfig(Settings):
    """A number as a function of the share of the run that is done."""

    name: str = MISSING


@dataclass
class ConstantConfig(ScheduleConfig):
    """Always `value`."""

    value: float = field(default=MISSING, metadata=PER_MEMBER)


@dataclass
class RampConfig(ScheduleConfig):
    """From `start` to `end` over the first `fraction` of the run, then `end`: linear, exponential or cosine."""

    start: float = field(default=MISSING, metadata=PER_MEMBER)
    end: float = field(default=MISSING, metadata=PER_MEMBER)
    fraction: float = field(default=1.0, metadata=PER_MEMBER)


@dataclass
class PiecewiseConfig(ScheduleConfig):
    """In straight lines through `values` at the shares `at` of the run."""

    at: list[float] = MISSING
    values: list[float] = MISSING


@dataclass
class EpisodesConfig(ScheduleConfig):
    """start·decay^k after k finished episodes of the member, but at least `end`."""

    start: float = field(default=MISSING, metadata=PER_MEMBER)
    end: float = field(default=MISSING, metadata=PER_MEMBER)
    decay: float = field(default=MISSING, metadata=PER_MEMBER)


@dataclass
class AlgoConfig(Settings):
    """An algorithm of `rlnet/algos/` and the data that one update sees."""

    name: str = MISSING
    envs: int = MISSING  # N, environments per member
    rollout: int = MISSING  # T, steps per update; for whole episodes: the most steps an episode may have
    hyper: dict[str, float] = field(default_factory=dict, metadata=PER_MEMBER)  # the algorithm's own numbers
    options: dict[str, Any] = field(default_factory=dict)  # the algorithm's own choices


@dataclass
class EpochsConfig(AlgoConfig):
    """An algorithm that goes over each rollout several times, in shuffled minibatches."""

    epochs: int = MISSING
    minibatches: int = MISSING


@dataclass
class ReplayConfig(AlgoConfig):
    """An algorithm that learns from a replay of past transitions, with a target network."""

    capacity: int = MISSING  # transitions that each member keeps
    batch: int = MISSING  # B, of them in one update
    n_step: int = 1  # rewards in a target before it bootstraps
    learning_starts: int = MISSING  # transitions of each member before the first update
    updates: int = 1  # optimiser steps after each rollout
    target_every: int | None = None  # optimiser steps between copies to the target network (hard updates)
    target_rate: float | None = field(
        default=None, metadata=PER_MEMBER
    )  # or: its share of the way at each step (Polyak)
    priority: float = 0.0  # rows are drawn in proportion to (|error| + priority_floor)^priority; 0: uniformly
    priority_floor: float = field(default=0.01, metadata=PER_MEMBER)
    correction: ScheduleConfig = MISSING  # β: importance weights are (least probability/probability)^β


@dataclass
class PredictionConfig(AlgoConfig):
    """An algorithm that learns the value of a given policy."""

    policy: Any = "uniform"  # uniform, optimal, a list of action weights, or the path of a values.npz or solution.npz
    behaviour: Any = None  # who acts: the same choices, or a share of uniform actions in the policy; null: the policy


@dataclass
class NetworkConfig(Settings):
    """Common to all function classes."""

    name: str = MISSING
    initial_value: float = 0.0  # added to the first V or Q
    dueling: bool = False  # Q = V + advantage, of an mlp from separate streams


@dataclass
class TabularConfig(NetworkConfig):
    """One free number per state and output: a one-hot input without a hidden layer."""


@dataclass
class LinearConfig(NetworkConfig):
    """Linear in the environment's features; weights start at zero."""

    bias: bool = True
    weights: list[float] | None = None  # the first weights instead, one per feature, for every value


@dataclass
class MlpConfig(NetworkConfig):
    """A multi-layer perceptron."""

    hidden: list[int] = field(default_factory=lambda: [64, 64])
    activation: str = "relu"
    input: str = "one_hot"  # of finite environments: one_hot, or the environment's features


@dataclass
class ModuleConfig(NetworkConfig):
    """Any torch.nn.Module as the body, with a linear layer on top."""

    target: str = MISSING  # its class, as package.Class
    kwargs: dict[str, Any] = field(default_factory=dict)  # what it is constructed with
    shape: list[int] = field(default_factory=list)  # in which it sees one observation; empty: as a vector
    input: str = "one_hot"  # of finite environments: one_hot, or the environment's features


@dataclass
class ExplorationConfig(Settings):
    """How actions are chosen from action values; `none` where the algorithm has a policy of its own."""

    name: str = MISSING


@dataclass
class OptimisticConfig(ExplorationConfig):
    """Greedy, from first action values that are too good to be true."""

    initial_value: float = MISSING


@dataclass
class NoisyConfig(ExplorationConfig):
    """Greedy for parameters with learned noise."""

    sigma: float = MISSING  # of the first noise: its deviation times the root of a layer's inputs


@dataclass
class OptimizerConfig(Settings):
    """Stochastic gradient descent; `schedule` is a factor on the learning rate."""

    name: str = MISSING
    learning_rate: float = field(default=MISSING, metadata=PER_MEMBER)
    max_grad_norm: float | None = field(default=None, metadata=PER_MEMBER)  # each member's own gradient is clipped
    schedule: ScheduleConfig = MISSING


@dataclass
class Config(Settings):
    """Everything that decides a run."""

    env: EnvConfig = MISSING
    algo: AlgoConfig = MISSING
    network: NetworkConfig = MISSING
    exploration: ExplorationConfig = MISSING
    schedule: ScheduleConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    gamma: float = field(default=MISSING, metadata=PER_MEMBER)
    steps: int = MISSING  # environment steps of each member
    seed: int = 0  # of the first member
    seeds: int = 1  # members of each setting, seeded seed, seed + 1, ...
    vary: dict[str, Any] = field(default_factory=dict)  # lists for PER_MEMBER numbers: M = their product × seeds
    device: str = "cpu"
    threads: int = 1  # of torch: one is fastest for small networks
    log_every: int = MISSING  # steps between rows of metrics.csv
    compare_every: int = MISSING  # steps between comparisons with the exact solution
    compare_share: float = 0.1  # of the run's time that comparing may take; beyond, it is done less often; 1: no limit
    checkpoint_every: int = MISSING  # steps between checkpoints
    resume: str | None = None  # the folder of a run to go on with

    @property
    def member_seeds(self) -> list[int]:
        """The M seeds: all of them for the first setting, then for the next; see `rlnet.members`."""
        settings = prod(len(values) for values in leaves(self.vary).values())
        return list(range(self.seed, self.seed + self.seeds)) * settings


@dataclass
class SolveConfig(Settings):
    """Everything that decides an exact solution."""

    env: EnvConfig = MISSING
    gamma: float = MISSING
    method: str = "auto"  # see rlnet.mdp.solving.METHODS
    tol: float = 1e-8  # the largest error of any value
    temperature: float = 0.0  # above 0: the entropy-regularised problem
    horizon: int | None = None  # at most so many steps; null: no limit
    verify: bool = False  # check the residual again, in extended precision
    device: str = "cpu"


@dataclass
class AuditConfig(Settings):
    """Everything that decides an audit of the simulators of an environment."""

    env: EnvConfig = MISSING
    samples: int = MISSING  # steps of each simulator
    envs: int = 64  # environments in a vector
    level: float = 0.01  # the probability of any false alarm
    seed: int = 0


SCHEMAS: dict[str, type] = {
    "train": Config,
    "solve": SolveConfig,
    "audit": AuditConfig,
    "env/gridworld": GridworldConfig,
    "env/random_walk": RandomWalkConfig,
    "env/maximisation_bias": MaximisationBiasConfig,
    "env/baird": BairdConfig,
    "env/gymnasium": GymnasiumConfig,
    "algo/control": AlgoConfig,
    "algo/prediction": PredictionConfig,
    "algo/replay": ReplayConfig,
    "algo/epochs": EpochsConfig,
    "network/tabular": TabularConfig,
    "network/linear": LinearConfig,
    "network/mlp": MlpConfig,
    "network/module": ModuleConfig,
    "exploration/any": ExplorationConfig,
    "exploration/optimistic": OptimisticConfig,
    "exploration/noisy": NoisyConfig,
    "schedule/none": ScheduleConfig,
    "schedule/constant": ConstantConfig,
    "schedule/ramp": RampConfig,
    "schedule/piecewise": PiecewiseConfig,
    "schedule/episodes": EpisodesConfig,
    "optimizer/any": OptimizerConfig,
}


def register() -> None:
    """Make the schemas known to Hydra, as `schema/...`."""
    store = ConfigStore.instance()
    for path, schema in SCHEMAS.items():
        group, _, name = path.rpartition("/")
        store.store(group=f"schema/{group}" if group else "schema", name=name, node=schema)
