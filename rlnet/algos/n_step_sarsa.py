"""n-step Sarsa: n rewards, then the action value of the action taken (S&B section 7.2).

A row waits for the n rows after it; at a truncation the expectation over the next action stands in for it, as in Sarsa.
"""

import torch
from torch import Tensor

from rlnet.algos.contract import Algorithm, Hyper, Metrics, Params, Setting, by_values, ends, regression, take
from rlnet.algos.sarsa import next_values
from rlnet.data import Rollout
from rlnet.returns import n_step_return


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """½·(R + … + γ^n·Q(S_n, A_n) − Q(S, A))², S&B eq. 7.5."""
    with torch.no_grad():
        next_value = next_values(setting, target_params, batch, hyper)
        target = n_step_return(batch.reward, *ends(batch, hyper, 1.0), next_value, setting.options["n_step"])
    loss, error = regression(target, take(setting.q(params, batch.obs), batch.action), batch.weight)
    return loss, {"loss/td_error": error}


ALGORITHM = Algorithm(
    roles=("q",),
    act=by_values,
    loss=loss,
    judged="behaviour",
    source="S&B section 7.2",
    options={"n_step": range(1, 100_000)},
    facts=lambda options: {"lookback": options["n_step"]},
)
