"""Expected Sarsa: learn Q of the policy that acts, averaging over its next action (S&B section 6.6)."""

from rlnet.algos.algorithm import Acting, Algorithm, Judged, SemiGradient, Target, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import expectation, one_step
from rlnet.data.rollout import Rollout


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + γ·Σ_a π(a|S')·Q(S', a), S&B eq. 6.9."""
    next_q = context.q(target_params, batch.next_state)
    next_value = expectation(by_values(context, target_params, batch.next_state, hyper), next_q)
    return Target(one_step(batch, hyper, next_value))


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=SemiGradient(target),
    judged=Judged.BEHAVIOUR,
    source="S&B section 6.6",
)
