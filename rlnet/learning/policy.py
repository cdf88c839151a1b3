"""A trained policy for users: observations in, actions and values out."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlnet.data.rollout import Observation
from rlnet.envs.reading import read
from rlnet.learning.trained import Trained


class Policy:
    """The learned policy and values of one member of a run, as returned by `rlnet.load` and `rlnet.train`.

    `env.step(policy(obs))` plays: observations and actions are those of the environment's spaces. Observations come
    one by one, or as a batch with an axis in front (of every part of a nested one). `mask` says which of the discrete
    actions are available; finite models and observations with an `action_mask` need no `mask`.

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
        """Seed the random numbers of `sample=True`; the initial seed is that of the member.

        Raises:
            ValueError: no whole number from 0 to 2^63 − 1.
        """
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
            raise ValueError(f"seed={seed!r}: must be a whole number from 0 to 2^63 - 1")
        self._sample.manual_seed(int(seed))

    def __call__(self, obs: Any, mask: np.ndarray | None = None, *, sample: bool = False) -> Any:
        """The action for one observation as `env.step` takes it, or for B of them as a vector environment of B does.

        Args:
            obs: observation of the environment, or a batch.
            mask: bool [..., A], the available actions (`info["action_mask"]`); None: those of the finite model, or
                those that stand beside the observation, or all.
            sample: draw from the policy that acted while training, exploration included (noisy networks act by their
                means); else its most likely action, for action values the greedy one.

        Raises:
            ValueError: an observation or a mask of a wrong shape.
        """
        own, environment = self.chosen(obs, mask, sample=sample), self._own.problem.environment
        single = own.ndim == len(self._own.context.actions.shape)
        return environment.taken(own) if single else environment.decoded(own)

    def chosen(self, obs: Any, mask: np.ndarray | None = None, *, sample: bool = False) -> np.ndarray:
        """The same action as the networks number it: int64 [...] counted from 0, of products of choices [..., D],
        float32 [..., D] where it is real; see a call.
        """
        seen, single = self._seen(obs, mask)
        if not sample:
            return _array(self._own.best(seen), single)
        numbers, actions = self._own.acting(seen), self._own.context.actions
        shape = (*numbers.shape[:-1], *actions.shape)
        uniform = torch.rand(shape, dtype=torch.float64, generator=self._sample).to(numbers.device)
        return _array(actions.sample(numbers, uniform), single)

    def value(self, obs: Any, mask: np.ndarray | None = None) -> np.ndarray:
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

    def q(self, obs: Any, mask: np.ndarray | None = None) -> np.ndarray:
        """Q(s, ·): float32 [..., A], −inf where unavailable; of products of choices A combinations, the last fastest.

        Raises:
            ValueError: no such values are learned, or an observation of a wrong shape.
        """
        seen, single = self._seen(obs, mask)
        values = self._own.q(seen)
        if values is None:
            raise ValueError(f"algo={self._own.config.algo.name} learns no Q of discrete actions; use value(obs)")
        return _array(values, single)

    def probabilities(self, obs: Any, mask: np.ndarray | None = None, *, sample: bool = False) -> np.ndarray:
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

    def _seen(self, obs: Any, mask: Any) -> tuple[Observation, bool]:
        """The observation as the networks of one member see it, [1, B, ...], and whether it is a single one."""
        problem, device = self._own.problem, self._own.theta.device
        rows, allowed, single = read(problem.environment, obs, mask)
        seen = torch.as_tensor(rows, device=device)
        if allowed is not None:
            return Observation(seen[None], torch.as_tensor(allowed, device=device)[None]), single
        return Observation(seen[None], None if problem.available is None else problem.available[seen][None]), single


def _array(values: Tensor, single: bool) -> np.ndarray:
    own = values[0].cpu().numpy()
    return own[0] if single else own
