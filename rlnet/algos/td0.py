"""TD(0) prediction: learn V of a given policy by bootstrapping (S&B section 6.1; Sutton 1988)."""

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Target, by_given
from rlnet.algos.loss_terms import one_step, ratio
from rlnet.data.rollout import Rollout


def target(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + γ·V(S'), S&B eq. 6.2; weighted by ρ where another policy acts, eq. 11.2."""
    next_value = setting.v(target_params, batch.next_obs)
    value = one_step(batch, hyper, next_value)
    return Target(value, batch.weight * ratio(setting, batch))


ALGORITHM = Algorithm(
    roles=("v",), act=by_given, target=target, judged="given", source="S&B section 6.1", off_policy=True
)
