"""Double DQN: the current network chooses the action, the target network values it (van Hasselt et al. 2016)."""

import torch

from rlnet.algos.contract import REPLAY_HYPER, Algorithm, Hyper, Loss, Params, Setting, by_values, n_step_loss, take
from rlnet.data import Rollout


def loss(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Loss:
    """½·(R + … + γ^n·Q⁻(S_n, argmax_a Q(S_n, a)) − Q(S, A))²."""
    with torch.no_grad():
        best = setting.q(params, batch.next_obs).argmax(-1)
        next_value = take(setting.q(target_params, batch.next_obs), best)
    return n_step_loss(setting, params, batch, hyper, batch.reward, next_value)


ALGORITHM = Algorithm(
    roles=("q",),
    act=by_values,
    loss=loss,
    judged="greedy",
    source="van Hasselt et al. 2016",
    replays=True,
    hyper=REPLAY_HYPER,
)
