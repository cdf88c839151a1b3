"""The contract of algorithms: the record `Algorithm` and its parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
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
    ACTOR = "actor"  # optimal control: the policy network of an actor

    @property
    def is_control(self) -> bool:
        """Whether the learned values estimate the optimal ones (control), not those of a policy (prediction)."""
        return self in (Judged.GREEDY, Judged.SOFT, Judged.ACTOR)


class Loss(NamedTuple):
    """Result of a loss function; a plain pair (total, metrics) stands for one without the rest."""

    total: Tensor  # [M]
    metrics: Metrics
    error: Tensor | None = None  # [T, M, N], TD errors of the rows, by which replay is prioritised; None: none


class LazyLoss:
    """A `Loss` that is computed when it is first read; most steps are never logged.

    Args:
        measure: computes the loss; valid until the next rollout is collected.
    """

    def __init__(self, measure: Callable[[], Loss]) -> None:
        self._measure = measure

    @cached_property
    def loss(self) -> Loss:
        """The loss, computed at the first access."""
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

    value: Tensor  # [T, M, N], of segments from replay [1, M, B]: those of their first rows
    weight: Tensor | None = None  # [T, M, N], in place of that of the batch
    metrics: Mapping[str, Tensor] = MappingProxyType({})
    error: str = "loss/td_error"  # the name under which its root mean squared error is logged


class TraceStep(NamedTuple):
    """Per-step inputs of an eligibility-trace update: [T, M, N] each, of which the first row counts."""

    value: Tensor  # v(S_t) or q(S_t, A_t), with gradient
    next_value: Tensor  # the value of the successor: δ = R + discount·next_value − value
    discount: Tensor  # γ, 0 where the MDP ended
    decay: Tensor  # γλ, factor of the trace before ∇value is added; 0 resets it


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
    """Result of a tree search from M × N observations, in numpy."""

    policy: np.ndarray  # float64 [M, N, A], the probabilities to act by
    target: np.ndarray  # float64 [M, N, A], the policy to be learned
    value: np.ndarray  # float64 [M, N], of the observations


class Planner(Protocol):
    """Interface of a tree search with fixed network parameters."""

    threads: int  # that it may use

    def __call__(
        self, obs: np.ndarray, move: int, uniform: np.ndarray | None, active: np.ndarray | None = None
    ) -> Plan:
        """Search from observations [M, N, ...].

        Args:
            move: steps since the episodes began.
            uniform: float64 [M, N, A] in [0, 1), random numbers of the exploration; None: no exploration.
            active: bool [M, N], the environments in which to search; None: all.
        """

    def know(self, policy: np.ndarray, value: np.ndarray) -> None:
        """Of a finite model, what the networks say in every state, where they have been evaluated already.

        Args:
            policy: float64 [M, S, A], 0 where an action is not available.
            value: float64 [M, S].
        """

    def states(self, member: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Policy of the search without exploration in states of a finite model: float64 [B, A].

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
    squashes: bool = False  # real actions are squashed (tanh) into the bounds of the Box, which must be finite
    # For methods that act by a tree search in a model: prepares the search for parameters that stay fixed until the
    # next rollout; `act` is then the learned policy. None: no search.
    planner: Callable[[AlgorithmContext, Params, Hyper], "Planner"] | None = None

    @property
    def explores(self) -> bool:
        """Whether it acts by a configurable exploration of action values."""
        return self.act is by_values

    @property
    def by_policy(self) -> bool:
        """Whether it acts by the learned policy."""
        return self.act is by_policy

    @property
    def by_given(self) -> bool:
        """Whether it acts by a given policy."""
        return self.act is by_given


@dataclass(frozen=True)
class Data:
    """The data regime: which transitions an update learns from."""

    replay: bool = False  # learns from segments of a replay buffer; else from rollouts
    target_network: bool = True  # with replay: targets bootstrap from a target network
    whole_episodes: bool = False  # a rollout is one episode per environment, from its start
    complete_returns: bool = False  # learns only from rows whose return was sampled to its end
    lookback: int = 0  # later steps that the target of a row needs; the row is learned from once they are known
    off_policy: bool = False  # prediction that corrects for acting by another policy than the given one
    # Dynamic sampling: (options, episodes, draws so far) → bool [M, N], the episodes to be sampled again; None: stop.
    drawn_again: Callable[[Options, Rollout, int], Tensor | None] | None = None


@dataclass(frozen=True)
class Update:
    """Update regime: how a rollout becomes optimiser steps."""

    row_by_row: bool = False  # one optimiser step for each row, in time order
    # Computed once for a rollout, before its optimiser steps or before a replay stores it, and passed to every step as
    # `batch.extra`.
    prepare: Callable[[AlgorithmContext, Params, Rollout, Hyper], dict[str, Tensor]] | None = None
    # How many uniform random numbers the loss needs for each row: `batch.extra["uniform"]` [T, M, N, draws], new for
    # every optimiser step.
    draws: Callable[[AlgorithmContext], int] | None = None


@dataclass(frozen=True)
class Algorithm:
    """An algorithm: a record of functions and properties, without state."""

    roles: tuple[Role, ...]  # the networks that it learns
    acting: Acting
    objective: Objective
    judged: Judged
    source: str  # where the method is described
    data: Data = Data()
    update: Update = Update()
    hyper: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # own hyperparameters and their ranges
    options: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # own options and their allowed values
    # Adapts the record to chosen options, where these decide more than terms of the loss; None: nothing to adapt.
    configure: Callable[["Algorithm", Options], "Algorithm"] | None = None
    # Temperature τ of the entropy-regularised problem that it solves, from its hyperparameters; None: no entropy.
    temperature: Callable[[Mapping[str, Any]], Any] | None = None
    # Weight β of the KL-regularised problem that it solves, E[R] − β·KL(π ‖ π_ref); None: no KL term.
    regularisation: Callable[[Mapping[str, Any]], float] | None = None
    # Action values [..., M, N, A] that estimate Q* or Q^π, where they are not simply the outputs of Q; None: Q.
    values: Callable[[AlgorithmContext, Params, Observation, Hyper], Tensor] | None = None

    @property
    def traces(self) -> str | None:
        """The kind of eligibility trace; None for methods without one."""
        return self.objective.kind if isinstance(self.objective, TraceUpdate) else None

    def chosen(self, options: Options) -> "Algorithm":
        """The record adapted to chosen options."""
        return self if self.configure is None else self.configure(self, options)

    def action_values(self, context: AlgorithmContext, params: Params, state: Observation, hyper: Hyper) -> Tensor:
        """Learned action values: [..., M, N, A]."""
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
    return context.in_state(cast(Tensor, table), state.obs)
