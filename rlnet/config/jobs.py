"""The settings of a whole job, and the schemas as Hydra knows them."""

from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import MISSING, OmegaConf

from rlnet.config.environments import EnvConfig, require_name
from rlnet.config.hydra_versions import register_resolver, store
from rlnet.config.registry import ENVIRONMENTS, SCHEDULES
from rlnet.config.schemas import (
    ALGO_SCHEMAS,
    SCHEDULE_SCHEMAS,
    AlgoConfig,
    CausalLMConfig,
    CnnConfig,
    ConstraintConfig,
    EvaluationConfig,
    ExplorationConfig,
    LinearConfig,
    MlpConfig,
    ModuleConfig,
    NetworkConfig,
    NoisyConfig,
    OptimisticConfig,
    OptimizerConfig,
    ScheduleConfig,
    TabularConfig,
)
from rlnet.config.search import SearchConfig
from rlnet.config.settings import PER_MEMBER, Settings, leaves, require


@dataclass
class Config(Settings):
    """Settings of a training run."""

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
    search: SearchConfig | None = None  # for hyperparameters: see `rlnet.learning.hyperparameter_search`
    device: str = "cpu"
    # Threads of torch, at most the number of cores; null: chosen from the workload (rlnet.learning.resources).
    threads: int | None = None
    # Worker processes for the members of a population; null: chosen from the workload (rlnet.learning.resources).
    processes: int | None = None
    # torch.compile of the loss, ten seconds or more at first; whether it pays depends on algorithm and network.
    compile: bool = False
    logger: Any = (
        "tensorboard"  # where numbers go beside metrics.csv: tensorboard, wandb, mlflow, a list of them, or none
    )
    log_every: int = MISSING  # steps between rows of metrics.csv
    compare_every: int = MISSING  # steps between comparisons with the exact solution
    compare_share: float = 0.1  # of the run's time that comparing may take; beyond, it is done less often; 1: no limit
    checkpoint_every: int = MISSING  # steps between checkpoints
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    constraint: ConstraintConfig = field(default_factory=ConstraintConfig)
    resume: str | None = None  # the folder of a run to go on with
    # Whether that folder may have code run: modules that its config names, computed values, pickled environments.
    trust: bool = False
    plugins: list[str] = field(default_factory=list)  # modules that register environments, algorithms or schedules

    @property
    def member_seeds(self) -> list[int]:
        """The M seeds: all of them for the first setting, then for the next; see `rlnet.config.population`."""
        settings = prod(len(values) for values in leaves(self.vary).values())
        return list(range(self.seed, self.seed + self.seeds)) * settings


@dataclass
class SolveConfig(Settings):
    """Settings of an exact solution (`rlnet solve`)."""

    env: EnvConfig = MISSING
    gamma: float = MISSING
    method: str = "auto"  # see rlnet.mdp.solvers.methods.METHODS
    tol: float = 1e-8  # the largest error of any value
    temperature: float = 0.0  # above 0: the entropy-regularised problem
    horizon: int | None = None  # at most so many steps; null: no limit
    verify: bool = False  # check the residual again, in extended precision
    device: str = "cpu"
    plugins: list[str] = field(default_factory=list)  # modules that register environments


@dataclass
class AuditConfig(Settings):
    """Settings of an audit of the simulators of an environment (`rlnet audit`)."""

    env: EnvConfig = MISSING
    samples: int = MISSING  # steps of each simulator
    envs: int = 64  # environments in a vector
    level: float = 0.01  # the probability of any false alarm
    seed: int = 0
    plugins: list[str] = field(default_factory=list)  # modules that register environments


@dataclass
class TrainerAuditConfig(Settings):
    """Settings of an audit of TRL's trainers (`rlnet audit trl=...`)."""

    trl: str = MISSING  # all: a table of them; or GRPOTrainer, RLOOTrainer, DPOTrainer: that one, with `options`
    options: dict[str, Any] = field(default_factory=dict)  # of its config, which change its loss
    group: int = 4  # completions of a prompt that are compared with each other
    beta: float = 0.3  # the weight of the divergence from the reference
    length: int = 2  # the most tokens of a completion, its end included

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(2 <= self.group <= 100, "group", self.group, "must be from 2 to 100")
        require(0 <= self.beta < float("inf"), "beta", self.beta, "must be at least 0")
        require(1 <= self.length <= 8, "length", self.length, "must be from 1 to 8")


SCHEMAS: dict[str, type] = {
    "train": Config,
    "solve": SolveConfig,
    "audit": AuditConfig,
    "trainer_audit": TrainerAuditConfig,
    **ALGO_SCHEMAS,
    "network/tabular": TabularConfig,
    "network/linear": LinearConfig,
    "network/mlp": MlpConfig,
    "network/cnn": CnnConfig,
    "network/module": ModuleConfig,
    "network/causal_lm": CausalLMConfig,
    "evaluation/any": EvaluationConfig,
    "exploration/any": ExplorationConfig,
    "exploration/optimistic": OptimisticConfig,
    "exploration/noisy": NoisyConfig,
    **SCHEDULE_SCHEMAS,
    "optimizer/any": OptimizerConfig,
}


def file_name(key: str, *, _root_: Any) -> str:
    """`${file_name:env.name}`: the value of a setting, as a part of the name of a folder.

    Hydra makes the output folder before any setting is checked.

    Raises:
        ConfigError: it could lead elsewhere.
    """
    return require_name(key, OmegaConf.select(_root_, key, throw_on_missing=True))


def choices(*groups: str) -> str:
    """`${choices:env,algo}`: the names that each group can be, a line for each group, for the text of --help."""
    loader = GlobalHydra.instance().config_loader()
    return "\n".join(f"{group}: {', '.join(loader.get_group_options(group))}" for group in groups)


@cache
def register() -> None:
    """Register the schemas with Hydra as `schema/...`, once; those of environments register when they are imported."""
    ENVIRONMENTS.ours()
    SCHEDULES.ours()
    register_resolver("file_name", file_name)
    register_resolver("choices", choices)
    for path, schema in SCHEMAS.items():
        group, _, name = path.rpartition("/")
        store(name, schema, f"schema/{group}" if group else "schema")
