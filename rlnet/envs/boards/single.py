"""Board games as Gymnasium environments whose agent moves for both players: TicTacToe-v0 and Connect-v0."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlnet.config import check_env
from rlnet.envs.boards.drawing import drawn
from rlnet.envs.boards.environment import BoardConfig
from rlnet.envs.boards.simulation import planes
from rlnet.envs.presets import preset
from rlnet.mdp import FiniteMDP

RENDER_MODES = ("ansi", "rgb_array")


class BoardEnv(gymnasium.Env[Any, int]):
    """A game in which the agent moves for both players in turn; a reward is that of the player who moved.

    Where the positions are enumerated the observation is the number of the position, and `mdp` the game as a finite
    model; otherwise it is the board in the view of the player who moves, float32 [2, rows, columns]: its stones, then
    the other's. `info` has the `action_mask`, int8 [A], the `player` who moves, 0 or 1, and the `sign` of a step:
    −1, since the other player moves next, so that a value of the new observation counts negatively for who moved.

    Args:
        config: of the game.
        render_mode: None, "ansi" (text) or "rgb_array".

    Raises:
        ValueError: an unknown render mode.
        ConfigError: a setting that cannot be used.
    """

    game = True  # of two players
    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 1}  # noqa: RUF012 (declared so by Gymnasium)

    def __init__(self, config: BoardConfig, render_mode: str | None = None) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ValueError(f"render_mode={render_mode!r}: allowed are None, {', '.join(RENDER_MODES)}")
        check_env(config)
        made = config.build()
        self.rules, self.render_mode, self.max_episode_steps = config.rules(), render_mode, config.max_episode_steps
        self.mdp: FiniteMDP | None = made.mdp
        if made.mdp is None:
            self.observation_space: Any = spaces.Box(0.0, 1.0, (2, *self.rules.shape), np.float32)
        else:
            self.observation_space = spaces.Discrete(made.mdp.n_states)
        self.action_space: Any = spaces.Discrete(self.rules.n_actions)
        self._cells = self.rules.start()
        self._state, self._moves, self._running = 0, 0, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a game. There are no `options`: ValueError if some are given."""
        if options:
            raise ValueError(f"options={options}: there are none")
        super().reset(seed=seed)
        self._cells, self._state, self._moves, self._running = self.rules.start(), 0, 0, True
        return self._observed(), self._info(False)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move. ValueError for a move that is not legal, RuntimeError when no game is running."""
        if not self._running:
            raise RuntimeError("no episode is running: call reset")
        cells, rewards, ends = self.rules.play(self._cells[None], np.array([action], np.int64))
        if self.mdp is not None:
            self._state = int(self.mdp.next_state[self.mdp.outcome_ptr[self.mdp.pair_index[self._state, action]]])
        self._cells, ended = cells[0], bool(ends[0])
        self._moves += 1
        late = not ended and self.max_episode_steps is not None and self._moves >= self.max_episode_steps
        self._running = not (ended or late)
        return self._observed(), float(rewards[0]), ended, late, self._info(ended) | {"sign": -1}

    def render(self) -> str | np.ndarray | None:
        """The board, as `render_mode` says; None without one."""
        return drawn(self.rules, self._cells, self._moves % 2 == 1, self.render_mode)

    def _observed(self) -> Any:
        return self._state if self.mdp is not None else planes(self._cells).reshape(2, *self.rules.shape)

    def _info(self, ended: bool) -> dict[str, Any]:
        legal = np.zeros(self.rules.n_actions, bool) if ended else self.rules.legal(self._cells[None])[0]
        return {"action_mask": legal.astype(np.int8), "player": self._moves % 2}


class TicTacToeEnv(BoardEnv):
    """`rlnet/TicTacToe-v0`, with fields of `BoardConfig` as options."""

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(_config("tic_tac_toe", options), render_mode)


class ConnectEnv(BoardEnv):
    """`rlnet/Connect-v0`, with fields of `BoardConfig` as options: `rows=6, columns=7` is Connect Four."""

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(_config("connect", options), render_mode)


def _config(name: str, options: dict[str, Any]) -> BoardConfig:
    config = preset(name, **options)
    assert isinstance(config, BoardConfig)
    return config
