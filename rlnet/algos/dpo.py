"""Direct preference optimisation, DPO (Rafailov et al. 2023), on preferences that are sampled from the true reward.

Of two completions of a prompt, drawn from the reference policy, y is preferred to z with the probability
σ(R(y) − R(z)) of Bradley and Terry (1952). Then the loss is least at π* ∝ π_ref·exp(R/β), the optimum of
E[R] − β·KL(π ‖ π_ref).
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, LossGradient, Update
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Metrics, Params
from rlnet.algos.grpo import played, taken
from rlnet.data.rollout import Observation, Rollout


def by_reference(context: AlgorithmContext, params: Params, state: Observation, hyper: Hyper) -> Tensor:
    """Act by the reference policy: [..., M, N, A]."""
    return context.actions.behaviour(context.reference_policy(state))


def prepare(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> dict[str, Tensor]:
    """log π_ref of the taken actions: [T, M, N]."""
    state, _ = played(batch)
    return {"reference": taken(context, context.reference_policy(state), batch.action)}


def preference(batch: Rollout) -> Tensor:
    """Bradley-Terry probability σ(R(y) − R(z)) that the first completion of each pair is preferred: [M, pairs]."""
    _, valid = played(batch)
    ret = (batch.reward * valid).sum(0).unflatten(-1, (-1, 2))
    return torch.sigmoid(ret[..., 0] - ret[..., 1])


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−log σ(β·(d(y) − d(z))), d = log π/π_ref, y the preferred completion, sampled by `preference`."""
    state, valid = played(batch)
    log_prob = taken(context, context.policy(params, state), batch.action)
    log_ratio = ((log_prob - batch.extra["reference"]) * valid).sum(0).unflatten(-1, (-1, 2))  # [M, pairs, 2]
    first = batch.extra["uniform"][0, :, ::2, 0] < preference(batch)
    margin = torch.where(first, 1.0, -1.0) * (log_ratio[..., 0] - log_ratio[..., 1])
    metrics = {"loss/kl": log_ratio.detach().mean((1, 2)), "loss/agreement": (margin.detach() > 0).float().mean(1)}
    return -logsigmoid(hyper["beta"] * margin).mean(1), metrics


ALGORITHM = Algorithm(
    roles=(PI,),
    acting=Acting(by_reference),
    objective=LossGradient(loss),
    data=Data(whole_episodes=True),
    update=Update(prepare=prepare, draws=lambda context: 1),
    judged=Judged.ACTOR,
    hyper={"beta": (1e-6, float("inf"))},
    options={"group": (2,)},
    regularisation=lambda hyper: hyper["beta"],
    source="Rafailov et al. 2023",
)
