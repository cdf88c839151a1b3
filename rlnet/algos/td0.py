"""TD(0) prediction: learn V of a given policy by bootstrapping (S&B section 6.1; Sutton 1988)."""

import torch
from torch import Tensor

from rlnet.algos.contract import Algorithm, Hyper, Metrics, Params, Setting, by_given, ends, ratio, regression
from rlnet.data import Rollout
from rlnet.returns import td_target


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """ρ·½·(R + γ·V(S') − V(S))², S&B eq. 6.2, and eq. 11.2 where another policy acts."""
    with torch.no_grad():
        next_value = setting.v(target_params, batch.next_obs)
        target = td_target(batch.reward, ends(batch, hyper, lambda_=0.0).discount, next_value)
    loss, error = regression(target, setting.v(params, batch.obs), batch.weight * ratio(setting, batch))
    return loss, {"loss/td_error": error}


ALGORITHM = Algorithm(roles=("v",), act=by_given, loss=loss, judged="given", source="S&B section 6.1", off_policy=True)
