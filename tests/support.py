"""What several tests need: composed configs, runs without files, and two small models with everything in them."""

import copy
import functools
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from rlnet.config import VERSION_BASE, Config, register
from rlnet.config.validation import from_hydra
from rlnet.data.rollout import Observation, Rollout
from rlnet.envs.make import from_model
from rlnet.experiment.problem import assemble, build
from rlnet.experiment.run_folder import opened
from rlnet.learning.training_state import TrainingState
from rlnet.learning.updates import learn
from rlnet.mdp import FiniteMDP

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
FULL = os.environ.get("RLNET_FULL") == "1"  # slow tests take all of their cases, not some


EXTRAS = {
    **dict.fromkeys(("lunar_lander", "bipedal_walker"), ("Box2D",)),
    **dict.fromkeys(("half_cheetah", "hopper"), ("mujoco", "imageio")),
    **dict.fromkeys(("pong", "breakout"), ("ale_py", "cv2")),
    "minigrid": ("minigrid",),
    "highway_env": ("highway_env",),
}  # preset → the packages that it needs


def skip_without_extras(preset: str) -> None:
    """Skip a test of a preset whose packages are not installed."""
    for package in EXTRAS.get(preset, ()):
        pytest.importorskip(package)


def quick(values: Iterable[Any], keep: Collection[Any] | int) -> list[Any]:
    """Parameters of a test: those to `keep`, or the first so many, are part of every run, the others of `-m slow`."""
    values = list(values)
    kept = values[:keep] if isinstance(keep, int) else keep
    return [value if value in kept else pytest.param(value, marks=pytest.mark.slow) for value in values]


def quick_rows(rows: Iterable[tuple[Any, ...]], keep: int) -> list[Any]:
    """The same for a test of several parameters, by rows of them."""
    return [row if k < keep else pytest.param(*row, marks=pytest.mark.slow) for k, row in enumerate(rows)]


def share(cases: int) -> int:
    """How many of so many random cases a slow test takes: a fifth, or all of them with RLNET_FULL=1."""
    return cases if FULL else cases // 5


PLAIN = re.compile(r"(?!hydra\.)\w+(\.\w+)*=")  # a number, or a choice


def composed(*overrides: str, name: str = "train") -> Config:
    """The checked config that these overrides give.

    Hydra takes a fifth of a second for each; the choices (`env=`, `algo=`, ...) are composed once, and numbers set in a
    copy as Hydra sets them. Whatever is not plain, or wrong, is left to Hydra; see `test_layers`.
    """
    given = opened(overrides)
    keys = [PLAIN.match(item) and item.partition("=")[0] for item in given]
    choices = [item for item, key in zip(given, keys, strict=True) if key and (CONFIGS / key).is_dir()]
    files = all((CONFIGS / f"{item.replace('=', '/')}.yaml").is_file() for item in choices)
    if all(keys) and files:
        config = _copied(choices, name)
        numbers = [item for item in given if item not in choices]
        try:
            for override in OverridesParser.create().parse_overrides(numbers):
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except (HydraException, OmegaConfBaseException):
            pass  # which Hydra says below
        else:
            return from_hydra(config)
    return from_hydra(by_hydra(*given, name=name))


def _copied(choices: list[str], name: str) -> DictConfig:
    """What Hydra composes of choices: of those that stand for themselves, each alone."""
    alone = [] if any(item.startswith("tuned=") for item in choices) else [c for c in choices if _alone(c, choices)]
    config = copy.deepcopy(_chosen(*[item for item in choices if item not in alone], name=name))
    with open_dict(config):
        for item in alone:
            group = item.partition("=")[0]
            config[group] = copy.deepcopy(_chosen(item, name=name)[group])
    return config


def _alone(choice: str, choices: list[str]) -> bool:
    """Whether a choice sets its own group and nothing else, and no other choice says anything of that group."""
    group = choice.partition("=")[0]
    others = [item for item in choices if item != choice]
    return "override /" not in _file(choice) and not any(
        item.startswith(f"{group}=") or f"/{group}" in _file(item) or f"\n{group}:" in _file(item) for item in others
    )


@functools.cache
def _file(choice: str) -> str:
    return (CONFIGS / f"{choice.replace('=', '/')}.yaml").read_text(encoding="utf-8")


def by_hydra(*overrides: str, name: str = "train") -> DictConfig:
    """What Hydra composes."""
    register()
    with initialize_config_dir(str(CONFIGS), **VERSION_BASE):
        return compose(name, overrides=list(overrides))


_chosen = functools.cache(by_hydra)


def make_run(*overrides: str) -> TrainingState:
    """The state of a run before its first update."""
    torch.set_num_threads(1)
    config = composed(*overrides)
    return TrainingState(config, build(config))


def run_on(mdp: FiniteMDP, *overrides: str, max_steps: int | None = None) -> TrainingState:
    """`make_run` on a model of one's own; features are one-hot."""
    torch.set_num_threads(1)
    config = composed("env=random_walk", *overrides)
    environment = from_model("model", mdp, np.eye(mdp.n_states, dtype=np.float32), max_steps)
    return TrainingState(config, assemble(config, environment))


def finish(run: TrainingState) -> TrainingState:
    """All the steps that are left."""
    while int(run.steps.min()) < run.config.steps:
        update(run)
    return run


def update(run: TrainingState, times: int = 1) -> Rollout:
    """Collect and learn, as the loop of `rlnet.learning.training_loop` does; the last rollout."""
    for _ in range(times):
        rollout = run.collect()
        learn(run, rollout)
    return rollout


def trained(*overrides: str) -> TrainingState:
    """A run after all its steps."""
    return finish(make_run(*overrides))


def random_mdp(seed: int, states: int = 6, actions: int = 3, ends: bool = True, masked: bool = True) -> FiniteMDP:
    """Random transitions, rewards R(s, a, s') and A(s); with `ends`, the last state is terminal."""
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.ones(states) * 0.5, size=(states, actions))
    reward = rng.normal(size=(states, actions, states))
    available = rng.random((states, actions)) < (0.7 if masked else 2.0)
    available[np.arange(states), rng.integers(actions, size=states)] = True
    terminal = np.zeros(states, bool)
    if ends:
        terminal[-1] = True
        available[-1] = False
    start = rng.dirichlet(np.ones(states)) * ~terminal
    return FiniteMDP.from_arrays(transition, reward, terminal=terminal, available=available, start=start / start.sum())


def enumerated(mdp: FiniteMDP, policy: np.ndarray, weights: np.ndarray) -> Rollout:
    """All transitions of a model as a rollout [1, 1, n], weighted by weights(s)·π(a|s)·p: sums are expectations."""
    pair = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))
    state, action = np.asarray(mdp.pair_state)[pair], np.asarray(mdp.pair_action)[pair]
    weight = weights[state] * policy[state, action] * mdp.probability

    def row(x: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(np.array(x), dtype=dtype).view(1, 1, -1)

    flags = torch.zeros(1, 1, len(pair), dtype=torch.bool)
    return Rollout(
        obs=row(state, torch.int64),
        action=row(action, torch.int64),
        reward=row(mdp.reward, torch.float32),
        next_obs=row(mdp.next_state, torch.int64),
        terminated=row(mdp.terminated, torch.bool),
        truncated=flags,
        valid=~flags,
        weight=row(weight, torch.float32),
        start_discount=torch.ones(1, 1, len(pair)),
        **({} if mdp.sign is None else {"sign": row(mdp.sign, torch.float32)}),
        **masks(mdp, state, np.asarray(mdp.next_state)),
    )


def all_states(mdp: FiniteMDP) -> Observation:
    """Every state of a model as observations of one member, [1, S]."""
    states = torch.arange(mdp.n_states).view(1, -1)
    available = torch.as_tensor(mdp.available | mdp.terminal[:, None])
    return Observation(states, None if available.all() else available[None])


def wider(tensor: torch.Tensor, members: int) -> torch.Tensor:
    """The rows of one member for several."""
    return tensor.repeat(1, members, *[1] * (tensor.ndim - 2))


def masks(mdp: FiniteMDP, state: np.ndarray, next_state: np.ndarray) -> dict[str, torch.Tensor]:
    """The masks of rows [1, 1, n] of a rollout; none where every state has every action."""
    available = torch.as_tensor(mdp.available | mdp.terminal[:, None])
    if available.all():
        return {}
    return {
        name: available[torch.as_tensor(np.array(s))][None, None]
        for name, s in (("mask", state), ("next_mask", next_state))
    }


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Runs and pages have one pixel in the place of each picture, which take most of the time of a short run."""
    pixel = np.zeros((1, 1, 3), np.uint8)
    patch.setattr("rlnet.learning.final_files._picture", lambda *_: pixel)
    patch.setattr("rlnet.report.figures.image_array", lambda *_: pixel)
