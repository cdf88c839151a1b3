"""Soft actor-critic for discrete actions at a fixed temperature (Christodoulou 2019; Haarnoja et al. 2018).

It solves the entropy-regularised problem: maximise Σ γ^t·(R + τ·H(π(·|S_t))). Expectations over actions are sums, not
samples. Two critics are learned and the lower of them is believed, in the target and by the actor.
"""

import torch
from torch import Tensor

from rlnet.algos.algorithm import Algorithm, Hyper, Loss, Params, Setting, by_policy
from rlnet.algos.loss_terms import ends, expectation, regression, take, total
from rlnet.algos.returns import n_step_return
from rlnet.data.rollout import Rollout

CRITICS = ("q", "q2")


def loss(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Loss:
    """Σ_i ½·(R + γ·(E_π[min_i Q⁻_i(S', ·)] + τ·H(π(·|S'))) − Q_i(S, A))² − E_π[min_i Q_i(S, ·)] − τ·H(π(·|S))."""
    temperature = hyper["temperature"]
    with torch.no_grad():
        pi = setting.policy(params, batch.next_obs)
        bonus = temperature * setting.actions.entropy(pi)
        target = soft_target(batch, hyper, expectation(pi.exp(), _least(setting, target_params, batch.next_obs)), bonus)
        least = _least(setting, params, batch.obs)
    taken = [take(setting.q(params, batch.obs, role), batch.action) for role in CRITICS]
    losses, errors = zip(*(regression(target, q, batch.weight) for q in taken), strict=True)
    pi = setting.policy(params, batch.obs)
    entropy = setting.actions.entropy(pi)
    gain = total(expectation(pi.exp(), least) + temperature * entropy, batch.weight)
    mean = batch.weight.sum(dim=(0, 2)).clamp(min=1e-12)
    metrics = {"loss/td_error": errors[0], "explore/entropy": total(entropy.detach(), batch.weight) / mean}
    return Loss(sum(losses) - gain, metrics, target - sum(taken).detach() / len(CRITICS))


def soft_target(batch: Rollout, hyper: Hyper, next_value: Tensor, bonus: Tensor) -> Tensor:
    """R + γ·(v(S') + bonus(S')), or the sum of n such rewards before v, uncorrected for the behaviour.

    Args:
        next_value, bonus: of S', [n, M, B]; the bonus is the temperature times the policy's entropy there.
    """
    discount, trace = ends(batch, hyper, lambda_=1.0)
    reward = batch.reward + discount * trace * bonus  # of the states on the way; that of the last one is in its value
    return n_step_return(reward, discount, trace, next_value + bonus, n=len(reward))


def _least(setting: Setting, params: Params, obs: Tensor) -> Tensor:
    return torch.minimum(*(setting.q(params, obs, role) for role in CRITICS))


ALGORITHM = Algorithm(
    roles=("pi", *CRITICS),
    act=by_policy,
    loss=loss,
    judged="actor",
    source="Christodoulou 2019",
    replays=True,
    hyper={"temperature": (1e-6, float("inf"))},
    temperature=lambda hyper: hyper["temperature"],
)
