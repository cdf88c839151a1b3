"""Action distributions (categorical, products of them, Gaussian, squashed Gaussian) as pure functions of tensors.

A policy network gives `outputs` numbers for a state, its scores (logits). `parameters` maps them to the parameters of a
distribution: log-probabilities of discrete actions, or mean and log deviation of real ones. `sample` inverts the
cumulative distribution at uniform numbers that the caller draws, so that a member acts by its own random stream.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rlnet.numerics import loss_derivatives
from rlnet.numerics.loss_derivatives import held
from rlnet.policies import exploration

# In half widths of an action's range. Below e⁻⁴ samples teach too little for what rounding and a critic's errors weigh
# there, and cost 3e-4 of what the width of a quadratic reward does; above e² all is range.
LOG_DEVIATION = (-4.0, 2.0)
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class Distribution(Protocol):
    """Interface of a distribution over actions, used by collectors and networks."""

    @property
    def outputs(self) -> int:
        """Number of outputs of a policy network for one state."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action, () or (D,), and of the uniform numbers that sample it."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of actions."""

    def parameters(self, scores: Tensor) -> Tensor:
        """Parameters of the distribution from the outputs of a network: [..., outputs] → [..., outputs]."""

    def behaviour(self, parameters: Tensor) -> Tensor:
        """Parameters as `sample` takes them, [..., outputs]: probabilities, or mean and log deviation."""

    def sample(self, behaviour: Tensor, uniform: Tensor) -> Tensor:
        """Draw actions [..., *shape] from uniform numbers [..., *shape] in [0, 1), float64."""

    def mode(self, behaviour: Tensor) -> Tensor:
        """The most likely action of each component [..., *shape]; of a squashed one, the median."""


class Density(Distribution, Protocol):
    """Interface of a distribution with log-probability and entropy in closed form, for policy-gradient losses."""

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """log π(a|s) of actions [..., *shape]: [...]."""

    def entropy(self, parameters: Tensor) -> Tensor:
        """H(π(·|s)): [...]."""


@dataclass(frozen=True)
class Categorical:
    """Categorical distribution over A actions; parameters log π(·|s) [..., A], −inf where not available."""

    outputs: int  # A
    shape = ()
    dtype = torch.int64

    def parameters(self, scores: Tensor) -> Tensor:
        """log softmax of the preferences (S&B eq. 13.2)."""
        return torch.log_softmax(scores, dim=-1)

    def behaviour(self, parameters: Tensor) -> Tensor:
        """Probabilities [..., A]."""
        return parameters.exp()

    def sample(self, behaviour: Tensor, uniform: Tensor) -> Tensor:
        """Draw actions int64 [...] from probabilities [..., A]; one of probability 0 is never drawn."""
        return exploration.sample(behaviour, uniform)

    def mode(self, behaviour: Tensor) -> Tensor:
        """The most likely action, the first of several: [..., A] → int64 [...]."""
        return behaviour.argmax(-1)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """log π(a|s): [..., A], int64 [...] → [...]."""
        return parameters.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """−Σ_a π·log π over the actions with π > 0: [..., A] → [...]."""
        return loss_derivatives.entropy(parameters)


@dataclass(frozen=True)
class Factored:
    """Independent categorical distributions over D finite choices, one after the other in the parameters [..., Σn].

    Parameters are log π_d(·|s), −inf where not available. An action is int64 [..., D].
    """

    sizes: tuple[int, ...]  # n of each choice
    dtype = torch.int64

    @property
    def outputs(self) -> int:
        """Σn."""
        return sum(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """(D,)."""
        return (len(self.sizes),)

    def _each(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(list(self.sizes), dim=-1)

    def parameters(self, scores: Tensor) -> Tensor:
        """log softmax of the preferences of each choice."""
        return torch.cat([torch.log_softmax(own, dim=-1) for own in self._each(scores)], dim=-1)

    def behaviour(self, parameters: Tensor) -> Tensor:
        """Probabilities [..., Σn]."""
        return parameters.exp()

    def sample(self, behaviour: Tensor, uniform: Tensor) -> Tensor:
        """Draw every choice by a uniform number of its own, [..., D]."""
        drawn = [exploration.sample(own, uniform[..., k]) for k, own in enumerate(self._each(behaviour))]
        return torch.stack(drawn, dim=-1)

    def mode(self, behaviour: Tensor) -> Tensor:
        """The most likely action."""
        return torch.stack([own.argmax(-1) for own in self._each(behaviour)], dim=-1)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """Σ_d log π_d(a_d|s): [..., Σn], int64 [..., D] → [...]."""
        chosen = [own.gather(-1, action[..., k, None]) for k, own in enumerate(self._each(parameters))]
        return torch.cat(chosen, dim=-1).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Σ_d H(π_d(·|s)): [..., Σn] → [...]."""
        return torch.stack([loss_derivatives.entropy(own) for own in self._each(parameters)]).sum(0)


class Gaussian:
    """Diagonal Gaussian over real actions; parameters (mean, log deviation) [..., 2·D] in the units of `scale`.

    A sample may lie outside of the bounds: the environment clips it, as a part of its own dynamics, so that the
    density stays that of what was sampled and policy gradients stay unbiased.

    Args:
        low, high: the bounds of the actions, [D] float32 each, perhaps infinite.
    """

    dtype = torch.float32

    def __init__(self, low: Tensor, high: Tensor) -> None:
        self.outputs, self.shape = 2 * len(low), (len(low),)
        # Beyond a bound every sample would be clipped to it: a mean there could learn no more from what it earns.
        self.furthest = torch.where(low.isfinite() & high.isfinite(), 1.0, math.inf)
        self.centre, self.half = scale(low, high)
        self.log_scale = self.half.log().sum()

    def parameters(self, scores: Tensor) -> Tensor:
        """(mean, log deviation), the mean kept between the bounds and the other within LOG_DEVIATION, see `held`."""
        mean, log_deviation = scores.chunk(2, dim=-1)
        return torch.cat((held(mean, -self.furthest, self.furthest), held(log_deviation, *LOG_DEVIATION)), dim=-1)

    def behaviour(self, parameters: Tensor) -> Tensor:
        """The parameters themselves."""
        return parameters

    def sample(self, behaviour: Tensor, uniform: Tensor) -> Tensor:
        """mean + deviation·Φ⁻¹(u) in the units of the environment: float32 [..., D]."""
        mean, log_deviation = behaviour.chunk(2, dim=-1)
        return self.centre + self.half * (mean + log_deviation.exp() * normal(uniform))

    def mode(self, behaviour: Tensor) -> Tensor:
        """The mean [..., D]."""
        return self.centre + self.half * behaviour.chunk(2, dim=-1)[0]

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """log-density of an action: [..., 2·D], [..., D] → [...]."""
        mean, log_deviation = parameters.chunk(2, dim=-1)
        z = ((action - self.centre) / self.half - mean) * (-log_deviation).exp()
        return -(0.5 * z.square() + log_deviation + _HALF_LOG_TAU).sum(-1) - self.log_scale

    def change(self, before: Tensor, after: Tensor) -> Tensor:
        """½·Δᵀ·F·Δ = Σ_d ½·(Δμ_d/σ_d)² + (Δ log σ_d)², F the Fisher information at `before`: [..., 2·D] each → [...].

        KL(before ‖ after) to second order (Kakade 2001), and a square of the length of the change.
        """
        mean, log_deviation = (after - before).chunk(2, dim=-1)
        z = mean * (-before.chunk(2, dim=-1)[1]).exp()
        return (0.5 * z.square() + log_deviation.square()).sum(-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """Σ_d log σ_d + ½ log 2πe: [..., 2·D] → [...]."""
        _, log_deviation = parameters.chunk(2, dim=-1)
        return (log_deviation + _HALF_LOG_TAU + 0.5).sum(-1) + self.log_scale


class SquashedGaussian:
    """Squashed Gaussian, a = centre + half·tanh(x) with normal x: within the bounds (Haarnoja et al. 2018, app. C).

    The entropy has no closed form, and the density of a given action is ill-conditioned near the bounds: `draw` gives
    the density together with the sample.

    Args:
        low, high: the bounds of the actions, [D] float32 each, finite.
    """

    dtype = torch.float32

    def __init__(self, low: Tensor, high: Tensor) -> None:
        self._normal = Gaussian(torch.full_like(low, -math.inf), torch.full_like(high, math.inf))
        self.outputs, self.shape = self._normal.outputs, self._normal.shape
        self.parameters, self.behaviour = self._normal.parameters, self._normal.behaviour
        self.centre, self.half = scale(low, high)
        self.log_scale = self.half.log().sum()

    def sample(self, behaviour: Tensor, uniform: Tensor) -> Tensor:
        """Draw actions float32 [..., D] from the parameters [..., 2·D]."""
        return self.centre + self.half * torch.tanh(self._normal.sample(behaviour, uniform))

    def mode(self, behaviour: Tensor) -> Tensor:
        """The median, centre + half·tanh(mean): [..., D]."""
        return self.centre + self.half * torch.tanh(self._normal.mode(behaviour))

    def draw(self, parameters: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Reparameterised sample: actions [..., D] and log-densities [...], differentiable by the parameters."""
        x = self._normal.sample(parameters, uniform)
        # log(1 − tanh²x) without cancellation for large x; by functions that torch rounds alike wherever a number lies.
        size = x.abs()
        slope = 2 * (math.log(2) - size - (-2 * size).exp().log1p())
        log_prob = self._normal.log_prob(parameters, x) - slope.sum(-1) - self.log_scale
        return self.centre + self.half * torch.tanh(x), log_prob

    def unit(self, action: Tensor) -> Tensor:
        """Rescale actions so that the bounds are −1 and 1, [..., D]."""
        return (action - self.centre) / self.half


def scale(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half width, [D] each: units in which the bounds are −1 and 1. They are 0 and 1, the units of the
    environment, for a component without two finite bounds."""
    finite = low.isfinite() & high.isfinite()
    return torch.where(finite, (low + high) / 2, 0.0), torch.where(finite, (high - low) / 2, 1.0)


def normal(uniform: Tensor) -> Tensor:
    """Standard normal numbers by inversion, Φ⁻¹(u): float64 in [0, 1) → float32."""
    return torch.special.ndtri(uniform.clamp(min=2.0**-53)).float()
