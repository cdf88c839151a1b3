"""A trained policy for users: observations in, actions and values out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet.data.rollout import Observation
from rlnet.envs.faults import EnvironmentFault, shown
from rlnet.envs.spaces import MASK
from rlnet.learning.trained import Trained

Seen = np.ndarray | int | Mapping[str, Any]


class Policy:
    """The learned policy and values of one member of a run, as returned by `rlnet.load` and `rlnet.train`.

    Observations are those of the environment: a state index, numbers of any shape, which are flattened, or a nested
    dict or tuple of its space; one of them, or a batch with an axis in front (of every part). `mask` says which of the
    discrete actions are available; finite models and observations with an `action_mask` need no `mask`.

    Args:
        trained: of all members of the run.
        member: which member, 0 .. M − 1.

    Raises:
        ValueError: there is no such member.
    """

    def __init__(self, trained: Trained, member: int = 0) -> None:
        self._all, self._own, self._number = trained, trained.of(member), member
        self._sample = torch.Generator()
        self.reseed(trained.config.member_seeds[member])

    def __repr__(self) -> str:
        config = self._all.config
        seed = config.member_seeds[self._number]
        return f"Policy({config.algo.name} on {config.env.label}, member {self._number}, seed {seed})"

    @property
    def trained(self) -> Trained:
        """The networks of the member, as functions of tensors [1, N, ...]."""
        return self._own

    def member(self, number: int) -> "Policy":
        """The policy of another member of the same run."""
        return Policy(self._all, number)

    def reseed(self, seed: int) -> None:
        """Seed the random numbers of `sample=True`; the initial seed is that of the member."""
        self._sample.manual_seed(seed)

    def __call__(self, obs: Seen, mask: np.ndarray | None = None, *, sample: bool = False) -> np.ndarray:
        """The action for one observation, or one for each of a batch: int64 [...] or float32 [..., D].

        Args:
            obs: observation of the environment, or a batch.
            mask: bool [..., A], the available actions; None: all, or those of the finite model.
            sample: draw from the policy that acted while training, exploration included (noisy networks act by their
                means); else its most likely action, for action values the greedy one.

        Raises:
            ValueError: an observation or a mask of a wrong shape.
        """
        seen, single = self._seen(obs, mask)
        if sample:
            numbers, actions = self._own.acting(seen), self._own.context.actions
            shape = (*numbers.shape[:-1], *actions.shape)
            uniform = torch.rand(shape, dtype=torch.float64, generator=self._sample).to(numbers.device)
            action = actions.sample(numbers, uniform)
        else:
            action = self._own.best(seen)
        chosen, bounds = _array(action, single), self._own.problem.environment.action_bounds
        return chosen if bounds is None else chosen.clip(*bounds)

    def value(self, obs: Seen, mask: np.ndarray | None = None) -> np.ndarray:
        """The predicted value of the judged policy: float32 [...].

        V(s) where the algorithm learns it. Otherwise computed from Q: the maximum over available actions for greedy
        policies, the soft maximum of entropy-regularised ones, the mean under a policy with exploration; for
        real actions Q(s, a) of the most likely action.

        Raises:
            ValueError: the algorithm learns neither V nor Q, or an observation of a wrong shape.
        """
        seen, single = self._seen(obs, mask)
        value = self._own.value(seen)
        if value is None:
            raise ValueError(f"algo={self._own.config.algo.name} learns no V and no Q, so it predicts no value")
        return _array(value, single)

    def q(self, obs: Seen, mask: np.ndarray | None = None) -> np.ndarray:
        """Q(s, ·): float32 [..., A], −inf where unavailable. ValueError where no such values are learned."""
        seen, single = self._seen(obs, mask)
        values = self._own.q(seen)
        if values is None:
            raise ValueError(f"algo={self._own.config.algo.name} learns no Q of discrete actions; use value(obs)")
        return _array(values, single)

    def probabilities(self, obs: Seen, mask: np.ndarray | None = None, *, sample: bool = False) -> np.ndarray:
        """π(·|s): float32 [..., A]; of a product of choices, one distribution after the other, [..., Σn].

        Args:
            obs, mask: as for a call.
            sample: of the policy that acted while training, exploration included; else of the judged one.

        Raises:
            ValueError: actions are real numbers, or an observation of a wrong shape.
        """
        if self._own.context.actions.dtype.is_floating_point:
            raise ValueError("probabilities: actions are real numbers, which have a density instead")
        seen, single = self._seen(obs, mask)
        found = self._own.acting(seen) if sample else self._own.probabilities(seen)
        assert found is not None  # of discrete actions there are always some
        return _array(found, single)

    def _seen(self, obs: Seen, mask: np.ndarray | None) -> tuple[Observation, bool]:
        """The observation as the networks of one member see it, [1, B, ...], and whether it is a single one."""
        problem, device = self._own.problem, self._own.theta.device
        environment = problem.environment
        if isinstance(obs, Mapping) and (MASK in obs or environment.encoder is None):
            parts = tuple(name for name in obs if name != MASK)
            if not parts or MASK not in obs or (environment.encoder is None and len(parts) > 1):
                raise ValueError(f"obs with the keys {', '.join(map(str, obs))}: must be an observation and {MASK}")
            mask = obs[MASK] if mask is None else mask
            obs = obs[parts[0]] if len(parts) == 1 else {name: obs[name] for name in parts}
        if environment.encoder is None:
            rows, single = self._plain(obs)
        else:
            try:
                encoded, single = environment.encoder.some(obs)
            except EnvironmentFault as error:
                raise ValueError(f"obs={shown(obs)}: {error}") from error
            rows = torch.as_tensor(encoded, device=device)
        allowed = None
        if mask is not None:
            allowed = torch.as_tensor(np.array(mask, bool).reshape(len(rows), -1), device=device)
            if allowed.shape[1] != self._own.context.actions.outputs:
                raise ValueError(f"mask of shape {np.shape(mask)}: must be [..., {self._own.context.actions.outputs}]")
        elif problem.available is not None:
            allowed = problem.available[rows]
        return Observation(rows[None], None if allowed is None else allowed[None]), single

    def _plain(self, obs: Any) -> tuple[Tensor, bool]:
        """Indices or numbers as the networks see them, [B] or [B, F], and whether they are of a single observation."""
        environment, device = self._own.problem.environment, self._own.theta.device
        shape, array = environment.observation_shape, np.asarray(obs)
        if shape == ():
            states = environment.n_states or 0
            if array.ndim > 1 or array.dtype.kind not in "iu" or not ((array >= 0) & (array < states)).all():
                raise ValueError(f"obs={obs}: must be a state 0..{states - 1}, or a list of them")
            single, rows = array.ndim == 0, torch.as_tensor(array.reshape(-1).astype(np.int64), device=device)
        else:
            single = array.size == shape[0]
            if array.size % shape[0] or (not single and array.size // shape[0] != len(array)):
                raise ValueError(f"obs of shape {array.shape}: must be {shape[0]} numbers, or a batch of such rows")
            rows = torch.as_tensor(array.reshape(-1, shape[0]).astype(np.float32), device=device)
        return rows, single


def _array(values: Tensor, single: bool) -> np.ndarray:
    own = values[0].cpu().numpy()
    return own[0] if single else own
