"""DQN: Q-learning on segments of a replay, bootstrapping from a target network (Mnih et al. 2015).

With n_step > 1 a target takes n rewards before it bootstraps, uncorrected for the behaviour (Hessel et al. 2018).
"""

import torch

from rlnet.algos.contract import REPLAY_HYPER, Algorithm, Hyper, Loss, Params, Setting, by_values, n_step_loss
from rlnet.data import Rollout


def loss(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Loss:
    """½·(R + … + γ^n·max_a Q⁻(S_n, a) − Q(S, A))²."""
    with torch.no_grad():
        next_value = setting.q(target_params, batch.next_obs).amax(-1)
    return n_step_loss(setting, params, batch, hyper, batch.reward, next_value)


ALGORITHM = Algorithm(
    roles=("q",),
    act=by_values,
    loss=loss,
    judged="greedy",
    source="Mnih et al. 2015",
    replays=True,
    hyper=REPLAY_HYPER,
)
