"""Roles of networks, types of parameters and hyperparameters, and the context that every algorithm is given."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.data.rollout import Observation
from rlnet.nets import Network
from rlnet.numerics.observation_rows import RowLayout
from rlnet.planning import Dynamics, Symmetries
from rlnet.policies.distributions import Distribution, SquashedGaussian
from rlnet.policies.exploration import Behaviour


class Role(str):
    """Role of a network: one of the kinds below, with a number behind it where there are several of a kind.

    Raises:
        ValueError: an unknown kind.
    """

    KINDS = ("pi", "v", "h", "q", "temperature")

    def __new__(cls, name: str) -> "Role":
        role = super().__new__(cls, name)
        if role.kind not in cls.KINDS:
            raise ValueError(
                f"role {name!r}: must be one of {', '.join(cls.KINDS)}, optionally followed by a number, as in q2"
            )
        return role

    @property
    def kind(self) -> str:
        """The role without its number."""
        return self.rstrip("0123456789")


PI = Role("pi")  # a policy: the numbers of a distribution over actions
V = Role("v")  # state values
H = Role("h")  # the second estimate of gradient-TD methods
Q, Q2 = Role("q"), Role("q2")  # action values, and a second network of the same kind
TEMPERATURE = Role("temperature")  # one number θ


Params = Mapping[str, Mapping[str, Tensor]]  # role → name → [M, ...]
# name → [M, 1]: gamma, explore (ε or τ), and the algorithm's own; visits [M, S, A] with count-based exploration.
Hyper = Mapping[str, Tensor]
Metrics = dict[str, Tensor]  # name → [M]
Options = Mapping[str, Any]  # the algorithm's own choices: name → one of those that its record allows


@dataclass(frozen=True)
class AlgorithmContext:
    """Context of an algorithm, fixed during a run: networks, action distribution, given policies.

    Observations are [..., M, N(, F)]. A role of action values has A·K outputs, K = `quantiles` (1 for most methods);
    with `dueling` a further K in front. An action that an observation's mask does not allow has −inf for a value or
    a log-probability.
    """

    networks: Mapping[str, Network]  # by role
    actions: Distribution  # over the actions of the environment: what a policy network's numbers mean
    masked: bool = False  # whether observations come with masks; without, every action is always available
    behaviour: Behaviour | None = None  # how action values become the probabilities of acting
    given_policy: Tensor | None = None  # [M, S, A], for prediction
    given_behaviour: Tensor | None = None  # [M, S, A], who acts in its place; None: the given policy itself
    # Name → [1, ...], the parameters of π_ref, in the network of the policy; None where there is no such policy.
    reference: Mapping[str, Tensor] | None = None
    dueling: bool = False  # Q = V + advantage, from two streams of one network
    longest: int = 1  # steps that an episode may have at most, where rollouts are whole episodes
    epochs: int = 1  # optimiser steps on one rollout of whole episodes
    options: Options = field(default_factory=dict)  # chosen values of `Algorithm.options`
    dynamics: Dynamics | None = None  # the model in which a tree search plans
    symmetries: Symmetries | None = None  # of the observations of a board game
    layout: RowLayout | None = None  # the parts of a flattened observation; None: it has no parts
    # Rows of observations [..., F] → the states of the model that look like this, int64 [...]; None: obs are states.
    states_of: Callable[[np.ndarray], np.ndarray] | None = None

    def in_state(self, table: Tensor, obs: Tensor) -> Tensor:
        """Rows of each member's own table [M, S, A] (perhaps one table expanded) at observations: [..., M, N, A]."""
        if self.states_of is not None:
            obs = torch.from_numpy(self.states_of(obs.cpu().numpy())).to(table.device)
        return table[torch.arange(len(table), device=obs.device).unsqueeze(-1), obs]

    @property
    def quantiles(self) -> int:
        """K, the number of quantiles of the return distribution of an action; 1 for values."""
        return self.options.get("quantiles", 1)

    def v(self, params: Params, state: Observation) -> Tensor:
        """V(s): [..., M, N]."""
        return self.networks[V].apply(params[V], state.obs).squeeze(-1)

    def h(self, params: Params, state: Observation) -> Tensor:
        """h(s), the second estimate of gradient-TD methods: [..., M, N]."""
        return self.networks[H].apply(params[H], state.obs).squeeze(-1)

    def q(self, params: Params, state: Observation, role: str | None = None) -> Tensor:
        """Q(s, ·) of one role, or (None) the mean over all roles of action values: [..., M, N, A].

        −inf where an action is not available.
        """
        roles = self._valuing if role is None else [role]
        if self.quantiles == 1 and not self.dueling:
            means = [self.networks[name].apply(params[name], state.obs) for name in roles]
        else:
            means = [self.return_quantiles(params, state, name).mean(-1) for name in roles]
        return _masked(means[0] if len(means) == 1 else torch.stack(means).mean(0), state.mask)

    @cached_property
    def _valuing(self) -> list[str]:
        return [name for name in self.networks if Role(name).kind == Q]

    def q_of(self, params: Params, state: Observation, action: Tensor, role: str) -> Tensor:
        """Q(s, a) of real actions: observations [..., M, N, F], action [..., M, N, D] → [..., M, N]."""
        obs = state.obs if self.layout is None else self.layout.floats(state.obs)
        inputs = torch.cat((obs, cast(SquashedGaussian, self.actions).unit(action)), -1)
        return self.networks[role].apply(params[role], inputs).squeeze(-1)

    def return_quantiles(self, params: Params, state: Observation, role: str = Q) -> Tensor:
        """K quantiles of the return of every action, unavailable ones included: [..., M, N, A, K].

        With `dueling`: V(s) + advantage(s, a) − mean advantage over A(s) (Wang et al. 2016, eq. 9).
        """
        out = self.networks[role].apply(params[role], state.obs).unflatten(-1, (-1, self.quantiles))
        if not self.dueling:
            return out
        value, advantage = out[..., :1, :], out[..., 1:, :]
        if state.mask is None:
            return value + advantage - advantage.mean(-2, keepdim=True)
        share = state.mask.to(out.dtype)
        share = (share / share.sum(-1, keepdim=True)).unsqueeze(-1)
        return value + advantage - (share * advantage).sum(-2, keepdim=True)

    def reference_policy(self, state: Observation) -> Tensor:
        """log π_ref(·|s) of the reference policy that all members share, without gradient: [..., M, N, A]."""
        axis = -3 if state.obs.is_floating_point() else -2  # where the members are
        with torch.no_grad():
            together = state.obs.flatten(axis, axis + 1).unsqueeze(axis)
            scores = self.networks[PI].apply(cast(Mapping[str, Tensor], self.reference), together)
            scores = scores.squeeze(-3).unflatten(-2, state.obs.shape[axis : axis + 2 or None])
            return self.actions.parameters(_masked(scores, state.mask))

    def policy(self, params: Params, state: Observation) -> Tensor:
        """π(·|s) as the parameters of `actions`: log-probabilities [..., M, N, A], or mean and log deviation."""
        return self.actions.parameters(_masked(self.networks[PI].apply(params[PI], state.obs), state.mask))


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    # nan_to_num: even a member that has just diverged takes available actions only.
    return x if mask is None else x.nan_to_num().masked_fill(~mask, -math.inf)
