"""Proximal policy optimisation with a clipped objective (Schulman et al. 2017)."""

import math

import torch
from torch import Tensor

from rlnet.algos.a2c import advantages
from rlnet.algos.contract import (
    Algorithm,
    Hyper,
    Metrics,
    Params,
    Setting,
    by_policy,
    regression,
    total,
)
from rlnet.data import Rollout


def prepare(setting: Setting, params: Params, batch: Rollout, hyper: Hyper) -> dict[str, Tensor]:
    """Advantages, value targets and log π(A|S) of the policy that gathered the rollout."""
    advantage, target = advantages(setting, params, batch, hyper)
    log_prob = setting.actions.log_prob(setting.policy(params, batch.obs), batch.action)
    return {"advantage": advantage, "target": target, "log_prob": log_prob}


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−min(ρ·Â, clip(ρ, 1 ± ε)·Â) + c·½·(target − V(S))² − c_H·H(π), ρ = π(A|S)/π_old(A|S), Â normalised."""
    pi = setting.policy(params, batch.obs)
    change = setting.actions.log_prob(pi, batch.action) - batch.extra["log_prob"]
    ratio, advantage, clip = change.exp(), normalised(batch.extra["advantage"], batch.weight), hyper["clip"]
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    entropy = setting.actions.entropy(pi)
    value_loss, error = regression(batch.extra["target"], setting.v(params, batch.obs), batch.weight)
    policy_loss = -total(gain + hyper["entropy_coefficient"] * entropy, batch.weight)
    mean = batch.weight.sum(dim=(0, 2)).clamp(min=1e-12)
    divergence = total((ratio - 1 - change).detach(), batch.weight) / mean  # an estimate of KL(π_old ‖ π) that is ≥ 0
    metrics = {
        "loss/value_error": error,
        "loss/kl": divergence,
        "loss/clipped": total(((ratio - 1).abs() > clip).float(), batch.weight) / mean,
        "explore/entropy": total(entropy.detach(), batch.weight) / mean,
        "stop": (divergence > hyper["stop_at_kl"].squeeze(-1)).float(),
    }
    return policy_loss + hyper["value_coefficient"].squeeze(-1) * value_loss, metrics


def normalised(advantage: Tensor, weight: Tensor) -> Tensor:
    """(Â − mean)/deviation over each member's own rows; rows of weight 0 do not count."""
    share = weight / weight.sum(dim=(0, 2), keepdim=True).clamp(min=1e-12)
    centred = advantage - (share * advantage).sum(dim=(0, 2), keepdim=True)
    return centred / ((share * centred.square()).sum(dim=(0, 2), keepdim=True).sqrt() + 1e-8)


ALGORITHM = Algorithm(
    roles=("pi", "v"),
    act=by_policy,
    loss=loss,
    judged="behaviour",
    source="Schulman et al. 2017",
    continuous=True,
    prepare=prepare,
    hyper={
        "lambda_": (0.0, 1.0),
        "clip": (0.0, math.inf),
        "stop_at_kl": (0.0, math.inf),
        "value_coefficient": (0.0, math.inf),
        "entropy_coefficient": (0.0, math.inf),
    },
)
