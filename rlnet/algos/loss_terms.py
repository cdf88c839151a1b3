"""Shared terms of losses and targets: expectations, regression, n-step targets, policy gradient, baselines."""

import math
from typing import cast

import torch
from torch import Tensor

from rlnet.algos.algorithm import Loss, Target
from rlnet.algos.context import AlgorithmContext, Hyper, Metrics, Params, Q
from rlnet.algos.returns import Boundaries, boundaries, discounts, monte_carlo_return, n_step_return, td_target
from rlnet.data.rollout import Observation, Rollout, first_row
from rlnet.numerics.loss_derivatives import Array, mean_of_others, squared_error, without_gradient
from rlnet.policies.distributions import Density


def ends(batch: Rollout, hyper: Hyper, lambda_: float | Tensor) -> Boundaries:
    """`returns.boundaries` of a rollout; λ is a number or [M, 1]."""
    return boundaries(hyper["gamma"], lambda_, batch.terminated, batch.truncated, batch.valid, batch.sign)


def take(values: Tensor, action: Tensor) -> Tensor:
    """Values of the chosen actions, values[..., action]: [..., A], int64 [...] → [...]."""
    return values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def ratio(context: AlgorithmContext, batch: Rollout) -> Tensor:
    """Importance sampling ratio ρ = π(A|S)/b(A|S) of one step, S&B eq. 5.3: [T, M, N]."""
    if context.given_behaviour is None:
        return torch.ones_like(batch.reward)
    tables = cast(Tensor, context.given_policy), context.given_behaviour
    target, behaviour = (take(context.in_state(table, batch.obs), batch.action) for table in tables)
    return target / behaviour.clamp(min=1e-30)  # rows that were not sampled would give 0 / 0


def expectation(probabilities: Tensor, values: Tensor) -> Tensor:
    """Expectation over actions, Σ_a π(a)·x(a) where π(a) > 0, [..., A] → [...] (unavailable: x = −inf, π = 0)."""
    return (probabilities * values.masked_fill(probabilities == 0, 0.0)).sum(-1)


def total(x: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum per member, Σ_{t,n} weight·x: [T, M, N] → [M].

    Raises:
        ValueError: the shapes differ; a broadcast here would mix members or environments.
    """
    if x.shape != weight.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, its weights have {tuple(weight.shape)}; both must be [T, M, N]"
        )
    return (x * weight).sum(dim=(0, 2))


def regression(target: Tensor, estimate: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error ½·Σ weight·(target − estimate)²; its step is the semi-gradient w += α·δ·∇v (S&B eq. 9.7).

    Returns:
        The loss [M], and the root mean square of the errors [M] for the log: NaN where no row had a weight.
    """
    loss, _, rms = squared_error(target, estimate, weight)
    return loss, rms


@without_gradient
def mean(x: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean [M] of numbers [T, M, N]."""
    # A member's numbers lie together where they are added up: the order is the same however many members there are.
    gains, weights = ((y.swapaxes(0, 1).reshape(y.shape[1], -1)).sum(-1) for y in (x * weight, weight))
    return gains / weights.clip(1e-12)


def rms(error: Tensor, weight: Tensor) -> Tensor:
    """Root mean square [M] of errors [T, M, N] that carry no gradient."""
    return (total(error.square(), weight) / weight.sum(dim=(0, 2))).sqrt()


# Hyperparameters of all regressions from replay: κ of the Huber loss; infinity gives the squared error.
REPLAY_HYPER = {"huber": (1e-6, math.inf)}


def one_step(batch: Rollout, hyper: Hyper, next_value: Tensor) -> Tensor:
    """One-step target R + γ·v(S'), with γ = 0 where the MDP ended, −γ where the other player moves next: [T, M, N]."""
    return _bootstrapped(batch.reward, hyper["gamma"], batch.terminated, next_value, *_sign_of(batch))


def _sign_of(batch: Rollout) -> tuple[Tensor, ...]:
    """The sign of a game; () where there is none."""
    return () if batch.sign is None else (batch.sign,)


@without_gradient
def _bootstrapped(
    reward: Array, gamma: Array, terminated: Array, next_value: Array, sign: Array | None = None
) -> Array:
    return td_target(reward, discounts(gamma, terminated, sign), next_value)


def following_values(context: AlgorithmContext, params: Params, batch: Rollout, value: Tensor) -> Tensor:
    """V(S') of the rows of a rollout whose states have the values V(S), without gradient: [T, M, N].

    Where the episode goes on it is V of the next row. The network is evaluated only for rows with a truncation and for
    the last row. Where the MDP terminated the number is arbitrary: its discount is 0.
    """
    if value.is_cuda or torch.compiler.is_compiling():  # reading the flags would synchronise with the GPU
        return context.v(params, batch.next_state)
    asked = batch.truncated.flatten(1).any(1)
    asked[-1] = True
    following = value.roll(-1, dims=0)
    following[asked] = context.v(params, batch.next_state.rows(asked))
    return following


def segment_end(batch: Rollout) -> Observation:
    """S_n, from which the return of a segment bootstraps: its last successor, or the first that ends an episode.

    Args:
        batch: segments [n, M, B].

    Returns:
        Observations [1, M, B].
    """
    if len(batch.reward) == 1:
        return batch.next_state
    goes_on = ~(batch.terminated | batch.truncated)[:-1] & batch.valid[1:]
    last = goes_on.cumprod(0).sum(0)  # [M, B], rows
    mask = batch.row_of_each("next_mask", last) if "next_mask" in batch.names else None
    return Observation(batch.row_of_each("next_obs", last), mask)


def segment_return(batch: Rollout, hyper: Hyper, reward: Tensor, end_value: Tensor) -> Tensor:
    """n-step return G_{t:t+n} of the first row of each segment, n its length: [1, M, B].

    Args:
        batch: segments [n, M, B].
        reward: [n, M, B], of the rows.
        end_value: [1, M, B], of `segment_end`.
    """
    if len(reward) == 1:
        return _bootstrapped(reward, hyper["gamma"], batch.terminated, end_value, *_sign_of(batch))
    return n_step_return(reward, *ends(batch, hyper, lambda_=1.0), end_value.expand_as(reward), n=len(reward))[:1]


def learned_rows(aim: Target, batch: Rollout) -> Rollout:
    """The rows of a batch that have targets: all of a rollout, the first one of every segment."""
    return batch if len(aim.value) > 1 else first_row(batch)


def semi_gradient_loss(aim: Target, context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> Loss:
    """Semi-gradient loss Σ weight·h(target − V(S)), or with Q(S, A).

    h(δ) = ½·δ², or κ·(|δ| − ½·κ) beyond the `huber` κ of replays. Its gradient step is the semi-gradient update
    w += α·δ·∇v (S&B eq. 9.7).
    """
    q = Q in context.networks
    estimate = take(context.q(params, batch.state), batch.action) if q else context.v(params, batch.state)
    weight = batch.weight if aim.weight is None else aim.weight
    total, error, rms = squared_error(aim.value, estimate, weight, hyper.get("huber"))
    return Loss(total, {aim.error: rms, **aim.metrics}, error)


# A return that lacks less than this weight of its continuation counts as sampled to its end. Where γ < 1 this lets
# Monte Carlo methods learn in tasks that never end; the bias is at most this number times the largest |V|.
COMPLETE = 1e-3


def complete_returns(batch: Rollout, hyper: Hyper) -> tuple[Tensor, Tensor, Tensor]:
    """Monte Carlo returns, and weights that leave out rows whose return was not sampled to its end.

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


def baseline_of_others(
    context: AlgorithmContext, batch: Rollout, hyper: Hyper, advantage: Tensor, weight: Tensor
) -> Tensor:
    """Leave-one-out baseline for advantages of real actions: the mean over the member's other environments.

    It is independent of the environment's own actions, so the gradient stays unbiased. A critic's error that all
    environments share, which the score of a narrow Gaussian would multiply by 1/σ, cancels. 0 for discrete actions,
    whose scores are bounded, and with a single environment.

    Args:
        advantage, weight: [T, M, N].
    """
    if not context.actions.dtype.is_floating_point:
        return torch.zeros_like(advantage)
    return mean_of_others(advantage, weight * batch.start_discount ** hyper["state_discount"])


def entropy_scale(context: AlgorithmContext, advantage: Tensor, weight: Tensor) -> Tensor | float:
    """Unit of the entropy bonus: 1, for real actions the root mean square of the advantages [M, 1].

    The entropy of a density has no unit that rewards could be compared with, and no upper bound.
    """
    if not context.actions.dtype.is_floating_point:
        return 1.0
    return mean(advantage.square(), weight).sqrt().unsqueeze(-1)


def policy_gradient(
    context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper, advantage: Tensor, weight: Tensor
) -> tuple[Tensor, Metrics]:
    """Policy gradient loss −Σ weight·γ^(κ·t)·(Â·log π(A|S) + c_H·u·H(π(·|S))), u = `entropy_scale` (S&B eq. 13.8).

    Args:
        advantage: [T, M, N], detached.
        weight: [T, M, N].
    """
    pi = context.policy(params, batch.state)
    actions = cast(Density, context.actions)
    log_prob, entropy = actions.log_prob(pi, batch.action), actions.entropy(pi)
    early = batch.start_discount ** hyper["state_discount"]
    bonus = hyper["entropy_coefficient"] * entropy_scale(context, advantage, weight)
    gain = early * (advantage * log_prob + bonus * entropy)
    return -total(gain, weight), {"explore/entropy": mean(entropy, weight)}
