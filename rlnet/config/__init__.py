"""The structured configs: what can be set, and of which type.

The YAML files of `configs/` are merged into these dataclasses by Hydra, which checks keys and types; `rlnet.config.validation`
checks ranges and hands out objects whose attributes can be set only once. A number that decides no shape is marked
`PER_MEMBER`: it travels as a tensor [M, 1], one number for each member of a population.
"""

from rlnet.config.environments import (
    BairdConfig,
    CellConfig,
    EnvConfig,
    GridworldConfig,
    GymnasiumConfig,
    MaximisationBiasConfig,
    RandomWalkConfig,
    check_env,
)
from rlnet.config.jobs import (
    SCHEMAS,
    AuditConfig,
    Config,
    SolveConfig,
    register,
)
from rlnet.config.learning import (
    AlgoConfig,
    ConstantConfig,
    EpisodesConfig,
    EpochsConfig,
    LinearConfig,
    MlpConfig,
    ModuleConfig,
    NetworkConfig,
    NoisyConfig,
    OptimisticConfig,
    OptimizerConfig,
    PiecewiseConfig,
    PredictionConfig,
    RampConfig,
    ReplayConfig,
    ScheduleConfig,
    TabularConfig,
)
from rlnet.config.settings import (
    ConfigError,
    RunFailed,
    Settings,
    leaves,
    require,
)

__all__ = [
    "SCHEMAS",
    "AlgoConfig",
    "AuditConfig",
    "BairdConfig",
    "CellConfig",
    "Config",
    "ConfigError",
    "ConstantConfig",
    "EnvConfig",
    "EpisodesConfig",
    "EpochsConfig",
    "GridworldConfig",
    "GymnasiumConfig",
    "LinearConfig",
    "MaximisationBiasConfig",
    "MlpConfig",
    "ModuleConfig",
    "NetworkConfig",
    "NoisyConfig",
    "OptimisticConfig",
    "OptimizerConfig",
    "PiecewiseConfig",
    "PredictionConfig",
    "RampConfig",
    "RandomWalkConfig",
    "ReplayConfig",
    "RunFailed",
    "ScheduleConfig",
    "Settings",
    "SolveConfig",
    "TabularConfig",
    "check_env",
    "leaves",
    "register",
    "require",
]
