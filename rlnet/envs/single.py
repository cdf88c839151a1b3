"""Gymnasium environments that step a finite model and carry it as `env.unwrapped.mdp`."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlnet.envs.presets import gridworld_config, random_walk_config
from rlnet.envs.render import Drawing
from rlnet.envs.tabular.grid_map import read_map
from rlnet.envs.tabular.gridworld import build_gridworld
from rlnet.envs.tabular.random_walk import build_random_walk
from rlnet.mdp import FiniteMDP

RENDER_MODES = ("ansi", "rgb_array")


class TabularEnv(gymnasium.Env[int, int]):
    """One environment that samples `mdp`. Observations are state indices; `info["action_mask"]` is int8 [A].

    Args:
        mdp: the model; also `env.unwrapped.mdp`.
        render_mode: None, "ansi" (text) or "rgb_array".
        max_episode_steps: truncate after so many steps, None: never. The TimeLimit of `gymnasium.make` comes on top.
        letters: the drawing as text, rows of one-character strings; None: from the model, with the letters of
            `rlnet.mdp.marks`. The colours of an image are those of its marks in either case.
        drawing: what draws states instead, in a render mode.

    Raises:
        ValueError: an unknown render mode, or episodes that would begin in a terminal state.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # noqa: RUF012 (declared so by Gymnasium)

    def __init__(
        self,
        mdp: FiniteMDP,
        *,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        letters: list[list[str]] | None = None,
        drawing: Callable[[str], Any] | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ValueError(f"render_mode={render_mode!r}: allowed are None, {', '.join(RENDER_MODES)}")
        if (mdp.start[mdp.terminal] > 0).any():
            raise ValueError("start: episodes would begin in a terminal state")
        self.mdp, self.render_mode, self.max_episode_steps = mdp, render_mode, max_episode_steps
        self.observation_space: Any = spaces.Discrete(mdp.n_states)
        self.action_space: Any = spaces.Discrete(mdp.n_actions)
        self._drawing: Any = None
        if render_mode is not None:
            self._drawing = Drawing(mdp, render_mode, letters) if drawing is None else drawing(render_mode)
        self._start = np.cumsum(mdp.start)
        self.state: int | None = None  # None: no episode is running
        self._drawn = 0
        self._age = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode. There are no `options`: ValueError if some are given."""
        if options:
            raise ValueError(f"options={options}: there are none")
        super().reset(seed=seed)
        u = self.np_random.random() * self._start[-1]
        self.state = self._drawn = int(np.searchsorted(self._start, u, side="right"))
        self._age = 0
        return self.state, self._info(self.state)

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Take one action. ValueError for an action that is not available, RuntimeError when no episode is running."""
        mdp = self.mdp
        if self.state is None:
            raise RuntimeError("no episode is running: call reset")
        check_actions(mdp, np.array([self.state]), np.array([action]))
        pair = mdp.pair_index[self.state, int(action)]
        begin, end = mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1]
        cumulative = np.cumsum(mdp.probability[begin:end])
        k = int(begin + np.searchsorted(cumulative, self.np_random.random() * cumulative[-1], side="right"))
        state, terminated = int(mdp.next_state[k]), bool(mdp.terminated[k])
        self._age += 1
        truncated = not terminated and self.max_episode_steps is not None and self._age >= self.max_episode_steps
        self._drawn = state
        self.state = None if terminated or truncated else state
        return state, float(mdp.reward[k]), terminated, truncated, self._info(state)

    def render(self) -> str | np.ndarray | None:
        """The map with the agent, as `render_mode` says; None without one."""
        if self._drawing is None:
            return None
        return self._drawing.draw(self._drawn)

    def _info(self, state: int) -> dict[str, Any]:
        return {"action_mask": self.mdp.available[state].astype(np.int8)}


def check_actions(mdp: FiniteMDP, states: np.ndarray, actions: np.ndarray, ignored: np.ndarray | None = None) -> None:
    """ValueError unless every action [n] is available in its state [n], apart from those `ignored` (bool [n])."""
    if actions.dtype.kind not in "iu":
        raise ValueError(f"action={actions}: must be integers in 0..{mdp.n_actions - 1}")
    inside = (actions >= 0) & (actions < mdp.n_actions)
    good = inside & mdp.available[states, np.where(inside, actions, 0)]
    if ignored is not None:
        good |= ignored
    if not good.all():
        n = int((~good).argmax())
        allowed = np.flatnonzero(mdp.available[states[n]]).tolist()
        raise ValueError(
            f"environment {n}: action {actions[n]} is not available in state {states[n]}, allowed are {allowed}"
        )


class GridworldEnv(TabularEnv):
    """`rlnet/Gridworld-v0`: a preset of `configs/env/`, or a map, with the fields of `GridworldConfig` as options.

    A time limit of the preset belongs to the environment; `gymnasium.make(..., max_episode_steps=...)` can only
    shorten it.
    """

    def __init__(self, preset: str | None = None, render_mode: str | None = None, **options: Any) -> None:
        config = gridworld_config(preset, options)
        mdp, letters = build_gridworld(config), read_map(config.map, config.cells).text()
        limit = config.max_episode_steps
        super().__init__(mdp, render_mode=render_mode, max_episode_steps=limit, letters=letters)


class RandomWalkEnv(TabularEnv):
    """`rlnet/RandomWalk-v0`, with the fields of `RandomWalkConfig` as options."""

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(build_random_walk(random_walk_config(options)), render_mode=render_mode)
