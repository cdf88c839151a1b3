"""Residual gradient: descent on the squared TD error itself (S&B section 11.5; Baird 1995).

It converges, off-policy too, but to the minimum of E[δ²], which is not V^π where successors are random.
"""

from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, LossGradient, by_given
from rlnet.algos.context import AlgorithmContext, Hyper, Metrics, Params, V
from rlnet.algos.loss_terms import ends, ratio, regression
from rlnet.data.rollout import Rollout


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """ρ·½·(R + γ·V(S') − V(S))², with the gradient through V(S') too."""
    discount, _ = ends(batch, hyper, lambda_=0.0)
    difference = context.v(params, batch.state) - discount * context.v(params, batch.next_state)
    loss, error = regression(batch.reward, difference, batch.weight * ratio(context, batch))
    return loss, {"loss/td_error": error}


ALGORITHM = Algorithm(
    roles=(V,),
    acting=Acting(by_given),
    objective=LossGradient(loss),
    data=Data(off_policy=True),
    judged=Judged.GIVEN,
    source="S&B section 11.5",
)
