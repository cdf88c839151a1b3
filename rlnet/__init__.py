"""rlnet: deep reinforcement learning that you can check.

Neural V, Q and π are trained from sampled targets and, wherever the environment has a finite model,
scored against the exact solution of the same problem.

The public names are loaded when they are first used: `import rlnet` alone loads neither torch nor SciPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlnet.commands.api import TrainingResult, load, train
    from rlnet.compare import score
    from rlnet.config import (
        ConfigError,
        EnvConfig,
        RunFailed,
        register_algorithm,
        register_environment,
        register_schedule,
    )
    from rlnet.envs import make, preset
    from rlnet.mdp import FiniteMDP, Solution, evaluate, event_probability, solve
    from rlnet.report.table import read

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "EnvConfig",
    "FiniteMDP",
    "RunFailed",
    "Solution",
    "TrainingResult",
    "evaluate",
    "event_probability",
    "load",
    "make",
    "preset",
    "read",
    "register_algorithm",
    "register_environment",
    "register_schedule",
    "score",
    "solve",
    "train",
]

_HOME = {
    "ConfigError": "rlnet.config",
    "EnvConfig": "rlnet.config",
    "FiniteMDP": "rlnet.mdp",
    "RunFailed": "rlnet.config",
    "Solution": "rlnet.mdp",
    "TrainingResult": "rlnet.commands.api",
    "evaluate": "rlnet.mdp",
    "event_probability": "rlnet.mdp",
    "load": "rlnet.commands.api",
    "make": "rlnet.envs",
    "preset": "rlnet.envs",
    "read": "rlnet.report.table",
    "register_algorithm": "rlnet.config",
    "register_environment": "rlnet.config",
    "register_schedule": "rlnet.config",
    "score": "rlnet.compare",
    "solve": "rlnet.mdp",
    "train": "rlnet.commands.api",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module where it lives."""
    if name not in _HOME:
        raise AttributeError(f"module 'rlnet' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
