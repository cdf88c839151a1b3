"""Trained networks of a population as functions: actions, policies and values of observations."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rlnet.algos import Algorithm, AlgorithmContext
from rlnet.algos.algorithm import Judged, by_policy
from rlnet.algos.context import PI, Hyper, Params, Q, V
from rlnet.config import Config
from rlnet.data.rollout import Observation
from rlnet.experiment.problem import Problem
from rlnet.nets import ParameterLayout
from rlnet.policies.distributions import Categorical
from rlnet.policies.exploration import greedy, softmax


@dataclass(frozen=True, eq=False)
class Trained:
    """Trained networks of M members as functions of observations [M, N, ...], without gradients.

    `acting` is the policy of the training data, with its exploration; `best` chooses the most likely or most valuable
    action.
    """

    config: Config
    problem: Problem = field(repr=False)
    layout: ParameterLayout = field(repr=False)
    theta: Tensor = field(repr=False)  # [M, P]
    hyper: Hyper = field(repr=False)  # name → [M, 1], and visits [M, S, A] where exploration counts them
    members: tuple[int, ...] | None = None  # which of the run they are; None: all

    def of(self, member: int) -> "Trained":
        """Select one member.

        Raises:
            ValueError: there is no such member.
        """
        count = len(self.theta)
        if isinstance(member, bool) or not isinstance(member, int | np.integer) or not 0 <= member < count:
            raise ValueError(f"member={member!r}: must be in 0..{count - 1}")
        own = slice(member, member + 1)
        hyper = {name: value[own] for name, value in self.hyper.items()}
        number = member if self.members is None else self.members[member]
        return replace(self, theta=self.theta[own], hyper=hyper, members=(number,))

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm that learned."""
        return self.problem.algorithm

    @cached_property
    def context(self) -> AlgorithmContext:
        """Networks and given policies of these members."""
        whole, own = self.problem.context, self.members
        if own is None or whole.given_policy is None:
            return whole
        acting = None if whole.given_behaviour is None else whole.given_behaviour[list(own)]
        return replace(whole, given_policy=whole.given_policy[list(own)], given_behaviour=acting)

    @cached_property
    def params(self) -> Params:
        """The parameters by role and name, [M, ...]; of noisy networks the means."""
        return self.layout.unpack(self.theta)

    @property
    def by_network(self) -> bool:
        """Whether a policy network was learned; it then acts, whichever policy collected the data."""
        return PI in self.algorithm.roles

    @torch.no_grad()
    def acting(self, seen: Observation) -> Tensor:
        """The policy with its exploration: probabilities [M, N, A], or mean and log deviation [M, N, 2·D]."""
        act = by_policy if self.by_network else self.algorithm.acting.act
        return act(self.context, self.params, seen, self.hyper)

    @torch.no_grad()
    def best(self, seen: Observation) -> Tensor:
        """The most likely or most valuable actions: int64 [M, N], or float32 [M, N, D]."""
        actions = self.context.actions
        if self.by_network or self.algorithm.acting.by_given:
            numbers = self.acting(seen)
        else:
            numbers = self._action_values(seen)
        return actions.mode(numbers)

    @torch.no_grad()
    def greedy(self, seen: Observation) -> Tensor | None:
        """The greedy policy of action values, ties broken evenly: [M, N, A]; None where no such values decide."""
        decides = self.algorithm.acting.explores and not self.by_network
        return greedy(self._action_values(seen)) if decides else None

    @torch.no_grad()
    def given(self, seen: Observation) -> Tensor:
        """The given policy of prediction, whose value is learned: [M, N, A]; ValueError where there is none."""
        if self.context.given_policy is None:
            raise ValueError(f"algo={self.config.algo.name} learns the value of its own policy, not of a given one")
        return self.context.in_state(self.context.given_policy, seen.obs)

    @torch.no_grad()
    def q(self, seen: Observation) -> Tensor | None:
        """Q(s, ·) [M, N, A], −inf where unavailable; None where no values of discrete actions are learned."""
        discrete = isinstance(self.context.actions, Categorical)
        return self._action_values(seen) if Q in self.algorithm.roles and discrete else None

    @torch.no_grad()
    def value(self, seen: Observation) -> Tensor | None:
        """The value that the learner predicts for its judged policy: [M, N]; None where it learns none.

        V(s) where there is such a network; else of Q: its maximum, its soft maximum, or its mean under the policy that
        acts; for real actions Q(s, a) of the most likely one, the mean over critics.
        """
        algorithm, context = self.algorithm, self.context
        if V in algorithm.roles:
            return context.v(self.params, seen)
        if Q not in algorithm.roles:
            return None
        q = self.q(seen)
        if q is None:
            critics = [role for role in algorithm.roles if role.kind == Q]
            best = self.best(seen)
            return torch.stack([context.q_of(self.params, seen, best, role) for role in critics]).mean(0)
        if algorithm.judged is Judged.SOFT and algorithm.temperature is not None:
            tau = algorithm.temperature(self.hyper).unsqueeze(-1)
            return (tau * torch.logsumexp(q / tau, -1, keepdim=True)).squeeze(-1)
        policy = greedy(q) if algorithm.judged is Judged.GREEDY else self.acting(seen)
        return torch.where(policy > 0, policy * q, 0.0).sum(-1)

    @torch.no_grad()
    def probabilities(self, seen: Observation) -> Tensor | None:
        """π(·|s) of the judged policy [M, N, A], of a product of choices [M, N, Σn]; None for real actions."""
        if self.context.actions.dtype.is_floating_point:
            return None
        algorithm = self.algorithm
        if algorithm.judged is Judged.GREEDY:
            return greedy(self._action_values(seen))
        if algorithm.judged is Judged.SOFT and algorithm.temperature is not None:
            return softmax(self._action_values(seen), algorithm.temperature(self.hyper).unsqueeze(-1))
        return self.acting(seen)

    def _action_values(self, seen: Observation) -> Tensor:
        return self.algorithm.action_values(self.context, self.params, seen, self.hyper)
