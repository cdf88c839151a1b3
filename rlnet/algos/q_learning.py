"""Q-learning: learn Q* while following another policy (S&B section 6.5; Watkins 1989)."""

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Target, by_values
from rlnet.algos.loss_terms import one_step
from rlnet.data.rollout import Rollout
from rlnet.numerics.loss_derivatives import largest


def target(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + γ·max_a Q(S', a), S&B eq. 6.8."""
    next_value = largest(setting.q(target_params, batch.next_obs))
    return Target(one_step(batch, hyper, next_value))


ALGORITHM = Algorithm(roles=("q",), act=by_values, target=target, judged="greedy", source="S&B section 6.5")
