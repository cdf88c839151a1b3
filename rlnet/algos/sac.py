"""Soft actor-critic for bounded real actions: squashed Gaussian policy, two critics (Haarnoja et al. 2018).

With `automatic` 1 the temperature τ = `temperature`·e^θ is learned too: it rises while the policy's entropy is below
`target_entropy` for each action component, counted in units in which the bounds are −1 and 1; with 0 it is fixed.
"""

import math
from typing import cast

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, Loss, LossGradient, Update, by_policy
from rlnet.algos.context import PI, TEMPERATURE, AlgorithmContext, Hyper, Params
from rlnet.algos.loss_terms import regression, total
from rlnet.algos.sac_discrete import CRITICS, soft_target
from rlnet.data.rollout import Observation, Rollout, first_row
from rlnet.policies.distributions import SquashedGaussian


def loss(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Loss:
    """Σ_i ½·(R + γ·(min_i Q⁻_i(S', A') − τ·log π(A'|S')) − Q_i(S, A))² + τ·log π(Ã|S) − min_i Q_i(S, Ã).

    A' and Ã are drawn from the current policy; Ã carries the gradient to it (the reparameterisation).
    """
    actions = cast(SquashedGaussian, context.actions)
    exponent = params["temperature"]["value"]
    temperature = hyper["temperature"] * exponent.detach().exp()
    for_next, for_now = batch.extra["uniform"].chunk(2, dim=-1)
    with torch.no_grad():
        action, log_prob = actions.draw(context.policy(params, batch.next_state), for_next)
        next_value = _least(context, target_params, batch.next_state, action)
        target = soft_target(batch, hyper, next_value, -temperature * log_prob)
    batch, for_now = first_row(batch), for_now[:1]
    taken = [context.q_of(params, batch.state, batch.action, role) for role in CRITICS]
    losses, errors = zip(*(regression(target, q, batch.weight) for q in taken), strict=True)
    action, log_prob = actions.draw(context.policy(params, batch.state), for_now)
    frozen: Params = {role: {name: tensor.detach() for name, tensor in params[role].items()} for role in CRITICS}
    cost = total(temperature * log_prob - _least(context, frozen, batch.state, action), batch.weight)
    mean = batch.weight.sum(dim=(0, 2)).clamp(min=1e-12)
    entropy = -total(log_prob.detach(), batch.weight) / mean
    wanted = actions.log_scale + hyper["target_entropy"].squeeze(-1) * actions.shape[0]
    adjust = (hyper["automatic"] * exponent).squeeze(-1) * (entropy - wanted)
    metrics = {"loss/td_error": errors[0], "explore/entropy": entropy, "explore/temperature": temperature.squeeze(-1)}
    return Loss(sum(losses) + cost + adjust, metrics, target - torch.add(*taken).detach() / len(CRITICS))


def _least(context: AlgorithmContext, params: Params, state: Observation, action: Tensor) -> Tensor:
    return torch.minimum(*(context.q_of(params, state, action, role) for role in CRITICS))


ALGORITHM = Algorithm(
    roles=(PI, *CRITICS, TEMPERATURE),
    acting=Acting(by_policy, discrete=False, continuous=True, squashes=True),
    objective=LossGradient(loss),
    data=Data(replay=True),
    update=Update(draws=lambda context: 2 * context.actions.shape[0]),
    judged=Judged.ACTOR,
    hyper={"temperature": (1e-6, math.inf), "automatic": (0.0, 1.0), "target_entropy": (-math.inf, math.inf)},
    source="Haarnoja et al. 2018",
)
