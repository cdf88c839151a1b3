"""The contract of algorithms: the record `Algorithm` and its parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.context import AlgorithmContext, Hyper, Metrics, Options, Params, Role
from rlnet.data.rollout import Observation, Rollout
from rlnet.nets import lookup
from rlnet.policies.exploration import Behaviour


class Judged(StrEnum):
    """The policy that a learner is judged by, and so the exact values that it is compared with."""

    GIVEN = "given"  # prediction of a given policy
    BEHAVIOUR = "behaviour"  # the policy that acts, exploration included
    GREEDY = "greedy"  # optimal control: the policy greedy for the learned Q
    SOFT = "soft"  # optimal control with entropy: the softmax of the learned Q
    ACTOR = "actor"  # the same by a policy network

    @property
    def is_control(self) -> bool:
        """Whether the learned values are meant to be the optimal ones."""
        return self in (Judged.GREEDY, Judged.SOFT, Judged.ACTOR)


class Loss(NamedTuple):
    """Result of a loss function; a plain pair (total, metrics) stands for one without the rest."""

    total: Tensor  # [M]
    metrics: Metrics
    error: Tensor | None = None  # [T, M, N], by how much each row missed its target: what replay may prioritise by


class LazyLoss:
    """A `Loss` that is computed when it is first read; most steps are never logged.

    Args:
        measure: computes it, from numbers that hold until the next rollout is collected.
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
    """Targets of a semi-gradient method for V(S), or Q(S, A), of every row."""

    value: Tensor  # [T, M, N]
    weight: Tensor | None = None  # [T, M, N], in place of that of the batch
    metrics: Mapping[str, Tensor] = MappingProxyType({})
    error: str = "loss/td_error"  # the name in the log of by how much it is missed


class TraceStep(NamedTuple):
    """Per-step inputs of an eligibility-trace update: [T, M, N] each, of which the first row counts."""

    value: Tensor  # the estimate that is learned, with gradient
    next_value: Tensor  # that of the successor: δ = R + discount·next_value − value
    discount: Tensor  # γ, 0 where the MDP ended
    decay: Tensor  # γλ, by which the trace fades before ∇value joins it; 0 forgets the past


# ---------------------------------------------------------------------------------------------- objectives

TargetFunction = Callable[[AlgorithmContext, Params, Params, Rollout, Hyper], Target]
LossFunction = Callable[[AlgorithmContext, Params, Params, Rollout, Hyper], Loss | tuple[Tensor, Metrics]]
TraceFunction = Callable[[AlgorithmContext, Params, Rollout, Hyper], TraceStep]
OutputGradients = tuple[dict[str, np.ndarray], Callable[[], Loss]]  # by role, and what computes the loss on demand
ManualGradient = Callable[[Mapping[str, np.ndarray], Rollout, Hyper], OutputGradients]


@dataclass(frozen=True)
class SemiGradient:
    """Semi-gradient objective: V or Q moves towards a target through which no gradient flows (S&B section 9.3)."""

    target: TargetFunction  # (context, params, target_params, batch, hyper)


@dataclass(frozen=True)
class LossGradient:
    """Objective by a loss that autograd differentiates; no gradient flows through `target_params`.

    `manual_gradient(outputs, batch, hyper)` may give its derivative by hand, for speed: it is given the outputs of the
    networks in numpy, role → [1, M, B, O], of a batch of one step, and returns the derivative by each of them, and a
    function that computes the loss on demand.
    """

    loss: LossFunction  # (context, params, target_params, batch, hyper)
    manual_gradient: ManualGradient | None = None


@dataclass(frozen=True)
class TraceUpdate:
    """Objective by an online update with eligibility traces, row by row (S&B chapter 12)."""

    step: TraceFunction  # (context, params, batch, hyper)
    kind: str  # one of `rlnet.algos.eligibility_traces.KINDS`


Objective = SemiGradient | LossGradient | TraceUpdate


# ---------------------------------------------------------------------------------------------- the record


class Plan(NamedTuple):
    """What a search finds at M × N observations, in numpy."""

    policy: np.ndarray  # float64 [M, N, A], the probabilities to act by
    target: np.ndarray  # float64 [M, N, A], the policy to be learned
    value: np.ndarray  # float64 [M, N], of the observations


class Planner(Protocol):
    """A search with fixed parameters."""

    threads: int  # that it may use

    def __call__(
        self, obs: np.ndarray, move: int, uniform: np.ndarray | None, active: np.ndarray | None = None
    ) -> Plan:
        """Search from observations [M, N, ...].

        Args:
            move: steps since the episodes began.
            uniform: float64 [M, N, A] in [0, 1), for exploration; None: the search as it plays to win.
            active: bool [M, N], where an answer is needed; None: everywhere.
        """

    def states(self, member: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Of a finite model, the policy of the search as it plays to win: float64 [B, A].

        Args:
            member, state: int64 [B].
        """


@dataclass(frozen=True)
class Acting:
    """Acting: how actions are chosen when data is gathered, and which action spaces are supported.

    `act(context, params, observation, hyper)` returns the probabilities [..., M, N, A] of the policy that gathers data,
    or the parameters of its density; `hyper["explore"]` [M, 1] is the exploration's ε or τ.
    """

    act: Callable[[AlgorithmContext, Params, Observation, Hyper], Tensor]
    discrete: bool = True  # can act where actions are Discrete
    continuous: bool = False  # can act in a Box, by a policy over real actions
    squashes: bool = False  # its real actions are squashed between the bounds of the Box, which must be finite
    # Who acts by a search in the model of the environment: prepares it for parameters that stay until the next rollout.
    # `act` is then the policy that is learned.
    planner: Callable[[AlgorithmContext, Params, Hyper], "Planner"] | None = None

    @property
    def explores(self) -> bool:
        """Whether it acts on action values, by an exploration that can be chosen."""
        return self.act is by_values

    @property
    def by_policy(self) -> bool:
        """Whether it acts by the policy that is learned."""
        return self.act is by_policy

    @property
    def by_given(self) -> bool:
        """Whether it acts by a given policy."""
        return self.act is by_given


@dataclass(frozen=True)
class Data:
    """The data regime: which transitions an update learns from."""

    replay: bool = False  # segments of a replay; else rollouts
    target_network: bool = True  # targets of a replay are those of a second network, which follows
    whole_episodes: bool = False  # a rollout is one episode per environment, from its start
    complete_returns: bool = False  # only rows whose return was sampled to its end
    lookback: int = 0  # steps that a row's target needs after it: rows wait that long to be learned from
    off_policy: bool = False  # prediction that corrects for acting by another policy than the given one
    # Of whole episodes, those [M, N] (bool) that are to be drawn again, after so many draws; None: no more draws.
    drawn_again: Callable[[Options, Rollout, int], Tensor | None] | None = None


@dataclass(frozen=True)
class Update:
    """Update regime: how a rollout becomes optimiser steps."""

    row_by_row: bool = False  # rows are learned from in time order, each in a step of its own
    # Computed once for a rollout, before its optimiser steps or before a replay stores it, and passed to every step as
    # `batch.extra`.
    prepare: Callable[[AlgorithmContext, Params, Rollout, Hyper], dict[str, Tensor]] | None = None
    # Uniform numbers that the loss draws for each row: `batch.extra["uniform"]` [T, M, N, draws], anew for each step.
    draws: Callable[[AlgorithmContext], int] | None = None


@dataclass(frozen=True)
class Algorithm:
    """An algorithm: a record of functions and properties, without state."""

    roles: tuple[Role, ...]  # the networks that it needs
    acting: Acting
    objective: Objective
    judged: Judged
    source: str  # where the method is described
    data: Data = Data()
    update: Update = Update()
    hyper: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # its own numbers and their ranges
    options: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # its own choices and what each can be
    # The record for some choices, where they decide more than numbers in a loss.
    configure: Callable[["Algorithm", Options], "Algorithm"] | None = None
    # The weight τ of the policy's entropy in the problem that it solves, from its own numbers; 0 for plain returns.
    temperature: Callable[[Mapping[str, Any]], Any] | None = None
    # The weight β of KL(π ‖ π_ref) in the problem that it solves, E[R] − β·KL, from its own numbers; None: no term.
    regularisation: Callable[[Mapping[str, Any]], float] | None = None
    # The action values [..., M, N, A] that its parameters stand for, where they are not simply Q.
    values: Callable[[AlgorithmContext, Params, Observation, Hyper], Tensor] | None = None

    @property
    def traces(self) -> str | None:
        """The kind of eligibility trace; None for methods without one."""
        return self.objective.kind if isinstance(self.objective, TraceUpdate) else None

    def chosen(self, options: Options) -> "Algorithm":
        """The record with these options chosen."""
        return self if self.configure is None else self.configure(self, options)

    def action_values(self, context: AlgorithmContext, params: Params, state: Observation, hyper: Hyper) -> Tensor:
        """Action values of the parameters: [..., M, N, A]."""
        return context.q(params, state) if self.values is None else self.values(context, params, state, hyper)


# ---------------------------------------------------------------------------------------------- ways of acting


def by_values(context: AlgorithmContext, params: Params, state: Observation, hyper: Hyper) -> Tensor:
    """Act by an exploration of action values (ε-greedy, softmax, ...): probabilities [..., M, N, A]."""
    visits = hyper.get("visits")
    counts = None if visits is None else lookup(visits, state.obs)
    behaviour = cast(Behaviour, context.behaviour)  # which every algorithm that acts by its values has
    return behaviour(context.q(params, state), hyper["explore"].unsqueeze(-1), counts)


def by_policy(context: AlgorithmContext, params: Params, state: Observation, hyper: Hyper) -> Tensor:
    """Act by the learned policy: π(a|s) [..., M, N, A], or its mean and log deviation [..., M, N, 2·D]."""
    return context.actions.behaviour(context.policy(params, state))


def by_given(context: AlgorithmContext, params: Params, state: Observation, hyper: Hyper) -> Tensor:
    """Act by a given policy: the predicted one, or a behaviour in its place: [..., M, N, A]."""
    table = context.given_policy if context.given_behaviour is None else context.given_behaviour
    return in_state(cast(Tensor, table), state.obs)


def in_state(table: Tensor, obs: Tensor) -> Tensor:
    """Rows of each member's own table [M, S, A] (perhaps one table expanded) at observations: [..., M, N, A]."""
    return table[torch.arange(len(table), device=obs.device).unsqueeze(-1), obs]
