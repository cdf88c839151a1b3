"""Double DQN: the current network chooses the action, the target network values it (van Hasselt et al. 2016)."""

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Target, by_values
from rlnet.algos.loss_terms import REPLAY_HYPER, over_the_segment, take
from rlnet.data.rollout import Rollout


def target(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + … + γ^n·Q⁻(S_n, argmax_a Q(S_n, a))."""
    best = setting.q(params, batch.next_obs).argmax(-1)
    next_value = take(setting.q(target_params, batch.next_obs), best)
    return Target(over_the_segment(batch, hyper, batch.reward, next_value))


ALGORITHM = Algorithm(
    roles=("q",),
    act=by_values,
    target=target,
    judged="greedy",
    source="van Hasselt et al. 2016",
    replays=True,
    hyper=REPLAY_HYPER,
)
