"""What Hydra 1.3 and 1.4 (OmegaConf 2.3 and 2.4) ask for differently."""

from collections.abc import Callable
from typing import Any

import hydra
import omegaconf
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

_OLDER = hydra.__version__.startswith("1.3.")
# Of `hydra.main` and `initialize`: Hydra 1.3 behaves as its version; 1.4 does by itself, and warns of the argument.
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if _OLDER else {}
# Of `hydra.main`: what 1.4 may make of a config, without asking who has written it: callbacks, launchers, loggers.
MAY_MAKE = ["rlnet.*", "hydra.*", "hydra_plugins.*", "logging.*"]
OF_MAIN: dict[str, Any] = VERSION_BASE if _OLDER else {"execution_whitelist": MAY_MAKE}


def store(name: str, node: Any, group: str | None = None) -> None:
    """Register a config with Hydra, in the place of one of that name."""
    replace: dict[str, Any] = {} if _OLDER else {"replace": True}  # which 1.3 always does
    ConfigStore.instance().store(group=group, name=name, node=node, **replace)


def register_resolver(name: str, function: Callable[..., Any]) -> None:
    """Register what computes `${NAME:...}`, in the place of one of that name."""
    older = omegaconf.__version__.startswith("2.3.")  # whose `register_resolver` is something else
    register: Any = OmegaConf.register_new_resolver if older else OmegaConf.register_resolver
    register(name, function, replace=True)
