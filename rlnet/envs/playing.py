"""Single environments with rendering, for watching a policy in the environment that it was trained in."""

from typing import Any

import gymnasium

from rlnet.config import ConfigError, EnvConfig
from rlnet.envs.base import Environment
from rlnet.envs.faults import REFUSALS, first_line
from rlnet.envs.make import GymnasiumConfig, made_with
from rlnet.envs.single import RENDER_MODES, TabularEnv
from rlnet.envs.tabular.grid_map import read_map
from rlnet.envs.tabular.gridworld import GridworldConfig
from rlnet.envs.wrapping import wrapped


def render_modes(config: EnvConfig, environment: Environment) -> tuple[str, ...]:
    """The render modes that `single` takes for this environment."""
    if isinstance(config, GymnasiumConfig):
        env = single(config, environment, None)
        env.close()
        return tuple(env.metadata.get("render_modes") or ())
    return RENDER_MODES


def single(config: EnvConfig, environment: Environment, render_mode: str | None) -> gymnasium.Env[Any, Any]:
    """One environment for one episode after the other.

    Args:
        config: its settings.
        environment: what was made of them.
        render_mode: one of `render_modes`, or None.

    Raises:
        ConfigError: it cannot be made, or, like a board game or a text, it is not stepped by one agent alone.
    """
    if isinstance(config, GymnasiumConfig):
        try:
            drawn: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}  # some take none
            return wrapped(gymnasium.make(config.id, **(made_with(config) | drawn)), config.wrappers)
        except REFUSALS as error:
            raise ConfigError(f"{config.title()}: cannot be drawn as {render_mode}: {first_line(error)}") from error
    if environment.mdp is None or environment.game:
        raise ConfigError(f"{config.title()}: cannot be watched step by step; rlnet play is for board games")
    letters = read_map(config.map, config.cells).text() if isinstance(config, GridworldConfig) else None
    how: dict[str, Any] = {"max_episode_steps": environment.max_steps, "letters": letters}
    return TabularEnv(environment.mdp, render_mode=render_mode, drawing=environment.drawing, **how)
