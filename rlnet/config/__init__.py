"""Settings: typed dataclasses of everything that can be configured, and their validation.

The YAML files of `configs/` are merged into these dataclasses by Hydra, which checks keys and types. The ranges are
checked by `rlnet.config.validation`, which returns objects whose attributes can be set only once.
A number that decides no shape is marked `PER_MEMBER`: it is a tensor [M, 1], one number for each member.
"""

from rlnet.config.environments import (
    EnvConfig,
    check_env,
)
from rlnet.config.hydra_versions import VERSION_BASE
from rlnet.config.jobs import (
    SCHEMAS,
    AuditConfig,
    Config,
    SolveConfig,
    TrainerAuditConfig,
    register,
)
from rlnet.config.plugins import import_named, import_plugins
from rlnet.config.registry import (
    ALGORITHMS,
    ENVIRONMENTS,
    SCHEDULES,
    register_algorithm,
    register_environment,
    register_schedule,
)
from rlnet.config.schemas import (
    AlgoConfig,
    CausalLMConfig,
    CnnConfig,
    ConstantConfig,
    ConstraintConfig,
    EpisodesConfig,
    EpochsConfig,
    EvaluationConfig,
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
    CONFIGS,
    ConfigError,
    RunFailed,
    Settings,
    leaves,
    require,
)

__all__ = [
    "ALGORITHMS",
    "CONFIGS",
    "ENVIRONMENTS",
    "SCHEDULES",
    "SCHEMAS",
    "VERSION_BASE",
    "AlgoConfig",
    "AuditConfig",
    "CausalLMConfig",
    "CnnConfig",
    "Config",
    "ConfigError",
    "ConstantConfig",
    "ConstraintConfig",
    "EnvConfig",
    "EpisodesConfig",
    "EpochsConfig",
    "EvaluationConfig",
    "LinearConfig",
    "MlpConfig",
    "ModuleConfig",
    "NetworkConfig",
    "NoisyConfig",
    "OptimisticConfig",
    "OptimizerConfig",
    "PiecewiseConfig",
    "PredictionConfig",
    "RampConfig",
    "ReplayConfig",
    "RunFailed",
    "ScheduleConfig",
    "Settings",
    "SolveConfig",
    "TabularConfig",
    "TrainerAuditConfig",
    "check_env",
    "import_named",
    "import_plugins",
    "leaves",
    "register",
    "register_algorithm",
    "register_environment",
    "register_schedule",
    "require",
]
