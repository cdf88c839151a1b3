"""The settings of algorithms, networks, exploration, optimisers and schedules."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from rlnet.config.settings import PER_MEMBER, Settings


@dataclass
class ScheduleConfig(Settings):
    """Base settings of a schedule: a number as a function of the share of the run that is done."""

    name: str = MISSING


@dataclass
class ConstantConfig(ScheduleConfig):
    """Constant schedule: always `value`."""

    value: float = field(default=MISSING, metadata=PER_MEMBER)


@dataclass
class RampConfig(ScheduleConfig):
    """Linear, exponential or cosine decay from `start` to `end` over the first `fraction` of the run, then `end`."""

    start: float = field(default=MISSING, metadata=PER_MEMBER)
    end: float = field(default=MISSING, metadata=PER_MEMBER)
    fraction: float = field(default=1.0, metadata=PER_MEMBER)


@dataclass
class PiecewiseConfig(ScheduleConfig):
    """Piecewise linear schedule through `values` at the shares `at` of the run."""

    at: list[float] = MISSING
    values: list[float] = MISSING


@dataclass
class EpisodesConfig(ScheduleConfig):
    """Decay by episodes: start·decay^k after k finished episodes of the member, but at least `end`."""

    start: float = field(default=MISSING, metadata=PER_MEMBER)
    end: float = field(default=MISSING, metadata=PER_MEMBER)
    decay: float = field(default=MISSING, metadata=PER_MEMBER)


SCHEDULE_SCHEMAS: dict[str, type[ScheduleConfig]] = {
    "schedule/none": ScheduleConfig,
    "schedule/constant": ConstantConfig,
    "schedule/ramp": RampConfig,
    "schedule/piecewise": PiecewiseConfig,
    "schedule/episodes": EpisodesConfig,
}


@dataclass
class AlgoConfig(Settings):
    """Settings of an algorithm of `rlnet/algos/` and of the data of one update."""

    name: str = MISSING
    envs: int = MISSING  # N, environments per member
    rollout: int = MISSING  # T, steps per update; for whole episodes: the most steps an episode may have
    hyper: dict[str, float] = field(default_factory=dict, metadata=PER_MEMBER)  # the algorithm's own numbers
    options: dict[str, Any] = field(default_factory=dict)  # the algorithm's own choices


@dataclass
class EpochsConfig(AlgoConfig):
    """Settings of an algorithm with several epochs of shuffled minibatches per rollout."""

    epochs: int = MISSING
    minibatches: int = MISSING


@dataclass
class ReplayConfig(AlgoConfig):
    """Settings of an algorithm with a replay buffer and a target network."""

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
    """Settings of a prediction algorithm, which learns the value of a given policy."""

    policy: Any = "uniform"  # uniform, optimal, a list of action weights, or the path of a values.npz or solution.npz
    behaviour: Any = None  # who acts: the same choices, or a share of uniform actions in the policy; null: the policy


ALGO_SCHEMAS: dict[str, type[AlgoConfig]] = {
    "algo/control": AlgoConfig,
    "algo/prediction": PredictionConfig,
    "algo/replay": ReplayConfig,
    "algo/epochs": EpochsConfig,
}


@dataclass
class NetworkConfig(Settings):
    """Base settings of a network (function class)."""

    name: str = MISSING
    initial_value: float = 0.0  # added to the first V or Q
    dueling: bool = False  # Q = V + advantage, of an mlp from separate streams
    normalize_observations: bool = False  # numbers are seen as (x − mean)/deviation, of all that was gathered
    normalize_returns: bool = False  # V and Q are learned in units of the deviation of returns


@dataclass
class TabularConfig(NetworkConfig):
    """Tabular values: one free number per state and output."""


@dataclass
class LinearConfig(NetworkConfig):
    """Linear function of the environment's features; weights start at zero."""

    bias: bool = True
    weights: list[float] | None = None  # the first weights instead, one per feature, for every value


@dataclass
class MlpConfig(NetworkConfig):
    """A multi-layer perceptron."""

    hidden: list[int] = field(default_factory=lambda: [64, 64])
    activation: str = "relu"
    input: str = "one_hot"  # of finite environments: one_hot, or the environment's features


@dataclass
class CnnConfig(NetworkConfig):
    """A convolutional network: every image of an observation through convolutions, then hidden layers with the rest."""

    body: str = "auto"  # nature: Mnih et al. 2015; small: two 3×3 layers; auto: nature from 36×36 pixels on
    hidden: list[int] | None = None  # widths behind the convolutions; null: [512] for nature, [128] for small
    channels: str = "auto"  # where the axis of channels stands in an image: first, last


@dataclass
class ModuleConfig(NetworkConfig):
    """Network with any torch.nn.Module as its body and a linear layer on top."""

    target: str = MISSING  # its class, as package.Class
    kwargs: dict[str, Any] = field(default_factory=dict)  # what it is constructed with
    shape: list[int] = field(default_factory=list)  # in which it sees one observation; empty: as a vector
    input: str = "one_hot"  # of finite environments: one_hot, or the environment's features


@dataclass
class CausalLMConfig(NetworkConfig):
    """A decoder of the transformers library over the tokens of an environment of texts, with a linear layer on top."""

    architecture: str = "llama"  # or gpt2
    hidden_size: int = 64
    layers: int = 2
    heads: int = 4
    intermediate_size: int = 128


@dataclass
class EvaluationConfig(Settings):
    """Evaluation in a separate environment, with random numbers of its own; it changes nothing of the training."""

    # Steps between evaluations; 0: none, at the end neither; null: none with a finite model, which has exact scores,
    # and a tenth of the run without.
    every: int | None = None
    episodes: int = 10  # of each member and each policy
    final_episodes: int = 50  # at the end
    # greedy: the best action; behaviour: as it acts in training, exploration included; both: on the way, where the
    # returns of training tell about the other, the greedy one, and both at the end.
    policy: str = "both"
    max_steps: int = 1_000  # after so many an episode is cut where the environment has no time limit of its own
    # Of board games without a model, at the end:
    selves: int = 4  # earlier selves, evenly spaced over the run, that are played against; 0: none
    games: int = 40  # of each two of them, half in each seat
    endgame: int = 10  # empty cells from which on positions are solved exactly, beside which it is set; 0: none


@dataclass
class ConstraintConfig(Settings):
    """A chance constraint: an event happens with a probability of at most `limit` in an episode."""

    limit: float | None = field(default=None, metadata=PER_MEMBER)  # null: no constraint
    event: str | None = None  # of those that the environment names; null: the only one
    multiplier: float = field(default=0.0, metadata=PER_MEMBER)  # λ at the beginning, what an event costs
    rate: float = field(default=0.1, metadata=PER_MEMBER)  # by which an episode changes it: rate·(1[event] − limit)
    after: float = 0.0  # the share of the run in which λ stays as it is: until exploration has fallen


@dataclass
class ExplorationConfig(Settings):
    """Exploration: how actions are chosen from action values; `none` where the algorithm has a policy of its own."""

    name: str = MISSING


@dataclass
class OptimisticConfig(ExplorationConfig):
    """Optimistic initial values: greedy, with first action values that are too high."""

    initial_value: float = MISSING


@dataclass
class NoisyConfig(ExplorationConfig):
    """Noisy networks: greedy for parameters with learned noise."""

    sigma: float = MISSING  # of the first noise: its deviation times the root of a layer's inputs


@dataclass
class OptimizerConfig(Settings):
    """Settings of the optimiser; `schedule` is a factor on the learning rate."""

    name: str = MISSING
    learning_rate: float = field(default=MISSING, metadata=PER_MEMBER)
    max_grad_norm: float | None = field(default=None, metadata=PER_MEMBER)  # each member's own gradient is clipped
    # A step that changes a policy over real actions by more, as a KL divergence averaged over the batch, is shortened.
    max_kl: float | None = None
    schedule: ScheduleConfig = MISSING
