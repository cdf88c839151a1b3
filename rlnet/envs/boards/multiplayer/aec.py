"""A PettingZoo environment of a board game (AEC: agents act in turn). Needs the extra `pettingzoo`."""

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo.utils.env import AECEnv

from rlnet.envs.boards.drawing import drawn
from rlnet.envs.boards.rules import Rules
from rlnet.envs.boards.simulation import planes

AGENTS = ["player_0", "player_1"]
RENDER_MODES = ["ansi", "rgb_array"]


class BoardAEC(AECEnv):
    """A game of two agents, `player_0` and `player_1`, who move in turn: +1 for a win, −1 for a loss, 0 for a draw.

    Observations are dicts of an `observation`, int8 [2, rows, columns] (the agent's own stones, then the other's), and
    an `action_mask`, int8 [A], without a 1 for the agent that is not to move.

    Args:
        rules: of the game.
        render_mode: None, "ansi" or "rgb_array".

    Raises:
        ValueError: an unknown render mode; from `step`, a move that is not legal.
    """

    def __init__(self, rules: Rules, render_mode: str | None = None) -> None:
        super().__init__()
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ValueError(f"render_mode={render_mode!r}: allowed are None, {', '.join(RENDER_MODES)}")
        self.rules, self.render_mode = rules, render_mode
        self.metadata = {"render_modes": RENDER_MODES, "name": rules.name, "is_parallelizable": False, "render_fps": 1}
        self.possible_agents = list(AGENTS)
        board = spaces.Box(0, 1, (2, *rules.shape), np.int8)
        mask = spaces.Box(0, 1, (rules.n_actions,), np.int8)
        self.observation_spaces = {agent: spaces.Dict({"observation": board, "action_mask": mask}) for agent in AGENTS}
        self.action_spaces = {agent: spaces.Discrete(rules.n_actions) for agent in AGENTS}

    def observation_space(self, agent: str) -> spaces.Space:
        """The space of an agent's observations."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """The space of an agent's actions."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin a game; nothing is drawn at random."""
        self.agents = list(AGENTS)
        self.agent_selection = AGENTS[0]
        self.rewards, self._cumulative_rewards = dict.fromkeys(AGENTS, 0.0), dict.fromkeys(AGENTS, 0.0)
        self.terminations, self.truncations = dict.fromkeys(AGENTS, False), dict.fromkeys(AGENTS, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in AGENTS}
        self._cells, self._moves = self.rules.start(), 0

    def observe(self, agent: str) -> dict[str, np.ndarray]:
        """The board in an agent's view, and its legal actions."""
        mover = AGENTS[self._moves % 2] == agent
        seen = planes(self._cells if mover else -self._cells).reshape(2, *self.rules.shape).astype(np.int8)
        legal = np.zeros(self.rules.n_actions, np.int8)
        if mover and not self.terminations[agent]:
            legal[:] = self.rules.legal(self._cells[None])[0]
        return {"observation": seen, "action_mask": legal}

    def step(self, action: int | None) -> None:
        """Move for the selected agent; None for one whose game is over."""
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        assert action is not None
        cells, rewards, ends = self.rules.play(self._cells[None], np.array([action], np.int64))
        other = AGENTS[1 - AGENTS.index(agent)]
        self._cells, self._moves = cells[0], self._moves + 1
        self._cumulative_rewards[agent] = 0.0
        self.rewards = {agent: float(rewards[0]), other: -float(rewards[0])}
        self.terminations = dict.fromkeys(AGENTS, bool(ends[0]))
        self.agent_selection = other
        self._accumulate_rewards()

    def render(self) -> str | np.ndarray | None:
        """The board, as `render_mode` says; None without one."""
        return drawn(self.rules, self._cells, self._moves % 2 == 1, self.render_mode)

    def close(self) -> None:
        """Nothing to release (part of the interface)."""
