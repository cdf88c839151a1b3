"""Gymnasium vector environments that simulate a finite model."""

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlnet.envs.presets import gridworld_config, random_walk_config
from rlnet.envs.render import Drawing
from rlnet.envs.simulate import TabularSimulation
from rlnet.envs.single import RENDER_MODES, check_actions
from rlnet.envs.tabular.grid_map import read_map
from rlnet.envs.tabular.gridworld import build_gridworld
from rlnet.envs.tabular.random_walk import build_random_walk
from rlnet.mdp import FiniteMDP


class TabularVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` environments that sample `mdp`, with one random stream for all of them.

    Observations are int64 [n]; `infos["action_mask"]` is int8 [n, A] (with `_action_mask`, all True).

    Args:
        mdp: the model.
        num_envs: n.
        max_episode_steps: truncate after so many steps; None: never.
        autoreset_mode: NEXT_STEP, SAME_STEP (`infos["final_obs"]`, `infos["final_info"]`) or DISABLED
            (`reset(options={"reset_mask": bool [n]})`), a member or value of `AutoresetMode`.
        render_mode: None, "ansi" or "rgb_array": `render` returns one drawing per environment.
        letters: the drawing as text, rows of one-character strings; None: from the model, with the letters of
            `rlnet.mdp.marks`. The colours of an image are those of its marks in either case.

    Raises:
        ValueError: an unknown mode, a size or limit below 1, or episodes that would begin in a terminal state.
    """

    def __init__(
        self,
        mdp: FiniteMDP,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        letters: list[list[str]] | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ValueError(f"render_mode={render_mode!r}: allowed are None, {', '.join(RENDER_MODES)}")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": list(RENDER_MODES), "render_fps": 4, "autoreset_mode": self.autoreset_mode}
        self.mdp, self.num_envs, self.render_mode = mdp, num_envs, render_mode
        self.single_observation_space = spaces.Discrete(mdp.n_states)
        self.single_action_space = spaces.Discrete(mdp.n_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._drawing = None if render_mode is None else Drawing(mdp, render_mode, letters)
        seed = int(self.np_random.integers(2**31))
        self._simulation = TabularSimulation(mdp, [seed], num_envs, max_steps=max_episode_steps)
        self._obs: np.ndarray | None = None  # [n], as last returned
        self._ended = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode everywhere, or only where `options["reset_mask"]` (bool [n]) says so.

        Raises:
            TypeError: the seed is not one integer.
            ValueError: another option, or a mask that is no bool [n].
        """
        unknown = set(options or ()) - {"reset_mask"}
        if unknown:
            raise ValueError(f"options={options}: allowed is reset_mask")
        if seed is not None and not isinstance(seed, int | np.integer):
            raise TypeError(f"seed={seed}: must be one integer, the environments share a random stream")
        super().reset(seed=seed)
        seeds = None if seed is None else [int(seed)]
        mask = None if options is None else options.get("reset_mask")
        if mask is None or self._obs is None:
            obs = self._simulation.reset(seeds)[0].copy()
            mask = np.ones(self.num_envs, dtype=bool)
        else:
            mask = np.asarray(mask)
            if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
                raise ValueError(f"options['reset_mask']={mask}: must be bool [{self.num_envs}] with a True in it")
            fresh = self._simulation.reset(seeds, where=mask[None])
            obs = np.where(mask, fresh[0], self._obs)
        self._obs, self._ended = obs, self._ended & ~mask
        return obs.copy(), self._infos(obs)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take `actions` int [n].

        Raises:
            ValueError: an action that is not available, naming environment, state and allowed actions.
            RuntimeError: before the first reset, or (DISABLED) where an episode has ended and was not reset.
        """
        if self._obs is None:
            raise RuntimeError("step before the first reset")
        disabled = self.autoreset_mode is AutoresetMode.DISABLED
        if disabled and self._ended.any():
            where = np.flatnonzero(self._ended).tolist()
            raise RuntimeError(f"environments {where} have ended: reset them with options={{'reset_mask': ...}}")
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,):
            raise ValueError(f"actions of shape {actions.shape}: must be ({self.num_envs},)")
        held = self._ended  # NEXT_STEP: the step after an end is the reset, whatever the action
        check_actions(self.mdp, self._obs, actions, held)
        taken = np.where(held, 0, actions).astype(np.int64)[None]
        step = self._simulation.step(taken, held[None] if held.any() else None)
        final, obs = step.next_obs[0], step.obs[0]
        reward = step.reward[0].astype(np.float64)
        terminated, truncated = step.terminated[0].copy(), step.truncated[0].copy()
        ended = terminated | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            self._obs = obs.copy()
            infos = self._infos(self._obs)
            if ended.any():
                infos |= self._final(final, ended)
        else:
            self._obs, self._ended = final.copy(), ended
            infos = self._infos(self._obs)
        return self._obs.copy(), reward, terminated, truncated, infos

    def _infos(self, obs: np.ndarray) -> dict[str, Any]:
        mask = self.mdp.available[obs].astype(np.int8)
        return {"action_mask": mask, "_action_mask": np.ones(self.num_envs, dtype=bool)}

    def _final(self, final: np.ndarray, ended: np.ndarray) -> dict[str, Any]:
        """What SAME_STEP says about the episodes that ended: entries of others are None or zero."""
        observations = np.full(self.num_envs, None, dtype=object)
        observations[ended] = final[ended]
        masks = self.mdp.available[final].astype(np.int8) * ended[:, None]
        return {
            "final_obs": observations,
            "_final_obs": ended.copy(),
            "final_info": {"action_mask": masks, "_action_mask": ended.copy()},
            "_final_info": ended.copy(),
        }

    def render(self) -> tuple[str | np.ndarray, ...] | None:
        """One drawing per environment, as `render_mode` says; None without one."""
        if self._drawing is None or self._obs is None:
            return None
        return tuple(self._drawing.draw(state) for state in self._obs)


def gridworld_vector(
    num_envs: int = 1,
    preset: str | None = None,
    *,
    max_episode_steps: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **options: Any,
) -> TabularVectorEnv:
    """The vector form of `rlnet/Gridworld-v0`. Of `max_episode_steps` and a preset's limit the shorter one holds."""
    config = gridworld_config(preset, options)
    limits = [limit for limit in (max_episode_steps, config.max_episode_steps) if limit is not None]
    return TabularVectorEnv(
        build_gridworld(config),
        num_envs,
        max_episode_steps=min(limits, default=None),
        autoreset_mode=autoreset_mode,
        render_mode=render_mode,
        letters=read_map(config.map, config.cells).text(),
    )


def random_walk_vector(
    num_envs: int = 1,
    *,
    max_episode_steps: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **options: Any,
) -> TabularVectorEnv:
    """The vector form of `rlnet/RandomWalk-v0`."""
    return TabularVectorEnv(
        build_random_walk(random_walk_config(options)),
        num_envs,
        max_episode_steps=max_episode_steps,
        autoreset_mode=autoreset_mode,
        render_mode=render_mode,
    )
