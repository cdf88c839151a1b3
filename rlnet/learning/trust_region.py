"""Trust region for Gaussian policies: optimiser steps scaled down to a maximal KL change of the policy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from rlnet.algos.loss_terms import mean
from rlnet.learning.optimizers import gradient_norms
from rlnet.policies.distributions import Gaussian


@contextmanager
@torch.no_grad()
def short_steps(
    policy: Callable[[], Tensor], actions: Gaussian, flat: Tensor, grad: Tensor, weight: Tensor, most: Tensor | float
) -> Iterator[None]:
    """Context manager: scale down the optimiser step taken inside where the policy's mean KL change exceeds `most`.

    An Adam step has the same length whatever the gradient, so a narrow Gaussian policy would move by many of its own
    standard deviations. The change is measured by the Fisher information (`Gaussian.change`) and limited by one
    rescaling of the step (a trust region as in Schulman et al. 2015).

    As the policy narrows, its advantages shrink by orders of magnitude within the memory of Adam's second moment, and
    steps would become too short: the policy's gradient is therefore normalised to length 1.

    Args:
        policy: computes the distribution parameters of the current policy.
        actions: the action distribution.
        flat: [M, P], the parameters of the policy's network.
        grad: [M, P], their gradient; normalised in place.
        weight: [T, M, N], weights of the rows in the mean change.
        most: maximal change, broadcastable to [M, 1].
    """
    grad /= gradient_norms(grad).clamp(min=1e-30)
    first, before = flat.clone(), policy()
    yield
    change = mean(actions.change(before, policy()), weight).unsqueeze(-1)
    share = (most / change).sqrt()  # exact where scores are linear in the parameters
    flat.copy_(torch.where(change > most, torch.lerp(first, flat, share), flat))
