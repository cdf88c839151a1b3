"""Trust region of policies over real actions: optimiser steps shortened to a largest change of the policy."""

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
    """Shorten the optimiser step that is taken inside, where the policy changes by more than `most` on average.

    The score of a mean grows as 1/σ, and a step of Adam has the same length whatever its gradient: a policy that has
    become narrow would leap over the actions that it knows about, and have nothing left to learn from. In units of its
    own width no policy leaps (the trust region of Schulman et al. 2015, by one rescaling).

    As a policy narrows, its advantages shrink by orders of magnitude within the memory of Adam's second moment, which
    would leave it steps of no length: the policy's gradient is handed over with length 1.

    Args:
        policy: computes the policy of the current parameters, the parameters of `actions`.
        flat: [M, P], the parameters of the policy's network.
        grad: [M, P], their gradient; normalised in place.
        weight: [T, M, N], of the rows that the change is averaged over.
        most: the largest change, broadcastable to [M, 1].
    """
    grad /= gradient_norms(grad).clamp(min=1e-30)
    first, before = flat.clone(), policy()
    yield
    change = mean(actions.change(before, policy()), weight).unsqueeze(-1)
    share = (most / change).sqrt()  # exact where scores are linear in the parameters
    flat.copy_(torch.where(change > most, torch.lerp(first, flat, share), flat))
