"""Proximal policy optimisation with a clipped objective (Schulman et al. 2017).

Its first step on a rollout, at ρ = 1, is that of `a2c`. The switch `normalise` is 1 to shift and scale the advantages
of each minibatch to mean 0 and deviation 1, which changes the length of the gradient, and for few rows its direction.
`value_clip` keeps V within a distance of what it was when the rollout began (Engstrom et al. 2020).
"""

import math

import torch
from torch import Tensor

from rlnet.algos.a2c import advantages
from rlnet.algos.contract import (
    POLICY_HYPER,
    Algorithm,
    Hyper,
    Metrics,
    Params,
    Setting,
    by_policy,
    mean,
    regression,
    total,
)
from rlnet.data import Rollout
from rlnet.derivatives import clipped_gain, clipped_value, without_gradient


def prepare(setting: Setting, params: Params, batch: Rollout, hyper: Hyper) -> dict[str, Tensor]:
    """Advantages, values and log π(A|S) of the networks that gathered the rollout."""
    advantage, target = advantages(setting, params, batch, hyper)
    log_prob = setting.actions.log_prob(setting.policy(params, batch.obs), batch.action)
    return {"advantage": advantage, "value": target - advantage, "log_prob": log_prob}


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−γ^t·(min(ρ·Â, clip(ρ, 1 ± ε)·Â) + c_H·H(π)) + c·½·(Â + V_old(S) − V(S))², ρ = π(A|S)/π_old(A|S)."""
    pi = setting.policy(params, batch.obs)
    log_prob, entropy = setting.actions.log_prob(pi, batch.action), setting.actions.entropy(pi)
    raw, old_value = batch.extra["advantage"], batch.extra["value"]
    advantage = torch.lerp(raw, normalised(raw, batch.weight), hyper["normalise"])
    gain, excess, ratio = clipped_gain(log_prob, batch.extra["log_prob"], advantage, hyper["clip"])
    early = batch.start_discount ** hyper["state_discount"]
    policy_loss = -total(early * (gain + hyper["entropy_coefficient"] * entropy), batch.weight)
    target = raw + old_value
    value = clipped_value(setting.v(params, batch.obs), old_value, target, hyper["value_clip"])
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


@without_gradient
def outside(ratio: Tensor, clip: Tensor, weight: Tensor) -> Tensor:
    """The share [M] of the rows whose ratio is further than the clip from 1."""
    return ((abs(ratio - 1) > clip) * weight).sum((0, 2)) / weight.sum((0, 2)).clip(1e-12)


@without_gradient
def normalised(advantage: Tensor, weight: Tensor) -> Tensor:
    """(Â − mean)/deviation over each member's own rows; rows of weight 0 do not count."""
    share = weight / weight.sum((0, 2), keepdims=True).clip(1e-12)
    centred = advantage - (share * advantage).sum((0, 2), keepdims=True)
    return centred / ((share * centred * centred).sum((0, 2), keepdims=True) ** 0.5 + 1e-8)


ALGORITHM = Algorithm(
    roles=("pi", "v"),
    act=by_policy,
    loss=loss,
    judged="behaviour",
    source="Schulman et al. 2017",
    continuous=True,
    prepare=prepare,
    hyper={
        **POLICY_HYPER,
        "lambda_": (0.0, 1.0),
        "clip": (0.0, math.inf),
        "value_clip": (0.0, math.inf),
        "normalise": (0.0, 1.0),
        "stop_at_kl": (0.0, math.inf),
    },
)
