"""The board games for libraries of several agents."""

from typing import TYPE_CHECKING, Any

from rlnet.config import ConfigError

if TYPE_CHECKING:
    from rlnet.envs.boards.multiplayer.aec import BoardAEC


def pettingzoo_env(name: str = "tic_tac_toe", render_mode: str | None = None, **options: Any) -> "BoardAEC":
    """A board game as a PettingZoo environment in which agents act in turn (AEC); see `BoardAEC`.

    Args:
        name: tic_tac_toe, connect, or another preset of a board game.
        render_mode: None, "ansi" or "rgb_array".
        options: fields of `BoardConfig`, such as rows=6, columns=7.

    Raises:
        ConfigError: pettingzoo is not installed, or there is no such board game.
    """
    try:
        from rlnet.envs.boards.multiplayer.aec import BoardAEC
    except ImportError as error:
        raise ConfigError(f"pettingzoo: {error}; install it with pip install 'rlnet[pettingzoo]'") from error
    from rlnet.envs.boards.environment import BoardConfig
    from rlnet.envs.presets import preset

    config = preset(name, **options)
    if not isinstance(config, BoardConfig):
        raise ConfigError(f"name={name}: is no board game but a {type(config).__name__}")
    config.check()
    return BoardAEC(config.rules(), render_mode)
