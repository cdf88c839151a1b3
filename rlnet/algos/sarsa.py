"""Sarsa: learn Q of the policy that acts, from the action that it took next (S&B section 6.4; Rummery & Niranjan 1994).

A row is learned from once its next action is known, which is in the next row (`lookback=1`). At a truncation no next
action was taken; the target then takes the expectation over it.
"""

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import expectation, one_step, take
from rlnet.data.rollout import Rollout


def next_values(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> Tensor:
    """Q(S', A'), or Σ_a π(a|S')·Q(S', a) where an episode ended: [T, M, N]; not valid in the last row, without A'."""
    next_q = context.q(params, batch.next_state)
    expected = expectation(by_values(context, params, batch.next_state, hyper), next_q)
    return torch.where(batch.terminated | batch.truncated, expected, take(next_q, batch.action.roll(-1, dims=0)))


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + γ·Q(S', A'), S&B eq. 6.7."""
    next_value = next_values(context, target_params, batch, hyper)
    return Target(one_step(batch, hyper, next_value))


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=SemiGradient(target),
    data=Data(lookback=1),
    judged=Judged.BEHAVIOUR,
    source="S&B section 6.4",
)
