"""DQN: Q-learning on segments of a replay, bootstrapping from a target network (Mnih et al. 2015).

With n_step > 1 a target takes n rewards before it bootstraps, uncorrected for the behaviour (Hessel et al. 2018).
"""

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Target, by_values
from rlnet.algos.loss_terms import REPLAY_HYPER, over_the_segment
from rlnet.data.rollout import Rollout
from rlnet.numerics.loss_derivatives import largest


def target(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + … + γ^n·max_a Q⁻(S_n, a)."""
    next_value = largest(setting.q(target_params, batch.next_obs))
    return Target(over_the_segment(batch, hyper, batch.reward, next_value))


ALGORITHM = Algorithm(
    roles=("q",),
    act=by_values,
    target=target,
    judged="greedy",
    source="Mnih et al. 2015",
    replays=True,
    hyper=REPLAY_HYPER,
)
