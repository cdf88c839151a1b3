"""Soft Q-learning: Q* of the entropy-regularised problem, from replay (Haarnoja et al. 2017; Ziebart 2010).

With V(s) = τ·log Σ_a exp(Q(s, a)/τ) and π = softmax(Q/τ), V(s) = Q(s, a) − τ·log π(a|s) holds for *every* action. The
n-step target uses it for the actions on its way, so that its fixed point does not depend on who acted (path
consistency, Nachum et al. 2017).
"""

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import REPLAY_HYPER, segment_end, segment_return, take
from rlnet.data.rollout import Rollout


def soft_value(q: Tensor, temperature: Tensor) -> Tensor:
    """Soft value τ·log Σ_a exp(q(a)/τ) over the available actions: [..., M, N, A], τ [M, 1] → [..., M, N]."""
    return temperature * torch.logsumexp(q / temperature.unsqueeze(-1), dim=-1)


def scaled_log_policy(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> Tensor:
    """τ·log π(A|S) = Q(S, A) − V(S) of the rows: [T, M, N]."""
    q = context.q(params, batch.state)
    return take(q, batch.action) - soft_value(q, hyper["temperature"])


def soft_target(
    context: AlgorithmContext, target_params: Params, batch: Rollout, hyper: Hyper, reward: Tensor
) -> Target:
    """R + γ·(R' − τ·log π⁻(A'|S')) + … + γ^n·V⁻(S_n) for the given rewards [T, M, N]."""
    end_value = soft_value(context.q(target_params, segment_end(batch)), hyper["temperature"])
    if len(reward) > 1:
        entropy = -scaled_log_policy(context, target_params, batch, hyper)
        reward = torch.cat((reward[:1], reward[1:] + entropy[1:]))
    return Target(segment_return(batch, hyper, reward, end_value))


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + γ·τ·log Σ_a exp(Q⁻(S', a)/τ), and so on for n steps."""
    return soft_target(context, target_params, batch, hyper, batch.reward)


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=SemiGradient(target),
    data=Data(replay=True),
    judged=Judged.SOFT,
    temperature=lambda hyper: hyper["temperature"],
    hyper={**REPLAY_HYPER, "temperature": (1e-6, 1e6)},
    source="Haarnoja et al. 2017",
)
