"""Munchausen DQN: soft Q-learning that adds α·τ·log π(A|S) to its own rewards (Vieillard et al. 2020).

Without the floor, π = softmax(Q/τ) at its fixed point is the optimal policy of the problem with entropy at the
temperature (1 − α)·τ, and Q − α·τ·log π is that problem's Q*: the bonus widens the gaps between the actions' values.
"""

import math

import torch
from torch import Tensor

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Target, by_values
from rlnet.algos.loss_terms import REPLAY_HYPER
from rlnet.algos.soft_q import scaled_log_policy, soft_target, soft_value
from rlnet.data.rollout import Rollout


def target(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + α·max(l, τ·log π⁻(A|S)) + γ·τ·log Σ_a exp(Q⁻(S', a)/τ) with the floor l, eq. 1 of the paper.

    (The expectation of Q⁻ − τ·log π⁻ under π⁻, as it stands there, is the log-sum-exp.)
    """
    confidence = torch.maximum(scaled_log_policy(setting, target_params, batch, hyper), hyper["floor"])
    return soft_target(setting, target_params, batch, hyper, batch.reward + hyper["bonus"] * confidence)


def values(setting: Setting, params: Params, obs: Tensor, hyper: Hyper) -> Tensor:
    """Q − α·τ·log π = (1 − α)·Q + α·V, which can be compared with the exact Q*: [..., M, N, A]."""
    q, bonus = setting.q(params, obs), hyper["bonus"].unsqueeze(-1)
    return (1 - bonus) * q + bonus * soft_value(q, hyper["temperature"]).unsqueeze(-1)


ALGORITHM = Algorithm(
    roles=("q",),
    act=by_values,
    target=target,
    judged="soft",
    source="Vieillard et al. 2020",
    replays=True,
    hyper={**REPLAY_HYPER, "temperature": (1e-6, 1e6), "bonus": (0.0, 0.999), "floor": (-math.inf, 0.0)},
    temperature=lambda hyper: (1 - hyper["bonus"]) * hyper["temperature"],
    values=values,
)
