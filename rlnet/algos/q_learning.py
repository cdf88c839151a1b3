"""Q-learning: learn Q* while following another policy (S&B section 6.5; Watkins 1989)."""

import torch
from torch import Tensor

from rlnet.algos.contract import Algorithm, Hyper, Metrics, Params, Setting, by_values, ends, regression, take
from rlnet.data import Rollout
from rlnet.returns import td_target


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """½·(R + γ·max_a Q(S', a) − Q(S, A))², S&B eq. 6.8."""
    with torch.no_grad():
        next_value = setting.q(target_params, batch.next_obs).amax(-1)
        target = td_target(batch.reward, ends(batch, hyper, lambda_=0.0).discount, next_value)
    loss, error = regression(target, take(setting.q(params, batch.obs), batch.action), batch.weight)
    return loss, {"loss/td_error": error}


ALGORITHM = Algorithm(roles=("q",), act=by_values, loss=loss, judged="greedy", source="S&B section 6.5")
