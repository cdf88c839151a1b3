"""Q-learning: learn Q* while following another policy (S&B section 6.5; Watkins 1989)."""

from rlnet.algos.algorithm import Acting, Algorithm, Judged, SemiGradient, Target, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import one_step
from rlnet.data.rollout import Rollout
from rlnet.numerics.loss_derivatives import largest


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + γ·max_a Q(S', a), S&B eq. 6.8."""
    next_value = largest(context.q(target_params, batch.next_state))
    return Target(one_step(batch, hyper, next_value))


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=SemiGradient(target),
    judged=Judged.GREEDY,
    source="S&B section 6.5",
)
