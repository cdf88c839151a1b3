"""Loading the trained networks of a run folder, without its environments, replay buffer and exact solution."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlnet.config import Config, ConfigError
from rlnet.config.files import check_folder, regular
from rlnet.config.population import column, columns
from rlnet.config.stored import from_stored
from rlnet.experiment.checkpoints import NEWEST, DamagedError, checkpoints, misfit, read_checkpoint
from rlnet.experiment.problem import Problem, build
from rlnet.experiment.run_folder import STORED
from rlnet.learning.learner import Learner
from rlnet.learning.scheduled import Schedules
from rlnet.learning.trained import Trained
from rlnet.policies.exploration import COUNTING

_log = logging.getLogger(__name__)
# Exceptions of reading a malformed checkpoint.
MALFORMED = (RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError)


def load_trained(folder: Path, trust: bool = False, device: str = "cpu") -> Trained:
    """Load the trained networks from the newest intact checkpoint of a run. Nothing is unpickled.

    Args:
        folder: of the run.
        trust: whether its config may have code run: see `rlnet.config.trust`.
        device: where the parameters go, whatever device trained them.

    Raises:
        ConfigError: the folder is not that of a training run, holds no checkpoint that can be used, or needs to be
            trusted.
    """
    check_run(folder)
    check_folder(folder)
    config = replace(from_stored(folder / STORED / "config.yaml", trust), device=device)
    if not checkpoints(folder):
        raise ConfigError(f"{folder}: holds no {NEWEST}; the run was stopped before it had learned anything")
    problem, said = build(config, exact=False, folder=folder), []
    for path in checkpoints(folder):
        try:
            found = _trained(config, problem, read_checkpoint(regular(path), device), path)
        except DamagedError as error:
            said.append(str(error))
        except MALFORMED as error:
            said.append(f"{path}: cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})")
        else:
            if said:
                _log.warning("%s; using %s", "; ".join(said), path.name)
            return found
    raise ConfigError("; ".join(said))


def check_run(folder: Path) -> None:
    """Raise ConfigError unless a folder is that of a training run; the message says what it is instead."""
    if (folder / STORED / "config.yaml").is_file() and (folder / "metrics.csv").is_file():
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder")
    runs = sorted(path.parent.name for path in folder.glob("*/metrics.csv"))
    if runs:
        few = ", ".join(runs[:5]) + (", ..." if len(runs) > 5 else "")
        raise ConfigError(f"{folder}: is a sweep of {len(runs)} runs ({few}); name one of them")
    for name, command in (("solution.npz", "rlnet solve"), ("audit.json", "rlnet audit")):
        if (folder / name).exists():
            raise ConfigError(f"{folder}: holds what {command} wrote; name the folder of a training run")
    raise ConfigError(f"{folder}: is not the folder of a training run; it holds no {STORED}/config.yaml or metrics.csv")


def _trained(config: Config, problem: Problem, stored: Mapping[str, Any], path: Path) -> Trained:
    """The trained networks of the checkpoint at a path.

    Raises:
        DamagedError: it does not fit the config.
    """
    seeds, device, algo = config.member_seeds, config.device, columns(config, "algo", config.device)
    optimizer = columns(config, "optimizer", device)
    learner = Learner(problem.algorithm, problem.context, optimizer, seeds, device, config.algo.envs)
    parts = {"theta": learner.theta, "alive": learner.alive}
    steps, episodes = stored["steps"], stored["collector"]["episode_count"]
    counts = torch.zeros(len(seeds), dtype=torch.int64)
    wrong = misfit(parts, {name: stored["learner"][name] for name in parts}, "learner")
    wrong = wrong or misfit([counts, counts], [steps.cpu(), episodes.cpu()], "its counters")
    if wrong is not None:
        raise DamagedError(f"{path}: does not fit the settings of its run: {wrong}")
    schedules, gamma = Schedules(config), column(config, "gamma", device)
    schedules.update(steps.cpu().numpy(), episodes.cpu().numpy())
    explore = torch.zeros_like(gamma) if schedules.explore is None else schedules.explore.value
    hyper: dict[str, Tensor] = {"gamma": gamma, "explore": explore, **algo.hyper}
    if config.exploration.name in COUNTING:
        hyper["visits"] = stored["visits"]
    return Trained(config, problem, learner.layout, stored["learner"]["theta"], hyper)
