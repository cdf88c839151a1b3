"""TDC, TD with gradient correction: off-policy prediction that converges with linear functions (S&B section 11.7).

A second network h of the same class predicts δ, at `rate` times the learning rate (Sutton et al. 2009). Of networks
that are not linear, the term with the second derivative of V is left out.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, LossGradient, by_given
from rlnet.algos.context import AlgorithmContext, H, Hyper, Metrics, Params, V
from rlnet.algos.loss_terms import ends, ratio, regression, total
from rlnet.data.rollout import Rollout


def projected_step(
    context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper, gain: Callable[..., Tensor]
) -> tuple[Tensor, Metrics]:
    """−ρ·gain(δ⁻, V(S), γ·V(S'), h⁻(S)) + rate·ρ·½·(δ⁻ − h(S))²; ⁻ marks what no gradient flows through."""
    discount, _ = ends(batch, hyper, lambda_=0.0)
    v, h = context.v(params, batch.state), context.h(params, batch.state)
    next_v = discount * context.v(params, batch.next_state)
    delta = (batch.reward + next_v - v).detach()
    weight = batch.weight * ratio(context, batch)
    correction, _ = regression(delta, h, weight)
    size = (total(delta.square(), batch.weight) / batch.weight.sum(dim=(0, 2))).sqrt()
    loss = hyper["rate"].squeeze(-1) * correction - total(gain(delta, v, next_v, h.detach()), weight)
    return loss, {"loss/td_error": size}


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−ρ·(δ⁻·V(S) − γ·h⁻(S)·V(S')) + rate·ρ·½·(δ⁻ − h(S))²."""
    return projected_step(context, params, batch, hyper, lambda delta, v, next_v, h: delta * v - h * next_v)


ALGORITHM = Algorithm(
    roles=(V, H),
    acting=Acting(by_given),
    objective=LossGradient(loss),
    data=Data(off_policy=True),
    judged=Judged.GIVEN,
    hyper={"rate": (0.0, torch.inf)},
    source="S&B section 11.7",
)
