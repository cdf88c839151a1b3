"""Expected Sarsa: learn Q of the policy that acts, averaging over its next action (S&B section 6.6)."""

import torch
from torch import Tensor

from rlnet.algos.contract import (
    Algorithm,
    Hyper,
    Metrics,
    Params,
    Setting,
    by_values,
    ends,
    expectation,
    regression,
    take,
)
from rlnet.data import Rollout
from rlnet.returns import td_target


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """½·(R + γ·Σ_a π(a|S')·Q(S', a) − Q(S, A))², S&B eq. 6.9."""
    with torch.no_grad():
        next_q = setting.q(target_params, batch.next_obs)
        next_value = expectation(by_values(setting, target_params, batch.next_obs, hyper), next_q)
        target = td_target(batch.reward, ends(batch, hyper, lambda_=0.0).discount, next_value)
    loss, error = regression(target, take(setting.q(params, batch.obs), batch.action), batch.weight)
    return loss, {"loss/td_error": error}


ALGORITHM = Algorithm(roles=("q",), act=by_values, loss=loss, judged="behaviour", source="S&B section 6.6")
