"""A trained policy for users: observations in, actions and values out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.algorithm import by_policy
from rlnet.algos.context import PI, Q, V
from rlnet.data.rollout import Observation
from rlnet.envs.spaces import MASK
from rlnet.learning.training_state import TrainingState
from rlnet.policies.distributions import Categorical

Seen = np.ndarray | int | Mapping[str, Any]


class Policy:
    """The learned policy and values of one member of a run.

    Observations are what the environment gives: a state index, or numbers of any shape that are flattened; one of them
    or a batch with an axis in front. `mask` says which discrete actions are available; a finite model knows it itself,
    and a Dict of an observation and an `action_mask` holds it.

    Args:
        state: of the run.
        member: which member, 0 .. M − 1.

    Raises:
        ValueError: there is no such member.
    """

    def __init__(self, state: TrainingState, member: int = 0) -> None:
        members = len(state.steps)
        if not 0 <= member < members:
            raise ValueError(f"member={member}: must be in 0..{members - 1}")
        self._state, self._member, self._members = state, member, members
        self._sample = torch.Generator().manual_seed(state.config.member_seeds[member])

    def __call__(self, obs: Seen, mask: np.ndarray | None = None, *, sample: bool = False) -> np.ndarray:
        """The action for one observation, or one for each of a batch: int64 [...] or float32 [..., D].

        Args:
            obs: as the environment gives it.
            mask: bool [..., A], the available actions; None: all, or those of the finite model.
            sample: draw from the policy that acted while training, exploration included; else its most likely action,
                for action values the greedy one.

        Raises:
            ValueError: an observation or a mask of a wrong shape.
        """
        problem, (seen, single) = self._state.problem, self._seen(obs, mask)
        context, algorithm, params = problem.context, problem.algorithm, self._state.learner.params
        with torch.no_grad():
            if PI in algorithm.roles:  # whoever gathers the data
                numbers = by_policy(context, params, seen, self._state.hyper())
            elif sample or algorithm.acting.by_given:
                numbers = algorithm.acting.act(context, params, seen, self._state.hyper())
            else:
                numbers = context.q(params, seen)
            if sample:
                shape = (*numbers.shape[:-1], *context.actions.shape)
                uniform = torch.rand(shape, dtype=torch.float64, generator=self._sample).to(numbers.device)
                action = context.actions.sample(numbers, uniform)
            elif isinstance(context.actions, Categorical):
                action = numbers.argmax(-1)
            else:  # the median of a normal distribution is its mean
                action = context.actions.sample(numbers, torch.full_like(numbers[..., ::2], 0.5).double())
        chosen = self._own(action, single)
        bounds = problem.environment.action_bounds
        return chosen if bounds is None else chosen.clip(*bounds)

    def value(self, obs: Seen) -> np.ndarray:
        """V(s): float32 [...]. ValueError where the algorithm has no V."""
        if V not in self._state.problem.algorithm.roles:
            raise ValueError(f"algo={self._state.config.algo.name} learns no V; use q(obs)")
        seen, single = self._seen(obs, None)
        with torch.no_grad():
            return self._own(self._state.problem.context.v(self._state.learner.params, seen), single)

    def q(self, obs: Seen, mask: np.ndarray | None = None) -> np.ndarray:
        """Q(s, ·): float32 [..., A], −inf where unavailable. ValueError where no such values are learned."""
        problem = self._state.problem
        if Q not in problem.algorithm.roles or problem.environment.n_actions is None:
            raise ValueError(f"algo={self._state.config.algo.name} learns no Q of discrete actions; use value(obs)")
        seen, single = self._seen(obs, mask)
        with torch.no_grad():
            values = problem.algorithm.action_values(
                problem.context, self._state.learner.params, seen, self._state.hyper()
            )
        return self._own(values, single)

    def _seen(self, obs: Seen, mask: np.ndarray | None) -> tuple[Observation, bool]:
        """The observation as all members see it, [M, B, ...], and whether it is a single one."""
        problem, device = self._state.problem, self._state.gamma.device
        if isinstance(obs, Mapping):
            parts = set(obs) - {MASK}
            if len(parts) != 1 or MASK not in obs:
                raise ValueError(f"obs with the keys {', '.join(map(str, obs))}: must be an observation and {MASK}")
            mask = obs[MASK] if mask is None else mask
            obs = obs[parts.pop()]
        shape, array = problem.environment.observation_shape, np.asarray(obs)
        if shape == ():
            states = problem.environment.n_states or 0
            if array.ndim > 1 or array.dtype.kind not in "iu" or not ((array >= 0) & (array < states)).all():
                raise ValueError(f"obs={obs}: must be a state 0..{states - 1}, or a list of them")
            single, rows = array.ndim == 0, torch.as_tensor(array.reshape(-1).astype(np.int64), device=device)
        else:
            single = array.size == shape[0]
            if array.size % shape[0] or (not single and array.size // shape[0] != len(array)):
                raise ValueError(f"obs of shape {array.shape}: must be {shape[0]} numbers, or a batch of such rows")
            rows = torch.as_tensor(array.reshape(-1, shape[0]).astype(np.float32), device=device)
        allowed = None
        if mask is not None:
            allowed = torch.as_tensor(np.asarray(mask, bool).reshape(len(rows), -1), device=device)
            if allowed.shape[1] != problem.environment.n_actions:
                raise ValueError(f"mask of shape {np.shape(mask)}: must be [..., {problem.environment.n_actions}]")
        elif problem.available is not None:
            allowed = problem.available[rows]
        return Observation(self._all(rows), None if allowed is None else self._all(allowed)), single

    def _all(self, rows: Tensor) -> Tensor:
        return rows.expand(self._members, *rows.shape)

    def _own(self, values: Tensor, single: bool) -> np.ndarray:
        own = values[self._member].cpu().numpy()
        return own[0] if single else own
