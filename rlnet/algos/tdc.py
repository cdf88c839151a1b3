"""TDC, TD with gradient correction: off-policy prediction that converges with linear functions (S&B section 11.7).

A second network h of the same class predicts δ, at `rate` times the learning rate (Sutton et al. 2009). Of networks
that are not linear, the term with the second derivative of V is left out.
"""

import torch
from torch import Tensor

from rlnet.algos.contract import (
    Algorithm,
    Hyper,
    Metrics,
    Params,
    Setting,
    by_given,
    ends,
    ratio,
    regression,
    total,
)
from rlnet.data import Rollout


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−ρ·(δ⁻·V(S) − γ·h⁻(S)·V(S')) + rate·ρ·½·(δ⁻ − h(S))²; ⁻ marks what no gradient flows through."""
    discount, _ = ends(batch, hyper, lambda_=0.0)
    v, next_v, h = setting.v(params, batch.obs), setting.v(params, batch.next_obs), setting.h(params, batch.obs)
    delta = (batch.reward + discount * next_v - v).detach()
    weight = batch.weight * ratio(setting, batch)
    correction, _ = regression(delta, h, weight)
    gain = total(delta * v - discount * h.detach() * next_v, weight)
    size = (total(delta.square(), batch.weight) / batch.weight.sum(dim=(0, 2))).sqrt()
    return hyper["rate"].squeeze(-1) * correction - gain, {"loss/td_error": size}


ALGORITHM = Algorithm(
    roles=("v", "h"),
    act=by_given,
    loss=loss,
    judged="given",
    source="S&B section 11.7",
    off_policy=True,
    hyper={"rate": (0.0, torch.inf)},
)
