"""Proximal policy optimisation with a clipped objective (Schulman et al. 2017).

Its first step on a rollout, at ρ = 1, is that of `a2c`. The switch `normalise` is 1 to shift and scale the advantages
of each minibatch to mean 0 and deviation 1, which rescales the gradient, and in small minibatches turns it.
`value_clip` keeps V within a distance of what it was when the rollout began (Engstrom et al. 2020).
"""

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.a2c import advantages
from rlnet.algos.algorithm import (
    Acting,
    Algorithm,
    Judged,
    Loss,
    LossGradient,
    OutputGradients,
    Update,
    by_policy,
)
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Metrics, Params, V
from rlnet.algos.loss_terms import POLICY_HYPER, mean, regression, total
from rlnet.data.rollout import Rollout
from rlnet.numerics.loss_derivatives import (
    Array,
    clipped_gain,
    clipped_gain_by_hand,
    clipped_value,
    clipped_value_by_hand,
    error_by_hand,
    pull_by_hand,
    without_gradient,
)
from rlnet.policies.distributions import Density


def prepare(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> dict[str, Tensor]:
    """Advantages, values and log π(A|S) of the networks that gathered the rollout."""
    advantage, target = advantages(context, params, batch, hyper)
    log_prob = cast(Density, context.actions).log_prob(context.policy(params, batch.state), batch.action)
    return {"advantage": advantage, "value": target - advantage, "log_prob": log_prob}


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−γ^(κ·t)·(min(ρ·Â, clip(ρ, 1 ± ε)·Â) + c_H·H(π)) + c·½·(Â + V_old(S) − V(S))², ρ = π(A|S)/π_old(A|S)."""
    pi = context.policy(params, batch.state)
    actions = cast(Density, context.actions)
    log_prob, entropy = actions.log_prob(pi, batch.action), actions.entropy(pi)
    raw, old_value = batch.extra["advantage"], batch.extra["value"]
    advantage = torch.lerp(raw, normalised(raw, batch.weight), hyper["normalise"])
    gain, excess, ratio = clipped_gain(log_prob, batch.extra["log_prob"], advantage, hyper["clip"])
    early = batch.start_discount ** hyper["state_discount"]
    policy_loss = -total(early * (gain + hyper["entropy_coefficient"] * entropy), batch.weight)
    target = raw + old_value
    value = clipped_value(context.v(params, batch.state), old_value, target, hyper["value_clip"])
    value_loss, error = regression(target, value, batch.weight)
    divergence = mean(excess, batch.weight)  # an estimate of KL(π_old ‖ π) that is ≥ 0
    metrics = {
        "loss/value_error": error,
        "loss/kl": divergence,
        "loss/clipped": outside(ratio, hyper["clip"], batch.weight),
        "explore/entropy": mean(entropy, batch.weight),
        "stop": (divergence > hyper["stop_at_kl"].squeeze(-1)).float(),
    }
    return policy_loss + hyper["value_coefficient"].squeeze(-1) * value_loss, metrics


def manual_gradient(scores: Mapping[str, np.ndarray], batch: Rollout, hyper: Hyper) -> OutputGradients:
    """Gradient of `loss` with respect to the logits [1, M, B, A] and the values [1, M, B, 1]; discrete actions only."""
    action, weight, early = (batch.array(name) for name in ("action", "weight", "start_discount"))
    raw, old_value, old = (batch.extra[name].numpy() for name in ("advantage", "value", "log_prob"))
    number = {name: hyper[name].numpy() for name in ALGORITHM.hyper}
    # Actions first: numpy is slow along a short last axis.
    preference = np.ascontiguousarray(scores["pi"].transpose(3, 0, 1, 2))
    preference -= preference.max(0)
    pi = np.exp(preference)
    total = pi.sum(0)
    log_pi = preference - np.log(total)
    pi /= total
    entropy = -(pi * log_pi).sum(0)
    taken = action == np.arange(len(pi)).reshape(-1, 1, 1, 1)
    log_prob = (taken * log_pi).sum(0)  # np.where takes six times as long
    advantage = raw + number["normalise"] * (normalised_by_hand(raw, weight) - raw)
    gain, by_log_prob, excess, ratio = clipped_gain_by_hand(np, log_prob, old, advantage, number["clip"])
    share = weight * early ** number["state_discount"] if number["state_discount"].any() else weight
    bonus = number["entropy_coefficient"]
    by_log_prob *= share
    # ∂log π_a/∂h_b = 1_{a=b} − π_b, and ∂H/∂h_b = −π_b·(log π_b + H).
    pi *= by_log_prob + share * bonus * (log_pi + entropy)
    pi -= taken * by_log_prob

    value, target = scores["v"][..., 0], raw + old_value
    clips = bool((number["value_clip"] < np.inf).any())
    if clips:
        value, free = clipped_value_by_hand(np, value, old_value, target, number["value_clip"])
    missed = pull_by_hand(np, value, target, weight, None)
    by_value = missed[-1] * -number["value_coefficient"]
    if clips:
        by_value *= free

    def measure() -> Loss:
        rows = weight.sum((0, 2)).clip(1e-12)
        policy_loss = -(share * (gain + bonus * entropy)).sum((0, 2))
        value_loss, error = error_by_hand(*missed, weight)
        divergence = (excess * weight).sum((0, 2)) / rows
        metrics = {
            "loss/value_error": error,
            "loss/kl": divergence,
            "loss/clipped": outside_by_hand(ratio, number["clip"], weight),
            "explore/entropy": (entropy * weight).sum((0, 2)) / rows,
            "stop": (divergence > number["stop_at_kl"][:, 0]).astype(np.float32),
        }
        loss = policy_loss + number["value_coefficient"][:, 0] * value_loss
        return Loss(torch.from_numpy(loss), {name: torch.from_numpy(x) for name, x in metrics.items()})

    return {"pi": np.moveaxis(pi, 0, -1), "v": by_value[..., None]}, measure


def outside_by_hand(ratio: Array, clip: Array, weight: Array) -> Array:
    """Clip fraction: the share [M] of the rows whose ratio is further than the clip from 1."""
    return ((abs(ratio - 1) > clip) * weight).sum((0, 2)) / weight.sum((0, 2)).clip(1e-12)


def normalised_by_hand(advantage: Array, weight: Array) -> Array:
    """Normalised advantages (Â − mean)/deviation over each member's own rows; rows of weight 0 do not count."""
    share = weight / weight.sum((0, 2), keepdims=True).clip(1e-12)
    centred = advantage - (share * advantage).sum((0, 2), keepdims=True)
    return centred / ((share * centred * centred).sum((0, 2), keepdims=True) ** 0.5 + 1e-8)


outside, normalised = without_gradient(outside_by_hand), without_gradient(normalised_by_hand)


ALGORITHM = Algorithm(
    roles=(PI, V),
    acting=Acting(by_policy, continuous=True),
    objective=LossGradient(loss, manual_gradient),
    update=Update(prepare=prepare),
    judged=Judged.BEHAVIOUR,
    hyper={
        **POLICY_HYPER,
        "lambda_": (0.0, 1.0),
        "clip": (0.0, math.inf),
        "value_clip": (0.0, math.inf),
        "normalise": (0.0, 1.0),
        "stop_at_kl": (0.0, math.inf),
    },
    source="Schulman et al. 2017",
)
