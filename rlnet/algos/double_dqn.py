"""Double DQN: the current network chooses the action, the target network values it (van Hasselt et al. 2016)."""

import torch
from torch import Tensor

from rlnet.algos.contract import Algorithm, Hyper, Metrics, Params, Setting, by_values, ends, regression, take
from rlnet.data import Rollout
from rlnet.returns import n_step_return


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """½·(R + … + γ^n·Q⁻(S_n, argmax_a Q(S_n, a)) − Q(S, A))²."""
    with torch.no_grad():
        best = setting.q(params, batch.next_obs).argmax(-1)
        next_value = take(setting.q(target_params, batch.next_obs), best)
        target = n_step_return(batch.reward, *ends(batch, hyper, lambda_=1.0), next_value, n=len(batch.reward))
    loss, error = regression(target, take(setting.q(params, batch.obs), batch.action), batch.weight)
    return loss, {"loss/td_error": error}


ALGORITHM = Algorithm(
    roles=("q",), act=by_values, loss=loss, judged="greedy", source="van Hasselt et al. 2016", replays=True
)
