"""Expected Sarsa: learn Q of the policy that acts, averaging over its next action (S&B section 6.6)."""

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Target, by_values
from rlnet.algos.loss_terms import expectation, one_step
from rlnet.data.rollout import Rollout


def target(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + γ·Σ_a π(a|S')·Q(S', a), S&B eq. 6.9."""
    next_q = setting.q(target_params, batch.next_obs)
    next_value = expectation(by_values(setting, target_params, batch.next_obs, hyper), next_q)
    return Target(one_step(batch, hyper, next_value))


ALGORITHM = Algorithm(roles=("q",), act=by_values, target=target, judged="behaviour", source="S&B section 6.6")
