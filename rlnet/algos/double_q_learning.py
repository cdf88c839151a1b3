"""Double Q-learning: each of two Q bootstraps from the other's value of its best action (van Hasselt 2010).

The maximum over noisy estimates is too large on average; a value that was estimated from other samples than those
that chose the action is not (S&B section 6.7). Actions are chosen by the mean of both.
"""

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Judged, LossGradient, Update, by_values
from rlnet.algos.context import Q2, AlgorithmContext, Hyper, Metrics, Params, Q
from rlnet.algos.loss_terms import ends, expectation, regression, take
from rlnet.algos.returns import td_target
from rlnet.data.rollout import Rollout
from rlnet.policies.exploration import greedy


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """½·(R + γ·Q2(S', argmax_a Q1(S', a)) − Q1(S, A))² with probability ½, else with 1 and 2 swapped."""
    heads = batch.extra["uniform"][..., 0] < 0.5
    discount = ends(batch, hyper, lambda_=0.0).discount
    losses = []
    for role, other, chosen in (("q", "q2", heads), ("q2", "q", ~heads)):
        with torch.no_grad():
            best = greedy(context.q(target_params, batch.next_state, role))  # among several: the mean over them
            next_value = expectation(best, context.q(target_params, batch.next_state, other))
            target = td_target(batch.reward, discount, next_value)
        estimate = take(context.q(params, batch.state, role), batch.action)
        losses.append(regression(target, estimate, batch.weight * chosen)[0])
    total = torch.add(*losses)
    return total, {"loss/td_error": (2 * total.detach() / batch.weight.sum(dim=(0, 2))).sqrt()}


ALGORITHM = Algorithm(
    roles=(Q, Q2),
    acting=Acting(by_values),
    objective=LossGradient(loss),
    update=Update(draws=lambda context: 1),
    judged=Judged.GREEDY,
    source="S&B section 6.7",
)
