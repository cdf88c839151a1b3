"""Estimators of KL(π ‖ π_ref) from sampled actions: k1, k2, k3 (Schulman 2020), of tokens or of sequences."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def kl_estimate(log_ratio: Tensor, kind: str, importance: Tensor | float = 1.0) -> Tensor:
    """Estimator of KL(π ‖ π_ref) from d = log π − log π_ref of samples of π (Schulman 2020).

    `k1` d; `k2` d²/2; `k3` e^−d − 1 + d; `ratio_k3` π/π_old·k3. All have the shape of d.

    Args:
        log_ratio: d, of tokens or of sequences.
        kind: k1, k2, k3 or ratio_k3.
        importance: π/π_old, for ratio_k3 alone.
    """
    if kind == "k1":
        return log_ratio
    if kind == "k2":
        return 0.5 * log_ratio.square()
    k3 = torch.expm1(-log_ratio) + log_ratio
    return importance * k3 if kind == "ratio_k3" else k3


def penalty(
    options: Mapping[str, Any], log_prob: Tensor, reference: Tensor, old: Tensor, valid: Tensor
) -> tuple[Tensor, bool]:
    """KL estimate that `options` choose, and whether it is one of tokens [T, M, N], or else of sequences [M, N].

    Args:
        options: those of `grpo`: kl, kl_of.
        log_prob, reference, old: log-probabilities of the taken actions under π, π_ref and π_old, [T, M, N].
        valid: [T, M, N], 1 for rows of an episode, else 0.
    """
    log_ratio, importance = (log_prob - reference) * valid, ((log_prob - old) * valid)
    tokens = options["kl_of"] == "token"
    if not tokens:
        log_ratio, importance = log_ratio.sum(0), importance.sum(0)
    estimate = kl_estimate(log_ratio, options["kl"], importance.exp())
    return (estimate * valid, True) if tokens else (estimate, False)
