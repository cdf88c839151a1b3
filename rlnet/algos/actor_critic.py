"""One-step actor-critic (S&B section 13.5)."""

import torch
from torch import Tensor

from rlnet.algos.algorithm import Algorithm, Hyper, Metrics, Params, Setting, by_policy
from rlnet.algos.loss_terms import POLICY_HYPER, baseline_of_others, one_step, policy_gradient, regression
from rlnet.data.rollout import Rollout


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−γ^t·δ·log π(A|S) + c·½·δ² with δ = R + γ·V(S') − V(S)."""
    with torch.no_grad():
        next_value = setting.v(target_params, batch.next_obs)
        target = one_step(batch, hyper, next_value)
    v = setting.v(params, batch.obs)
    value_loss, error = regression(target, v, batch.weight)
    advantage = (target - v).detach()
    advantage = advantage - baseline_of_others(setting, batch, hyper, advantage, batch.weight)
    policy_loss, metrics = policy_gradient(setting, params, batch, hyper, advantage, batch.weight)
    metrics["loss/td_error"] = error
    return policy_loss + hyper["value_coefficient"].squeeze(-1) * value_loss, metrics


ALGORITHM = Algorithm(
    roles=("pi", "v"),
    act=by_policy,
    loss=loss,
    judged="behaviour",
    source="S&B section 13.5",
    continuous=True,
    hyper=POLICY_HYPER,
)
