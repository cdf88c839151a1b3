"""QR-DQN: learn K quantiles of the return of every action, and act by their mean (Dabney et al. 2018)."""

import math

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, Loss, LossGradient, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import ends, rms, segment_end, total
from rlnet.algos.returns import n_step_return
from rlnet.data.rollout import Rollout, first_row


def loss(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Loss:
    """Σ_i mean_j |τ_i − 1{u_ij < 0}|·h(u_ij), u_ij = R + … + γ^n·θ⁻_j(S_n, a*) − θ_i(S, A), τ_i = (i − ½)/K.

    a* maximises the mean of θ⁻; h is the Huber loss over κ = `huber` (eq. 10 of the paper over κ), for κ = 0 |u|.
    """
    count = context.quantiles
    with torch.no_grad():
        end = segment_end(batch)
        best = context.q(target_params, end).argmax(-1)
        following = _of(context.return_quantiles(target_params, end), best)  # [1, M, B, K]
        rows = batch.reward, *ends(batch, hyper, lambda_=1.0)
        reward, discount, trace, following = torch.broadcast_tensors(*(x.unsqueeze(-1) for x in rows), following)
        target = n_step_return(reward, discount, trace, following, n=len(reward))[:1]
    batch = first_row(batch)
    estimate = _of(context.return_quantiles(params, batch.state), batch.action)
    error = target.unsqueeze(-2) - estimate.unsqueeze(-1)  # [1, M, B, i, j]
    level = (torch.arange(count, device=error.device) + 0.5) / count
    tilt = (level.unsqueeze(-1) - (error.detach() < 0).to(error.dtype)).abs()
    row = (tilt * _huber(error.abs(), hyper["huber"][..., None, None])).mean(-1).sum(-1)
    missed = (target.mean(-1) - estimate.mean(-1)).detach()
    return Loss(total(row, batch.weight), {"loss/td_error": rms(missed, batch.weight)}, missed)


def _of(quantiles: Tensor, action: Tensor) -> Tensor:
    """Quantiles of one action: [..., A, K], int64 [...] → [..., K]."""
    index = action[..., None, None].expand(*action.shape, 1, quantiles.shape[-1])
    return quantiles.gather(-2, index).squeeze(-2)


def _huber(size: Tensor, threshold: Tensor) -> Tensor:
    """Huber loss over κ: |u| − κ/2 beyond κ, u²/(2·κ) within; |u| where κ = 0."""
    return torch.where(size < threshold, size.square() / (2 * threshold.clamp(min=1e-12)), size - 0.5 * threshold)


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=LossGradient(loss),
    data=Data(replay=True),
    judged=Judged.GREEDY,
    hyper={"huber": (0.0, math.inf)},
    options={"quantiles": range(1, 10_001)},
    source="Dabney et al. 2018",
)
