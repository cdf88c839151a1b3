"""Munchausen DQN: soft Q-learning that adds α·τ·log π(A|S) to its own rewards (Vieillard et al. 2020).

Without the floor l, π = softmax(Q/τ) at its fixed point is the optimal policy of the problem with entropy at the
temperature (1 − α)·τ, and Q − α·τ·log π is that problem's Q*: the bonus widens the gaps between the actions' values.
"""

import math

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import REPLAY_HYPER
from rlnet.algos.soft_q import scaled_log_policy, soft_target, soft_value
from rlnet.data.rollout import Observation, Rollout


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + α·max(l, τ·log π⁻(A|S)) + γ·τ·log Σ_a exp(Q⁻(S', a)/τ) with the floor l, eq. 1 of the paper.

    (The expectation of Q⁻ − τ·log π⁻ under π⁻, as it stands there, is the log-sum-exp.)
    """
    confidence = torch.maximum(scaled_log_policy(context, target_params, batch, hyper), hyper["floor"])
    return soft_target(context, target_params, batch, hyper, batch.reward + hyper["bonus"] * confidence)


def values(context: AlgorithmContext, params: Params, state: Observation, hyper: Hyper) -> Tensor:
    """Q − α·τ·log π = (1 − α)·Q + α·V, which can be compared with the exact Q*: [..., M, N, A]."""
    q, bonus = context.q(params, state), hyper["bonus"].unsqueeze(-1)
    return (1 - bonus) * q + bonus * soft_value(q, hyper["temperature"]).unsqueeze(-1)


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=SemiGradient(target),
    data=Data(replay=True),
    judged=Judged.SOFT,
    temperature=lambda hyper: (1 - hyper["bonus"]) * hyper["temperature"],
    values=values,
    hyper={**REPLAY_HYPER, "temperature": (1e-6, 1e6), "bonus": (0.0, 0.999), "floor": (-math.inf, 0.0)},
    source="Vieillard et al. 2020",
)
