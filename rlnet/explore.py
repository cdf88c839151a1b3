"""Behaviour policies and schedules: pure functions.

A behaviour turns action values into the *probabilities* of the policy that acts. Sampling, expected targets
(Expected Sarsa) and the exact evaluation of the policy that a learner really follows all use the same numbers.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlnet.config import ConfigError, ConstantConfig, RampConfig, ScheduleConfig

Behaviour = Callable[[Tensor, Tensor], Tensor]


def greedy(q: Tensor, parameter: Tensor | float = 0.0) -> Tensor:
    """π(a|s) = 1/|argmax| on the maximising actions: ties are broken at random (S&B section 2.2).

    Args:
        q: [..., A] action values, −inf where an action is not available.
        parameter: not used; behaviours share one signature.

    Returns:
        Probabilities [..., A].
    """
    best = (q == q.amax(-1, keepdim=True)).to(q.dtype)
    return best / best.sum(-1, keepdim=True)


def epsilon_greedy(q: Tensor, epsilon: Tensor) -> Tensor:
    """π(a|s) = ε/|A(s)| + (1 − ε)·greedy(a|s)   (S&B section 5.4).

    Args:
        q: [..., A] action values, −inf where an action is not available.
        epsilon: broadcastable to [..., 1], in [0, 1].
    """
    available = (q > -math.inf).to(q.dtype)
    return torch.lerp(greedy(q), available / available.sum(-1, keepdim=True), epsilon)


def softmax(q: Tensor, temperature: Tensor) -> Tensor:
    """π(a|s) ∝ exp(q(s,a)/τ): Boltzmann exploration (S&B eq. 2.11 with τ).

    Args:
        q: [..., A] action values, −inf where an action is not available.
        temperature: broadcastable to [..., 1], above 0.
    """
    return torch.softmax(q / temperature, dim=-1)


BEHAVIOURS: dict[str, Behaviour] = {"greedy": greedy, "epsilon_greedy": epsilon_greedy, "softmax": softmax}


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


def _constant(config: ConstantConfig, done: Tensor) -> Tensor:
    return torch.full_like(done, config.value)


def _linear(config: RampConfig, done: Tensor) -> Tensor:
    return config.start + (config.end - config.start) * (done / config.fraction).clamp(max=1.0)


def _exponential(config: RampConfig, done: Tensor) -> Tensor:
    return config.start * (config.end / config.start) ** (done / config.fraction).clamp(max=1.0)


SCHEDULES: dict[str, Callable[..., Tensor]] = {"constant": _constant, "linear": _linear, "exponential": _exponential}


def scheduled(config: ScheduleConfig, done: Tensor) -> Tensor:
    """The value of a schedule.

    Args:
        config: which schedule, and its numbers.
        done: [M], the share in [0, 1] of its steps that each member has done.

    Returns:
        float32 [M].

    Raises:
        ConfigError: there is no schedule of this name.
    """
    if config.name not in SCHEDULES:
        raise ConfigError(f"schedule={config.name}: allowed are {', '.join(SCHEDULES)}")
    return SCHEDULES[config.name](config, done)
