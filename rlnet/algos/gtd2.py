"""GTD2: stochastic gradient descent on the mean squared projected Bellman error (S&B section 11.7).

A second network h of the same class predicts δ, at `rate` times the learning rate (Sutton et al. 2009). Of networks
that are not linear, the term with the second derivative of V is left out.
"""

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, LossGradient, by_given
from rlnet.algos.context import AlgorithmContext, H, Hyper, Metrics, Params, V
from rlnet.algos.tdc import projected_step
from rlnet.data.rollout import Rollout


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−ρ·h⁻(S)·(V(S) − γ·V(S')) + rate·ρ·½·(δ⁻ − h(S))²; ⁻ marks what no gradient flows through."""
    return projected_step(context, params, batch, hyper, lambda delta, v, next_v, h: h * (v - next_v))


ALGORITHM = Algorithm(
    roles=(V, H),
    acting=Acting(by_given),
    objective=LossGradient(loss),
    data=Data(off_policy=True),
    judged=Judged.GIVEN,
    hyper={"rate": (0.0, torch.inf)},
    source="S&B section 11.7",
)
