"""Exploration: behaviour policies from action values (ε-greedy, softmax, count bonus), as pure functions.

A behaviour turns action values into the *probabilities* of the policy that acts. Sampling, expected targets
(Expected Sarsa) and the exact evaluation of the policy that a learner really follows all use the same numbers.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Behaviour = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def greedy(q: Tensor, parameter: Tensor | float = 0.0, counts: Tensor | None = None) -> Tensor:
    """Greedy policy, π(a|s) = 1/|argmax| on the maximising actions: ties broken at random (S&B section 2.2).

    Args:
        q: [..., A] action values, −inf where an action is not available.
        parameter, counts: not used; behaviours share one signature.

    Returns:
        Probabilities [..., A].
    """
    best = (q == q.amax(-1, keepdim=True)).to(q.dtype)
    return best / best.sum(-1, keepdim=True)


def epsilon_greedy(q: Tensor, epsilon: Tensor, counts: Tensor | None = None) -> Tensor:
    """ε-greedy policy, π(a|s) = ε/|A(s)| + (1 − ε)·greedy(a|s) (S&B section 5.4).

    Args:
        q: [..., A] action values, −inf where an action is not available.
        epsilon: broadcastable to [..., 1], in [0, 1].
        counts: not used.
    """
    available = (q > -math.inf).to(q.dtype)
    return torch.lerp(greedy(q), available / available.sum(-1, keepdim=True), epsilon)


def softmax(q: Tensor, temperature: Tensor, counts: Tensor | None = None) -> Tensor:
    """Softmax (Boltzmann) policy, π(a|s) ∝ exp(q(s,a)/τ) (S&B eq. 2.11 with τ).

    Args:
        q: [..., A] action values, −inf where an action is not available.
        temperature: broadcastable to [..., 1], above 0.
        counts: not used.
    """
    return torch.softmax(q / temperature, dim=-1)


def count_bonus(q: Tensor, scale: Tensor, counts: Tensor | None) -> Tensor:
    """UCB policy: greedy on q(s,a) + c·√(ln N(s) / N(s,a)) (S&B eq. 2.10; Auer et al. 2002).

    An action that was never taken in s is taken first.

    Args:
        q: [..., A] action values, −inf where an action is not available.
        scale: c, broadcastable to [..., 1], at least 0.
        counts: N(s,a), int64 [..., A], how often each action was taken there.
    """
    if counts is None:
        raise TypeError("count_bonus: needs the counts of each action")
    total = counts.sum(-1, keepdim=True)
    bonus = scale * (total.clamp(min=1).log() / counts).sqrt()
    bonus = bonus.masked_fill(counts == 0, math.inf).masked_fill(q == -math.inf, 0.0)
    return greedy(q + bonus.to(q.dtype))


BEHAVIOURS: dict[str, Behaviour] = {
    "greedy": greedy,
    "epsilon_greedy": epsilon_greedy,
    "softmax": softmax,
    "count_bonus": count_bonus,
    "optimistic": greedy,
    "noisy": greedy,
}
COUNTING = ("count_bonus",)  # behaviours that need visit counts N(s,a)


def sample(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Draw an action by inverting the cumulative distribution; an action of probability 0 is never drawn.

    Args:
        probabilities: [..., A], not necessarily summing exactly to one.
        uniform: [...] float64 in [0, 1).

    Returns:
        Actions, int64 [...].
    """
    cumulative = probabilities.double().cumsum(-1)
    return (cumulative <= (uniform.unsqueeze(-1) * cumulative[..., -1:])).sum(-1)
