"""TD(0) prediction: learn V of a given policy by bootstrapping (S&B section 6.1; Sutton 1988)."""

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, by_given
from rlnet.algos.context import AlgorithmContext, Hyper, Params, V
from rlnet.algos.loss_terms import one_step, ratio
from rlnet.data.rollout import Rollout


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + γ·V(S'), S&B eq. 6.2; weighted by ρ where another policy acts, eq. 11.2."""
    next_value = context.v(target_params, batch.next_state)
    value = one_step(batch, hyper, next_value)
    return Target(value, batch.weight * ratio(context, batch))


ALGORITHM = Algorithm(
    roles=(V,),
    acting=Acting(by_given),
    objective=SemiGradient(target),
    data=Data(off_policy=True),
    judged=Judged.GIVEN,
    source="S&B section 6.1",
)
