"""DQN: Q-learning on segments of a replay, bootstrapping from a target network (Mnih et al. 2015).

With n_step > 1 a target takes n rewards before it bootstraps, uncorrected for the behaviour (Hessel et al. 2018).
"""

import torch
from torch import Tensor

from rlnet.algos.contract import Algorithm, Hyper, Metrics, Params, Setting, by_values, ends, regression, take
from rlnet.data import Rollout
from rlnet.returns import n_step_return


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """½·(R + … + γ^n·max_a Q⁻(S_n, a) − Q(S, A))²."""
    with torch.no_grad():
        next_value = setting.q(target_params, batch.next_obs).amax(-1)
        target = n_step_return(batch.reward, *ends(batch, hyper, lambda_=1.0), next_value, n=len(batch.reward))
    loss, error = regression(target, take(setting.q(params, batch.obs), batch.action), batch.weight)
    return loss, {"loss/td_error": error}


ALGORITHM = Algorithm(roles=("q",), act=by_values, loss=loss, judged="greedy", source="Mnih et al. 2015", replays=True)
