"""The contract between algorithms and the rest: what an algorithm is, and what it is given to work with."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlnet.data import Rollout
from rlnet.derivatives import squared_error, without_gradient
from rlnet.distributions import Distribution
from rlnet.explore import Behaviour
from rlnet.nets import Network, lookup
from rlnet.returns import Boundaries, boundaries, monte_carlo_return, n_step_return

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
        roles = [name for name in self.networks if name.startswith("q")] if role is None else [role]
        if self.quantiles == 1 and not self.dueling:
            means = [self.networks[name].apply(params[name], obs) for name in roles]
        else:
            means = [self.return_quantiles(params, obs, name).mean(-1) for name in roles]
        return self._masked(means[0] if len(means) == 1 else torch.stack(means).mean(0), obs)

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

    `loss(setting, params, target_params, batch, hyper)` returns the loss [M] and metrics [M]. No gradient flows
    through `target_params`. In its place, a method with eligibility traces has `online(setting, params, batch, hyper)`,
    which is asked row by row. `act(setting, params, obs, hyper)` returns the probabilities [..., M, N, A] of the
    policy that gathers data, or the parameters of its density; `hyper["explore"]` [M, 1] is the exploration's ε or τ.
    """

    # The networks that it needs: q, v, pi; q2, ... for further ones of the same kind; temperature for a number θ.
    roles: tuple[str, ...]
    act: Callable[[Setting, Params, Tensor, Tensor], Tensor]
    # Whose values are learned: "given" and "behaviour" policies have theirs; "greedy" is optimal control, "soft"
    # optimal control with entropy, by the values' own policy; "actor" the same by a policy network.
    judged: str
    source: str  # where the method is described
    loss: Callable[[Setting, Params, Params, Rollout, Hyper], Loss | tuple[Tensor, Metrics]] | None = None
    online: Callable[[Setting, Params, Rollout, Hyper], Sight] | None = None
    traces: str | None = None  # of `online`: which of `rlnet.traces.KINDS`
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
    return _in_state(table, obs)


def _in_state(table: Tensor, obs: Tensor) -> Tensor:
    """Each member's own row of a table [M, S, A], which may be one table seen M times: [..., M, N, A]."""
    return table[torch.arange(len(table), device=obs.device).unsqueeze(-1), obs]


# ---------------------------------------------------------------------------------------------- parts of losses


def ends(batch: Rollout, hyper: Hyper, lambda_: float | Tensor) -> Boundaries:
    """`returns.boundaries` of a rollout; λ is a number or [M, 1]."""
    return boundaries(hyper["gamma"], lambda_, batch.terminated, batch.truncated, batch.valid)


def take(values: Tensor, action: Tensor) -> Tensor:
    """values[..., action]: [..., A], int64 [...] → [...]."""
    return values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def ratio(setting: Setting, batch: Rollout) -> Tensor:
    """ρ = π(A|S)/b(A|S) of prediction, S&B eq. 5.3 for one step: [T, M, N]."""
    if setting.given_behaviour is None:
        return torch.ones_like(batch.reward)
    tables = setting.given_policy, setting.given_behaviour
    target, behaviour = (take(_in_state(table, batch.obs), batch.action) for table in tables)
    return target / behaviour.clamp(min=1e-30)  # of rows that nobody sampled, 0 / 0


def expectation(probabilities: Tensor, values: Tensor) -> Tensor:
    """Σ_a π(a)·x(a) over the actions with π(a) > 0, [..., A] → [...]; an unavailable action has x = −inf, π = 0."""
    return (probabilities * values.masked_fill(probabilities == 0, 0.0)).sum(-1)


def total(x: Tensor, weight: Tensor) -> Tensor:
    """Σ_{t,n} weight·x per member: [T, M, N] → [M].

    Raises:
        ValueError: the shapes differ; a broadcast here would mix members or environments.
    """
    if x.shape != weight.shape:
        raise ValueError(f"a per-step quantity of shape {tuple(x.shape)} meets weights of shape {tuple(weight.shape)}")
    return (x * weight).sum(dim=(0, 2))


def regression(target: Tensor, estimate: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """½·Σ weight·(target − estimate)², whose gradient step is the semi-gradient update w += α·δ·∇v (S&B eq. 9.7).

    Returns:
        The loss [M], and the root mean square of the errors [M] for the log: NaN where no row had a weight.
    """
    loss, _, rms = squared_error(target, estimate, weight)
    return loss, rms


@without_gradient
def mean(x: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean [M] of numbers [T, M, N], for the log."""
    return (x * weight).sum((0, 2)) / weight.sum((0, 2)).clip(1e-12)


def rms(error: Tensor, weight: Tensor) -> Tensor:
    """Root mean square [M] of errors [T, M, N] that carry no gradient."""
    return (total(error.square(), weight) / weight.sum(dim=(0, 2))).sqrt()


# What every regression from replay has: errors beyond `huber` count linearly; infinity leaves them squared.
REPLAY_HYPER = {"huber": (1e-6, math.inf)}


def n_step_loss(
    setting: Setting, params: Params, batch: Rollout, hyper: Hyper, reward: Tensor, next_value: Tensor
) -> Loss:
    """Σ weight·h(G_{t:t+n} − Q(S,A)), n the length of the segment, with h(δ) = ½·δ², or κ·(|δ| − ½·κ) beyond κ.

    Args:
        reward, next_value: [T, M, N] without gradient: what is collected, and the value of the successor.
    """
    target = n_step_return(reward, *ends(batch, hyper, lambda_=1.0), next_value, n=len(reward))
    q = take(setting.q(params, batch.obs), batch.action)
    loss, error, rms = squared_error(target, q, batch.weight, hyper["huber"])
    return Loss(loss, {"loss/td_error": rms}, error)


# A return that lacks less than this weight of its continuation counts as sampled to its end. Where γ < 1 this lets
# Monte Carlo methods learn in tasks that never end; the bias is at most this number times the largest |V|.
COMPLETE = 1e-3


def complete_returns(batch: Rollout, hyper: Hyper) -> tuple[Tensor, Tensor, Tensor]:
    """Sampled returns, and weights that leave out those that the sample cut short.

    Returns:
        ret [T, M, N], weight [T, M, N], and the share of the rows that were complete [M].
    """
    discount, trace = ends(batch, hyper, lambda_=1.0)
    ret, missing = monte_carlo_return(batch.reward, discount, trace)
    weight = batch.weight * (missing <= COMPLETE)
    share = weight.sum(dim=(0, 2)) / batch.weight.sum(dim=(0, 2)).clamp(min=1e-12)
    return ret, weight, share


# state_discount κ weighs a step t of an episode by γ^(κ·t): 1 is the gradient of J(π) (S&B's boxes), 0 the usual
# practice, which is biased for γ < 1 (Nota & Thomas 2020).
POLICY_HYPER = {
    "value_coefficient": (0.0, math.inf),
    "entropy_coefficient": (0.0, math.inf),
    "state_discount": (0.0, 1.0),
}


def policy_gradient(
    setting: Setting, params: Params, batch: Rollout, hyper: Hyper, advantage: Tensor, weight: Tensor
) -> tuple[Tensor, Metrics]:
    """−Σ weight·γ^t·Â·log π(A|S) − c·entropy; its gradient is minus the sampled policy gradient (S&B eq. 13.8).

    Args:
        advantage: [T, M, N], detached.
        weight: [T, M, N].
    """
    pi = setting.policy(params, batch.obs)
    log_prob, entropy = setting.actions.log_prob(pi, batch.action), setting.actions.entropy(pi)
    early = batch.start_discount ** hyper["state_discount"]
    gain = early * (advantage * log_prob + hyper["entropy_coefficient"] * entropy)
    return -total(gain, weight), {"explore/entropy": mean(entropy, weight)}
