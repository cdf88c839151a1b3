"""Soft actor-critic for discrete actions at a fixed temperature (Christodoulou 2019; Haarnoja et al. 2018).

It solves the entropy-regularised problem: maximise Σ γ^t·(R + τ·H(π(·|S_t))). Expectations over actions are sums, not
samples. The target and the actor use the minimum of two critics.
"""

from typing import cast

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, Loss, LossGradient, by_policy
from rlnet.algos.context import PI, Q2, AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import ends, expectation, regression, take, total
from rlnet.algos.returns import n_step_return
from rlnet.data.rollout import Observation, Rollout, first_row
from rlnet.policies.distributions import Density

CRITICS = (Q, Q2)


def loss(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Loss:
    """Σ_i ½·(R + γ·(E_π[min_i Q⁻_i(S', ·)] + τ·H(π(·|S'))) − Q_i(S, A))² − E_π[min_i Q_i(S, ·)] − τ·H(π(·|S))."""
    actions, temperature = cast(Density, context.actions), hyper["temperature"]
    with torch.no_grad():
        pi = context.policy(params, batch.next_state)
        bonus = temperature * actions.entropy(pi)
        value = expectation(pi.exp(), _least(context, target_params, batch.next_state))
        target = soft_target(batch, hyper, value, bonus)
        batch = first_row(batch)
        least = _least(context, params, batch.state)
    taken = [take(context.q(params, batch.state, role), batch.action) for role in CRITICS]
    losses, errors = zip(*(regression(target, q, batch.weight) for q in taken), strict=True)
    pi = context.policy(params, batch.state)
    entropy = actions.entropy(pi)
    gain = total(expectation(pi.exp(), least) + temperature * entropy, batch.weight)
    mean = batch.weight.sum(dim=(0, 2)).clamp(min=1e-12)
    metrics = {"loss/td_error": errors[0], "explore/entropy": total(entropy.detach(), batch.weight) / mean}
    return Loss(sum(losses) - gain, metrics, target - torch.add(*taken).detach() / len(CRITICS))


def soft_target(batch: Rollout, hyper: Hyper, next_value: Tensor, bonus: Tensor) -> Tensor:
    """R + γ·(v(S') + bonus(S')), or the sum of n such rewards before v, uncorrected for the behaviour: [1, M, B].

    Args:
        next_value, bonus: of S', [n, M, B]; the bonus is the temperature times the policy's entropy there.
    """
    discount, trace = ends(batch, hyper, lambda_=1.0)
    reward = batch.reward + discount * trace * bonus  # of the states on the way; that of the last one is in its value
    return n_step_return(reward, discount, trace, next_value + bonus, n=len(reward))[:1]


def _least(context: AlgorithmContext, params: Params, state: Observation) -> Tensor:
    return torch.minimum(*(context.q(params, state, role) for role in CRITICS))


ALGORITHM = Algorithm(
    roles=(PI, *CRITICS),
    acting=Acting(by_policy),
    objective=LossGradient(loss),
    data=Data(replay=True),
    judged=Judged.ACTOR,
    temperature=lambda hyper: hyper["temperature"],
    hyper={"temperature": (1e-6, float("inf"))},
    source="Christodoulou 2019",
)
