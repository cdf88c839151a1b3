"""The contract between algorithms and the rest: what an algorithm is, and what it is given to work with."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlnet.data.rollout import Rollout
from rlnet.nets import Network, lookup
from rlnet.policies.distributions import Distribution
from rlnet.policies.exploration import Behaviour

Params = Mapping[str, Mapping[str, Tensor]]  # role → name → [M, ...]
# name → [M, 1]: gamma, explore (ε or τ), and the algorithm's own; and visits [M, S, A] where states can be counted.
Hyper = Mapping[str, Tensor]
Metrics = dict[str, Tensor]  # name → [M]
Options = Mapping[str, Any]  # the algorithm's own choices: name → one of those that its record allows


class Loss(NamedTuple):
    """What a loss hands back; a plain pair (total, metrics) stands for one without the rest."""

    total: Tensor  # [M]
    metrics: Metrics
    error: Tensor | None = None  # [T, M, N], by how much each row missed its target: what replay may prioritise by


class Later:
    """A `Loss` that is worked out when it is first looked at: few steps are logged, and the gradient is known already.

    Args:
        measure: works it out, from numbers that hold until the next rollout is collected.
    """

    def __init__(self, measure: Callable[[], Loss]) -> None:
        self._measure = measure

    @cached_property
    def loss(self) -> Loss:
        """All of it."""
        return self._measure()

    @property
    def total(self) -> Tensor:
        """See `Loss`."""
        return self.loss.total

    @property
    def metrics(self) -> Metrics:
        """See `Loss`."""
        return self.loss.metrics

    @property
    def error(self) -> Tensor | None:
        """See `Loss`."""
        return self.loss.error


class Target(NamedTuple):
    """What V(S), or Q(S, A), of every row is pulled towards: a semi-gradient method."""

    value: Tensor  # [T, M, N]
    weight: Tensor | None = None  # [T, M, N], in place of that of the batch
    metrics: Mapping[str, Tensor] = MappingProxyType({})
    error: str = "loss/td_error"  # the name in the log of by how much it is missed


Slopes = tuple[dict[str, np.ndarray], Callable[[], Loss]]


class Sight(NamedTuple):
    """What an online method with eligibility traces sees at a step: [T, M, N] each, of which the first row counts."""

    value: Tensor  # the estimate that is learned, with gradient
    next_value: Tensor  # that of the successor: δ = R + discount·next_value − value
    discount: Tensor  # γ, 0 where the MDP ended
    decay: Tensor  # γλ, by which the trace fades before ∇value joins it; 0 forgets the past


@dataclass(frozen=True)
class Setting:
    """What stays fixed during a run, as an algorithm sees it. Observations are [..., M, N(, F)].

    A role of action values has A·K outputs, K = `quantiles` (1 for most methods); with `dueling` a further K in front.
    """

    networks: Mapping[str, Network]  # by role: q, v, pi; a role of several networks of its kind: q, q2
    actions: Distribution  # over the actions of the environment: what a policy network's numbers mean
    available: Tensor | None = None  # bool [S, A], None where every action is always available
    behaviour: Behaviour | None = None  # how action values become the probabilities of acting
    given_policy: Tensor | None = None  # [M, S, A], for prediction
    given_behaviour: Tensor | None = None  # [M, S, A], who acts in its place; None: the given policy itself
    dueling: bool = False  # Q = V + advantage, from two streams of one network
    options: Options = field(default_factory=dict)  # what was chosen among `Algorithm.options`

    @property
    def quantiles(self) -> int:
        """K, the numbers that stand for the distribution of the return of an action."""
        return self.options.get("quantiles", 1)

    def v(self, params: Params, obs: Tensor) -> Tensor:
        """V(s): [..., M, N]."""
        return self.networks["v"].apply(params["v"], obs).squeeze(-1)

    def h(self, params: Params, obs: Tensor) -> Tensor:
        """h(s), the second estimate of gradient-TD methods: [..., M, N]."""
        return self.networks["h"].apply(params["h"], obs).squeeze(-1)

    def q(self, params: Params, obs: Tensor, role: str | None = None) -> Tensor:
        """Q(s, ·) of one role, or (None) the mean over all roles of action values: [..., M, N, A].

        −inf where an action is not available.
        """
        roles = self._valuing if role is None else [role]
        if self.quantiles == 1 and not self.dueling:
            means = [self.networks[name].apply(params[name], obs) for name in roles]
        else:
            means = [self.return_quantiles(params, obs, name).mean(-1) for name in roles]
        return self._masked(means[0] if len(means) == 1 else torch.stack(means).mean(0), obs)

    @cached_property
    def _valuing(self) -> list[str]:
        return [name for name in self.networks if name.startswith("q")]

    def q_of(self, params: Params, obs: Tensor, action: Tensor, role: str) -> Tensor:
        """Q(s, a) of real actions: obs [..., M, N, F], action [..., M, N, D] → [..., M, N]."""
        return self.networks[role].apply(params[role], torch.cat((obs, self.actions.unit(action)), -1)).squeeze(-1)

    def return_quantiles(self, params: Params, obs: Tensor, role: str = "q") -> Tensor:
        """K numbers for the return of every action, also of those that are not available: [..., M, N, A, K].

        With `dueling`: V(s) + advantage(s, a) − mean advantage over A(s) (Wang et al. 2016, eq. 9).
        """
        out = self.networks[role].apply(params[role], obs).unflatten(-1, (-1, self.quantiles))
        if not self.dueling:
            return out
        value, advantage = out[..., :1, :], out[..., 1:, :]
        if self.available is None:
            return value + advantage - advantage.mean(-2, keepdim=True)
        share = self.available[obs].to(out.dtype)
        share = (share / share.sum(-1, keepdim=True)).unsqueeze(-1)
        return value + advantage - (share * advantage).sum(-2, keepdim=True)

    def policy(self, params: Params, obs: Tensor) -> Tensor:
        """π(·|s) as the parameters of `actions`: log-probabilities [..., M, N, A], or mean and log deviation."""
        return self.actions.parameters(self._masked(self.networks["pi"].apply(params["pi"], obs), obs))

    def _masked(self, x: Tensor, obs: Tensor) -> Tensor:
        # nan_to_num: even a member that has just diverged takes available actions only.
        return x if self.available is None else x.nan_to_num().masked_fill(~self.available[obs], -math.inf)


@dataclass(frozen=True)
class Algorithm:
    """A record of functions and facts; it has no state.

    How it learns is one of three functions. `target(setting, params, target_params, batch, hyper)` says, without
    gradient, what V or Q of one network is pulled towards: a semi-gradient method. Any other one has
    `loss(setting, params, target_params, batch, hyper)`, which returns the loss [M] and metrics [M]; no gradient flows
    through `target_params`. A method with eligibility traces has `online(setting, params, batch, hyper)`, which is
    asked row by row. `act(setting, params, obs, hyper)` returns the probabilities [..., M, N, A] of the
    policy that gathers data, or the parameters of its density; `hyper["explore"]` [M, 1] is the exploration's ε or τ.
    """

    # The networks that it needs: q, v, pi; q2, ... for further ones of the same kind; temperature for a number θ.
    roles: tuple[str, ...]
    act: Callable[[Setting, Params, Tensor, Tensor], Tensor]
    # Whose values are learned: "given" and "behaviour" policies have theirs; "greedy" is optimal control, "soft"
    # optimal control with entropy, by the values' own policy; "actor" the same by a policy network.
    judged: str
    source: str  # where the method is described
    target: Callable[[Setting, Params, Params, Rollout, Hyper], Target] | None = None
    loss: Callable[[Setting, Params, Params, Rollout, Hyper], Loss | tuple[Tensor, Metrics]] | None = None
    # The derivative of `loss` by hand, for speed: `slopes(outputs, batch, hyper)` is given the numbers of the networks
    # in numpy, role → [1, M, B, O], of a batch of one step, and returns its derivative by each of them, and a function
    # that works out the loss itself.
    slopes: Callable[[Mapping[str, np.ndarray], Rollout, Hyper], Slopes] | None = None
    online: Callable[[Setting, Params, Rollout, Hyper], Sight] | None = None
    traces: str | None = None  # of `online`: which of `rlnet.algos.eligibility_traces.KINDS`
    discrete: bool = True  # can act where actions are Discrete
    continuous: bool = False  # can act in a Box, by a policy over real actions
    squashes: bool = False  # its real actions are squashed between the bounds of the Box, which must be finite
    whole_episodes: bool = False  # a rollout is one episode per environment, from its start
    off_policy: bool = False  # prediction that corrects for acting by another policy than the given one
    complete_returns: bool = False  # learns only from returns that were sampled to their end
    one_by_one: bool = False  # the rows of a rollout are learned from in time order, each in a step of its own
    replays: bool = False  # learns from segments of a replay, with a target network
    lookback: int = 0  # steps that a row's target needs after it: rows wait that long to be learned from
    # Computed once for a rollout, before its optimiser steps, and handed to every one of them as `batch.extra`.
    prepare: Callable[[Setting, Params, Rollout, Hyper], dict[str, Tensor]] | None = None
    hyper: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # its own numbers and their ranges
    # Uniform numbers that the loss draws for each row: `batch.extra["uniform"]` [T, M, N, draws], anew for each step.
    draws: Callable[[Setting], int] | None = None
    # The weight τ of the policy's entropy in the problem that it solves, from its own numbers; 0 for plain returns.
    temperature: Callable[[Mapping[str, Any]], Any] | None = None
    # The action values [..., M, N, A] that its parameters stand for, where they are not simply Q.
    values: Callable[[Setting, Params, Tensor, Hyper], Tensor] | None = None
    options: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # its own choices and what each can be
    facts: Callable[[Options], Mapping[str, Any]] | None = None  # the fields above that depend on `options`

    @property
    def explores(self) -> bool:
        """Whether it acts on action values, by an exploration that can be chosen."""
        return self.act is by_values

    def chosen(self, options: Options) -> "Algorithm":
        """The record with these choices made."""
        return self if self.facts is None else replace(self, **self.facts(options))


# ---------------------------------------------------------------------------------------------- ways of acting


def by_values(setting: Setting, params: Params, obs: Tensor, hyper: Hyper) -> Tensor:
    """Explore around the action values: ε-greedy, softmax, ... [..., M, N, A]."""
    visits = hyper.get("visits")
    counts = None if visits is None else lookup(visits, obs)
    return setting.behaviour(setting.q(params, obs), hyper["explore"].unsqueeze(-1), counts)


def by_policy(setting: Setting, params: Params, obs: Tensor, hyper: Hyper) -> Tensor:
    """Follow the learned policy: [..., M, N, A] π(a|s), or [..., M, N, 2·D] its mean and log deviation."""
    return setting.actions.behaviour(setting.policy(params, obs))


def by_given(setting: Setting, params: Params, obs: Tensor, hyper: Hyper) -> Tensor:
    """Follow the policy whose value is to be predicted, or the one that acts in its place: [..., M, N, A]."""
    table = setting.given_policy if setting.given_behaviour is None else setting.given_behaviour
    return in_state(table, obs)


def in_state(table: Tensor, obs: Tensor) -> Tensor:
    """Each member's own row of a table [M, S, A], which may be one table seen M times: [..., M, N, A]."""
    return table[torch.arange(len(table), device=obs.device).unsqueeze(-1), obs]
