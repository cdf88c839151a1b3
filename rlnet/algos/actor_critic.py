"""One-step actor-critic (S&B section 13.5)."""

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Judged, LossGradient, by_policy
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Metrics, Params, V
from rlnet.algos.loss_terms import POLICY_HYPER, baseline_of_others, one_step, policy_gradient, regression
from rlnet.data.rollout import Rollout


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−γ^(κ·t)·(δ·log π(A|S) + c_H·H(π(·|S))) + c·½·δ², δ = R + γ·V(S') − V(S), κ = `state_discount`."""
    with torch.no_grad():
        next_value = context.v(target_params, batch.next_state)
        target = one_step(batch, hyper, next_value)
    v = context.v(params, batch.state)
    value_loss, error = regression(target, v, batch.weight)
    advantage = (target - v).detach()
    advantage = advantage - baseline_of_others(context, batch, hyper, advantage, batch.weight)
    policy_loss, metrics = policy_gradient(context, params, batch, hyper, advantage, batch.weight)
    metrics["loss/td_error"] = error
    return policy_loss + hyper["value_coefficient"].squeeze(-1) * value_loss, metrics


ALGORITHM = Algorithm(
    roles=(PI, V),
    acting=Acting(by_policy, continuous=True),
    objective=LossGradient(loss),
    judged=Judged.BEHAVIOUR,
    hyper=POLICY_HYPER,
    source="S&B section 13.5",
)
