"""Vectorised simulation of finite models: M members × N environments in numpy, or in torch on any device.

What both libraries call by the same name is written once; a test holds the two to the same steps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlnet.envs.sampler import Sampler
from rlnet.mdp import FiniteMDP
from rlnet.numerics.random_streams import Array, BlockUniform, Streams, as_array


class Step(NamedTuple):
    """One step of M × N environments. Read-only: some of the arrays are the same at every step."""

    next_obs: Array  # [M, N, ...], the true successor S_{t+1}; at an end the final observation
    reward: Array  # [M, N] float32, R_{t+1}
    terminated: Array  # [M, N] bool, the MDP ended
    truncated: Array  # [M, N] bool, the time limit cut the episode; never where terminated
    valid: Array  # [M, N] bool, False where this was no transition: nothing may be learned from it or counted
    obs: Array  # [M, N, ...], to act on next: of the new episode where one ended
    next_mask: Array | None = None  # bool [M, N, A], the actions available in `next_obs`; None: all, always
    mask: Array | None = None  # the same of `obs`
    sign: Array | None = None  # [M, N] float32, −1 where the other player of a game moves in `next_obs`; None: no game
    event: Array | None = None  # bool [M, N], whether the event that is watched happened; None: none is


class Around:
    """Base of wrappers of a simulation: passes on what they do not change."""

    def __init__(self, simulation: Any) -> None:
        self.simulation = simulation

    def state_dict(self) -> dict[str, Any]:
        """See the wrapped simulation."""
        return self.simulation.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See the wrapped simulation."""
        self.simulation.load_state_dict(state)

    def watch(self, event: str) -> None:
        """See the wrapped simulation."""
        self.simulation.watch(event)

    def close(self) -> None:
        """See the wrapped simulation."""
        self.simulation.close()


class OnDevice(Around):
    """Wrapper of a CPU simulation that exchanges tensors of a device."""

    def __init__(self, simulation: Any, device: torch.device | str) -> None:
        super().__init__(simulation)
        self.device = torch.device(device)

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        """See the wrapped simulation."""
        return torch.from_numpy(self.simulation.reset(seeds)).to(self.device)

    def step(self, action: Tensor) -> Step:
        """See the wrapped simulation."""
        step = self.simulation.step(action.cpu().numpy())
        return Step(*(None if x is None else torch.from_numpy(x).to(self.device) for x in step))

    @property
    def mask(self) -> Tensor | None:
        """See the wrapped simulation."""
        mask = self.simulation.mask
        return None if mask is None else torch.from_numpy(mask).to(self.device)


class TabularSimulation:
    """M × N environments that sample one finite model.

    Member m draws from its own stream, seeded by seeds[m]: it does what it would do alone. An environment whose
    episode ended is in a new one at the next step (`Step.obs`), so every step is a transition.

    Args:
        mdp: the model.
        seeds: the M member seeds.
        envs: N, environments per member.
        max_steps: an episode is truncated after so many steps; None: never.
        device: where everything happens, as tensors; None: as arrays of numpy.

    Raises:
        ValueError: episodes would begin in a terminal state, or a size or limit below 1.
    """

    def __init__(
        self,
        mdp: FiniteMDP,
        seeds: Sequence[int],
        envs: int,
        *,
        max_steps: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        for name, value in (("seeds", len(seeds)), ("envs", envs), ("max_steps", max_steps)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.mdp, self.members, self.envs, self.max_steps = mdp, len(seeds), envs, max_steps
        self.sampler, self._library = Sampler(mdp, device), np if device is None else torch
        streams = Streams(seeds, "environment", "cpu" if device is None else device)
        self._numbers = BlockUniform(streams, (2, envs), library=self._library)
        self.group = 1  # so many environments in a row begin in the same state, where all are reset together
        made: dict[str, Any] = {} if device is None else {"device": device}
        shape, library = (self.members, envs), self._library
        self._none, self._all = library.zeros(shape, dtype=bool, **made), library.ones(shape, dtype=bool, **made)
        self._event: Array | None = None  # bool [K], of the event that is watched
        self.state: Array = None  # [M, N] int64, the observation to act on; None before the first reset
        # [S, A], None where every state has every action. Terminal states, in which nobody acts, mask nothing.
        available = mdp.available | mdp.terminal[:, None]
        self._available = None if available.all() else as_array(torch.as_tensor(available, **made), library)
        self.age = library.zeros(shape, dtype=library.int64, **made)  # [M, N] steps of the running episode
        # One environment steps in numbers of Python, several times faster than arrays of one number.
        self._alone = device is None and shape == (1, 1) and self.sampler.regular
        if self._alone:
            tables = self.sampler.next_state, self.sampler.reward, self.sampler.terminated
            self._tables = [table.reshape(-1, 1, 1) for table in tables]
            self._signs = None if self.sampler.sign is None else self.sampler.sign.reshape(-1, 1, 1)
            for table in self._tables:  # steps show them
                table.flags.writeable = False

    def watch(self, event: str) -> None:
        """Have steps tell whether an event of the model happens in them."""
        self._event = self.sampler.of_outcomes((self.mdp.events or {})[event])

    @property
    def mask(self) -> Array | None:
        """The actions available in the observation to act on, bool [M, N, A]; None: all, always."""
        return None if self._available is None else self._available[self.state]

    def reset(self, seeds: Sequence[int] | None = None, where: Array | None = None) -> Array:
        """Begin a new episode everywhere, or only `where` (bool [M, N]).

        Args:
            seeds: M seeds to start the members' streams from again; None: go on with the streams as they are.
            where: environments to reset; the others go on.

        Returns:
            obs [M, N] int64.
        """
        if seeds is not None:
            self._numbers.reseed(seeds)
        uniform = self._numbers.next()[:, 1]
        if self.group > 1:
            uniform = uniform[:, self._library.arange(self.envs) // self.group * self.group]
        first = self.sampler.first_state(uniform)
        if where is None or self.state is None:
            self.age = self.age * 0
            self.state = first + self.age
        else:
            self.state, self.age = self._library.where(where, first, self.state), self.age * ~where
        return self.state

    def step(self, action: Array, hold: Array | None = None) -> Step:
        """Take `action` [M, N] int64 everywhere.

        Args:
            action: must be in 0 .. A − 1. Where the model has states with fewer actions, this is checked.
            hold: bool [M, N], environments that ignore the action and stay as they are: not a transition (`valid`
                is False), reward 0.

        Raises:
            RuntimeError: before the first `reset`.
            ValueError: an action that is not available, naming member, environment, state and allowed actions.
        """
        if self.state is None:
            raise RuntimeError("step before the first reset")
        if self._alone and hold is None:
            return self._step_alone(action.item())
        state, sampler, where = self.state, self.sampler, self._library.where
        pair = sampler.pair(state, action)
        if not sampler.regular:
            self._check(pair, action, hold)
        uniform = self._numbers.next()
        outcome = sampler.outcome(pair, uniform[:, 0])
        next_state, reward = sampler.next_state.take(outcome), sampler.reward.take(outcome)
        terminated, truncated, valid = sampler.terminated.take(outcome), self._none, self._all
        if hold is not None:
            valid = ~hold
            next_state, reward = where(hold, state, next_state), reward * valid
            terminated = terminated & valid
        ended = terminated
        if self.max_steps is not None:
            age = self.age + 1 if hold is None else self.age + valid
            late = age >= self.max_steps
            truncated = late > terminated  # late and not terminated
            ended = late | terminated
            self.age = where(ended, 0, age)
        self.state = where(ended, sampler.first_state(uniform[:, 1]), next_state)
        sign = None if sampler.sign is None else sampler.sign.take(outcome)
        event = None if self._event is None else self._event.take(outcome) & valid
        step = Step(next_state, reward, terminated, truncated, valid, self.state, sign=sign, event=event)
        return step if self._available is None else step._replace(next_mask=self._available[next_state], mask=self.mask)

    def _step_alone(self, action: int) -> Step:
        """`step` of one environment."""
        sampler, uniform, (successors, rewards, ends) = self.sampler, self._numbers.next(), self._tables
        k = sampler.outcome_of_one(self.state.item(), action, uniform.item(0))
        next_state, terminated, truncated = successors[k], ends[k], self._none
        ended = terminated.item()
        if self.max_steps is not None:
            age = self.age.item() + 1
            if age >= self.max_steps and not ended:
                truncated, ended = self._all, True
            self.age.fill(0 if ended else age)
        self.state = sampler.first_state(uniform[:, 1]).reshape(1, 1) if ended else next_state
        sign = None if self._signs is None else self._signs[k]
        event = None if self._event is None else self._event[k].reshape(1, 1)
        return Step(next_state, rewards[k], terminated, truncated, self._all, self.state, None, None, sign, event)

    def _check(self, pair: Array, action: Array, hold: Array | None) -> None:
        bad = pair < 0 if hold is None else (pair < 0) & ~hold
        if bad.any():
            m, n = self._library.argwhere(bad)[0].tolist()
            state = int(self.state[m, n])
            allowed = np.flatnonzero(self.mdp.available[state]).tolist()
            raise ValueError(
                f"member {m}, environment {n}: action {int(action[m, n])} is not available in state {state}, "
                f"allowed are {allowed}"
            )

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: all that is needed to continue with exactly the same steps."""
        arrays = {"state": torch.as_tensor(self.state + 0), "age": torch.as_tensor(self.age).clone()}
        return {**arrays, "numbers": self._numbers.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self.state, self.age = (as_array(state[name].clone(), self._library) for name in ("state", "age"))
        self._numbers.load_state_dict(state["numbers"])

    def close(self) -> None:
        """Nothing to release (part of the interface)."""
