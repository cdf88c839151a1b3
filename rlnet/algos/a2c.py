"""Advantage actor-critic: a policy gradient with generalised advantages (Mnih et al. 2016; Schulman et al. 2016).

λ = 0 is the one-step actor-critic. λ = 1 is the n-step actor-critic of Mnih et al.: every advantage reaches to the
end of the rollout, Â_t = R_{t+1} + … + γ^{T−t}·V(S_T) − V(S_t). With λ < 1 a V that is not V^π biases the gradient.
"""

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Judged, LossGradient, by_policy
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Metrics, Params, V
from rlnet.algos.loss_terms import POLICY_HYPER, baseline_of_others, ends, following_values, policy_gradient, regression
from rlnet.algos.returns import gae
from rlnet.data.rollout import Rollout


def advantages(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> tuple[Tensor, Tensor]:
    """Generalised advantages Â_t and value targets Â_t + V(S_t), without gradient: [T, M, N] each."""
    with torch.no_grad():
        value = context.v(params, batch.state)
        next_value = following_values(context, params, batch, value)
        discount, trace = ends(batch, hyper, hyper["lambda_"])
        advantage = gae(batch.reward, discount, trace, value, next_value)
    return advantage, advantage + value


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−γ^(κ·t)·(Â·log π(A|S) + c_H·H(π(·|S))) + c·½·(Â + V⁻(S) − V(S))², κ = `state_discount`."""
    advantage, target = advantages(context, target_params, batch, hyper)
    value_loss, error = regression(target, context.v(params, batch.state), batch.weight)
    advantage = advantage - baseline_of_others(context, batch, hyper, advantage, batch.weight)
    policy_loss, metrics = policy_gradient(context, params, batch, hyper, advantage, batch.weight)
    metrics["loss/value_error"] = error
    return policy_loss + hyper["value_coefficient"].squeeze(-1) * value_loss, metrics


ALGORITHM = Algorithm(
    roles=(PI, V),
    acting=Acting(by_policy, continuous=True),
    objective=LossGradient(loss),
    judged=Judged.BEHAVIOUR,
    hyper={**POLICY_HYPER, "lambda_": (0.0, 1.0)},
    source="Mnih et al. 2016",
)
