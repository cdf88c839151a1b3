"""Adapter of Gymnasium vector environments, in any autoreset mode, to M members × N environments."""

import logging
import pickle
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

from rlnet.config import RunFailed
from rlnet.envs.actions import Actions
from rlnet.envs.checks import fault_in, reward_fault
from rlnet.envs.encoding import Encoder, encoder_of
from rlnet.envs.ended_processes import close, explained
from rlnet.envs.faults import EnvironmentFault, fault_of, silent
from rlnet.envs.infos import Silent, final_observation, happened
from rlnet.envs.limits import Bounds, check_whole
from rlnet.envs.masks import checked_mask, split, usable
from rlnet.envs.pickling import pickled, unpickled
from rlnet.envs.simulate import Step
from rlnet.envs.spaces import MASK, check_mask_space, observed
from rlnet.numerics.random_streams import derive_seed

_log = logging.getLogger(__name__)


class GymnasiumSimulation:
    """M Gymnasium vector environments of N sub-environments each, one for every member.

    A vector environment may have one random stream for all its sub-environments, so members never share one: member m
    is seeded from seeds[m] alone. The three autoreset modes become:

    - NEXT_STEP: the step after an end is a reset; it has `valid` False and reward 0.
    - SAME_STEP: `next_obs` is `infos["final_obs"]` where an episode ended.
    - DISABLED: ended sub-environments are reset at once, by `reset_mask`.

    Discrete observations are int64 [M, N], counted from 0; Box observations are float32 [M, N, F], flattened; all
    others, and images in bytes, are rows of `rlnet.envs.encoding`. Actions are those of `rlnet.envs.actions`. The
    `action_mask` of a Dict observation says which actions are available; the other entries are the observation.

    An exception of an environment and invalid data (a reward or observation that is not finite or of the wrong shape,
    an index outside of its space, a mask that allows no action) end the run: `RunFailed` names fault, seed and step.
    An observation outside of finite bounds gives one warning.

    Args:
        vectors: M vector environments.
        seeds: the M member seeds.
        masks: whether `infos["action_mask"]` says which actions are available; where it says nothing, all are.
        available: bool [S, A], of a model that says so; then `infos` and observations are not asked.
        name: what messages call the environment; None: its id.

    Raises:
        ValueError: numbers or spaces that do not fit, or an environment that does not say how it resets.
        RunFailed: from stepping, also of whole numbers in observations that float32 cannot hold.
    """

    def __init__(
        self,
        vectors: Sequence[VectorEnv],
        seeds: Sequence[int],
        name: str | None = None,
        *,
        masks: bool = False,
        available: np.ndarray | None = None,
    ) -> None:
        if len(vectors) != len(seeds) or not seeds:
            raise ValueError(f"{len(vectors)} vector environments for {len(seeds)} seeds: one for each is needed")
        first = vectors[0]
        self._taken = Actions(first.single_action_space)
        self.action_bounds = self._taken.bounds
        self._mode = first.metadata.get("autoreset_mode")
        if not isinstance(self._mode, AutoresetMode):
            raise ValueError(f"{first}: metadata['autoreset_mode']={self._mode!r} is no gymnasium.vector.AutoresetMode")
        self.members, self.envs = len(seeds), first.num_envs
        check_mask_space(first.single_observation_space, self._taken)
        self._space: Any
        self._space, self._parts = observed(first.single_observation_space)
        self._encoder = encoder_of(self._space)
        self._vectors, self._seeds = list(vectors), list(seeds)
        self.named = list(seeds)  # what messages call the seeds of the members
        self._name = name or (type(first).__name__ if first.spec is None else first.spec.id)
        # None once a warning has been given.
        self._bounds: Bounds | Encoder | None = self._encoder or Bounds(self._space)
        self._count = 0  # steps of each environment so far
        self._started = False
        self._pending = np.zeros((self.members, self.envs), dtype=bool)  # NEXT_STEP: the next step is a reset
        self._available = available
        self._masked = masks or available is not None or bool(self._parts)
        self.mask: np.ndarray | None = None  # bool [M, N, A], of the observations to act on; None: all actions, always
        self._event: str | None = None  # the key of the infos that tells the event that is watched
        self._errors = np.geterr()  # numpy's error settings, under which the environments run

    def watch(self, event: str) -> None:
        """Have steps tell whether an event happens in them, by the key of their infos that tells it."""
        self._event, self.silent = event, Silent(event, f"env.id={self._name}")

    def reset(self, seeds: Sequence[int] | None = None) -> np.ndarray:
        """Begin a new episode everywhere; with M `seeds` start the members' streams again. Returns obs [M, N, ...]."""
        if seeds is None and not self._started:
            seeds = self._seeds
        numbers: list[int | None] = [None] * self.members
        if seeds is not None:  # 31 bits: some environments hand their seed to libraries that take no more
            numbers = [derive_seed(seed, "environment") % 2**31 for seed in seeds]
        self._started = True
        self._pending[:] = False
        with np.errstate(**self._errors):
            fresh, told = zip(*self._all("reset", self._first, numbers), strict=True)
        obs = self._observation(fresh)
        self.mask = self._masks(obs, told)
        return obs

    def step(self, action: np.ndarray) -> Step:
        """Take `action` everywhere: [M, N] int64, in 0 .. A − 1, or [M, N, D] float32."""
        decode = self._taken.decode
        actions = decode(action) if self._taken.n is not None else [decode(own) for own in action]
        self._count += 1
        with np.errstate(**self._errors):
            seen, events = zip(*self._all("step", self._step, self._all("step", self._begin, actions)), strict=True)
        next_obs, rewards, *flags, obs, next_mask, mask = zip(*seen, strict=True)
        terminated, truncated, valid = (np.stack(x).astype(bool) for x in flags)
        truncated &= ~terminated
        self._pending = (terminated | truncated) & valid
        reward = np.stack(rewards)
        self._refuse(reward_fault(reward))
        final = self._observation(next_obs)
        goes_on = all(one is other for one, other in zip(obs, next_obs, strict=True))
        now = final if goes_on else self._observation(obs)
        self.mask = self._masks(now, mask)
        event = None if self._event is None else np.stack(events) & valid
        shown = final, reward.astype(np.float32), terminated, truncated, valid, now
        return Step(*shown, self._masks(final, next_mask), self.mask, event=event)

    def _masks(self, obs: np.ndarray, told: Sequence[np.ndarray | None]) -> np.ndarray | None:
        """The available actions of observations: those of the model, or those that the environments told."""
        if not self._masked:
            return None
        return np.stack(cast(Sequence[np.ndarray], told)) if self._available is None else self._available[obs]

    def _told(self, mask: Any, infos: dict[str, Any]) -> np.ndarray | None:
        """The mask of a member's observations, or that in their `infos`, as bool [N, A]; None where nobody asks."""
        if not self._masked or self._available is not None:
            return None
        shape = self.envs, cast(int, self._taken.outputs)
        if self._parts:
            return checked_mask(mask, shape)
        given: Any = infos.get(MASK)
        told = np.ones(shape, dtype=bool)
        for n in np.flatnonzero(infos.get(f"_{MASK}", told[:, 0])) if given is not None else ():
            told[n] = checked_mask(given[n], shape[1:])
        return told

    def _all(self, what: str, call: Callable[[int, Any], Any], arguments: Sequence[Any]) -> list[Any]:
        """Results of a call into the environments of all members; `RunFailed` with what the first of them raised."""
        results, failures = list[Any](), list[tuple[RunFailed, Exception]]()
        for m, argument in enumerate(arguments):
            try:
                with silent() if isinstance(self._vectors[m], AsyncVectorEnv) else nullcontext():
                    results.append(call(m, argument))
            except Exception as error:  # noqa: BLE001 (raised below: processes that were asked must first answer)
                failures.append((self._failure(m, str(fault_of(what, explained(self._vectors[m], error)))), error))
        if failures:
            raise failures[0][0] from failures[0][1]
        return results

    def _failure(self, m: int, said: str) -> RunFailed:
        where = f"in step {self._count}" if self._count else "at the first reset"
        return RunFailed(f"env.id={self._name}: {said} ({where} of seed {self.named[m]})")

    def _refuse(self, fault: tuple[int, int, str] | None) -> None:
        """Raise what was found in environment n of member m."""
        if fault is not None:
            raise self._failure(fault[0], fault[2])

    def _first(self, m: int, seed: int | None) -> tuple[np.ndarray, np.ndarray | None]:
        """A member's first observations and masks."""
        obs, mask = self._seen(*self._vectors[m].reset(seed=seed), "reset")
        return obs, usable(mask, False, self._taken.factors)

    def _seen(self, obs: Any, infos: dict[str, Any], what: str) -> tuple[np.ndarray, np.ndarray | None]:
        """What a step or reset of a vector environment gave, as observations [N, ...] and masks [N, A]."""
        obs, mask = split(obs, self._parts, what) if self._parts else (obs, None)
        return self._shaped(obs, what), self._told(mask, infos)

    def _shaped(self, obs: Any, what: str) -> np.ndarray:
        if self._encoder is not None:
            return self._encoder.rows(obs, self.envs, what)
        obs, shape = np.asarray(obs), (self.envs, *self._space.shape)
        if obs.shape != shape:
            raise EnvironmentFault(f"its {what} gave observations of shape {obs.shape}, its space says {shape}")
        return obs

    def _begin(self, m: int, action: Any) -> Callable[[], Any]:
        """What gives a member's step. Where it has processes they begin at once, and those of all members overlap."""
        vector = self._vectors[m]
        if not isinstance(vector, AsyncVectorEnv):
            return partial(vector.step, action)
        vector.step_async(action)
        return vector.step_wait

    def _step(self, m: int, ask: Callable[[], Any]) -> tuple[tuple[np.ndarray | None, ...], np.ndarray | None]:
        """One member's (next_obs, reward, terminated, truncated, valid, obs, next_mask, mask), and its event."""
        said = ask()
        if len(said) != 5:
            form = "(observations, rewards, terminations, truncations, infos)"
            raise EnvironmentFault(f"its step returned a tuple of {len(said)}, it must return {form}")
        obs, reward, terminated, truncated, infos = said
        event = None
        if self._event is not None:
            event = happened(infos, self._event, terminated | truncated, self._mode is AutoresetMode.SAME_STEP)
            if (warning := self.silent.warning(infos, self.envs)) is not None:
                _log.warning(warning)
        return self._transition(m, obs, reward, terminated, truncated, infos), event

    def _transition(
        self, m: int, obs: Any, reward: Any, terminated: np.ndarray, truncated: np.ndarray, infos: dict[str, Any]
    ) -> tuple[np.ndarray | None, ...]:
        """What a member's vector environment said in a step, as transitions."""
        vector, factors = self._vectors[m], self._taken.factors
        obs, mask = self._seen(obs, infos, "step")
        reward, ended = np.asarray(reward, np.float64), terminated | truncated
        if self._mode is AutoresetMode.NEXT_STEP:
            valid, mask = ~self._pending[m], usable(mask, terminated, factors)
            return obs, reward * valid, terminated & valid, truncated & valid, valid, obs, mask, mask
        valid = np.ones_like(ended)
        if not ended.any():
            mask = usable(mask, terminated, factors)
            return obs, reward, terminated, truncated, valid, obs, mask, mask
        if self._mode is AutoresetMode.SAME_STEP:
            final, last = self._final(obs, mask, infos, np.flatnonzero(ended))
        else:
            final, last = np.array(obs), mask  # a copy: the reset may write into the environment's own array
            fresh, now = self._seen(*vector.reset(options={"reset_mask": ended}), "reset")
            obs = np.where(ended.reshape(-1, *[1] * (final.ndim - 1)), fresh, final)
            mask = None if mask is None or now is None else np.where(ended[:, None], now, mask)
        last, mask = usable(last, terminated, factors), usable(mask, False, factors)
        return final, reward, terminated, truncated, valid, obs, last, mask

    def _final(
        self, obs: np.ndarray, mask: np.ndarray | None, infos: dict[str, Any], ended: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The observations and masks with the final ones, from `infos`, of environments `ended` under SAME_STEP."""
        final, last = np.array(obs), self._told(mask, infos.get("final_info") or {})
        for n in ended.tolist():
            seen = final_observation(infos, n)
            if self._parts and last is not None:
                seen, own = split(seen, self._parts, "step")
                last[n] = checked_mask(own, last[n].shape)
            final[n] = seen if self._encoder is None else self._encoder.row(seen, "step")
        kept = np.ones(self.envs, bool)
        kept[ended] = False
        return final, None if mask is None or last is None else np.where(kept[:, None], mask, last)

    def _observation(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        obs = np.stack(parts)
        if self._encoder is None:
            self._refuse(fault_in(self._space, obs))
        if self._bounds is not None and (found := self._bounds.left_by(obs)) is not None:
            self._bounds = None
            _log.warning("%s; training continues, and this warning is not repeated", self._failure(found[0], found[2]))
        if self._encoder is not None:
            return obs
        if isinstance(self._space, spaces.Discrete):
            return obs.astype(np.int64) - int(self._space.start)
        if obs.dtype.kind in "iu" and obs.dtype.itemsize > 2:
            check_whole(obs)
        return obs.reshape(self.members, self.envs, -1).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, exact to the next step: the environments, pickled one by one.

        Where they cannot be pickled, the state has the `reason` instead; `load_state_dict` then refuses it.
        """
        state: dict[str, Any] = {"started": self._started, "count": self._count, "environments": None, "reason": None}
        state["mask"] = None if self.mask is None else torch.from_numpy(self.mask.copy())
        state["pending"] = torch.from_numpy(self._pending.copy())  # a tensor: checkpoints hold no arrays of numpy
        try:
            state["environments"] = [pickled(own) for own in self._vectors]
        except (TypeError, AttributeError, NotImplementedError, pickle.PicklingError) as error:
            state["reason"] = f"{self._vectors[0]} cannot be saved: {error}"
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`. Unpickles: load only what you saved. RuntimeError where nothing could be saved."""
        if state["environments"] is None:
            raise RuntimeError(state["reason"])
        self.close()
        self._vectors = [unpickled(saved) for saved in state["environments"]]
        self._started, self._pending = state["started"], state["pending"].cpu().numpy().copy()
        self.mask = None if state["mask"] is None else state["mask"].cpu().numpy().copy()
        self._count = state["count"]

    def close(self) -> None:
        """Close the environments."""
        self._all("close", lambda _, vector: close(vector), self._vectors)
