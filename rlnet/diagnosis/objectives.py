"""Exact objectives of token policies, their gradients by a network's parameters, and how an update compares to them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlnet.algos.context import PI, AlgorithmContext
from rlnet.compare.completions import Completions, reached
from rlnet.compare.frontier import best_of_n_law
from rlnet.diagnosis.enumeration import Texts


@dataclass(frozen=True)
class Match:
    """Comparison of an expected update u with an exact gradient g."""

    cosine: float
    scale: float  # ⟨u, g⟩/⟨g, g⟩
    cosine_error: float  # standard error of the cosine; 0 where all groups were enumerated

    @property
    def angle(self) -> float:
        """The angle between them, in degrees."""
        return math.degrees(math.acos(max(-1.0, min(1.0, self.cosine))))


def match(updates: Tensor, gradient: Tensor) -> Match:
    """Of updates [K, P], whose mean counts; the standard error is that of the jackknife."""
    mean = updates.mean(0)
    if gradient.norm() < 1e-12 or mean.norm() < 1e-12:
        return Match(math.nan if mean.norm() >= 1e-12 else 0.0, 0.0, 0.0)

    def cosine(u: Tensor) -> float:
        return float(u @ gradient / (u.norm() * gradient.norm()))

    k = len(updates)
    error = 0.0
    if k > 1:
        left = np.array([cosine((mean * k - own) / (k - 1)) for own in updates])
        error = float(np.sqrt((k - 1) / k * ((left - left.mean()) ** 2).sum()))
    return Match(cosine(mean), float(mean @ gradient / (gradient @ gradient)), error)


class Objectives:
    """Exact objectives of a policy over tokens, to be differentiated by its logits.

    Args:
        known: the task.
        reference: log π_ref [S, A].
        logits: [S, A] float64.
    """

    def __init__(self, known: Completions, reference: Tensor, logits: Tensor) -> None:
        self.known, self.leaf = known, logits.detach().clone().requires_grad_()
        self._reference, grid = reference, known.reward.shape
        log_pi, log_reference = self.leaf.log_softmax(-1).view(grid), reference.view(grid)
        step, by_reference = (reached(x.exp(), known.length, torch.cat) for x in (log_pi, log_reference))
        ends, reward = torch.from_numpy(known.ends.copy()), torch.from_numpy(known.reward.copy())
        best = torch.from_numpy(known.best).view(-1, 1, 1)
        passed = (step * ends * (reward >= best)).sum((1, 2)).clamp(1e-12, 1 - 1e-12)
        self.reward = (step * ends * reward).sum((1, 2)).mean()
        self.kl = (step * (log_pi - log_reference)).sum((1, 2)).mean()
        self.forward = (by_reference * (log_reference - log_pi)).sum((1, 2)).mean()
        self.arcsine = (2 * passed.sqrt().arcsin()).mean()
        self.binary = bool(set(np.unique(known.reward)) <= {0.0, 1.0})

    def preferences(self, texts: Sequence[Texts], beta: float) -> Tensor:
        """E KL(Bernoulli(σ(ΔR)) ‖ Bernoulli(σ(β·Δd))) over pairs of completions of π_ref, d = log π/π_ref."""
        total = torch.zeros((), dtype=torch.float64)
        for own in texts:
            log_reference = own.log_probability(self._reference)
            log_ratio = own.log_probability(self.leaf.log_softmax(-1)) - log_reference
            reward, weight = torch.from_numpy(own.reward), log_reference.exp()
            wanted, implied = (reward[:, None] - reward), beta * (log_ratio[:, None] - log_ratio)
            apart = wanted.sigmoid() * (logsigmoid(wanted) - logsigmoid(implied))
            apart = apart + (-wanted).sigmoid() * (logsigmoid(-wanted) - logsigmoid(-implied))
            total = total + (weight[:, None] * weight * apart).sum()
        return total / len(texts)

    def imitation(self, texts: Sequence[Texts], acting: np.ndarray, n: int, positive: bool) -> Tensor:
        """Σ_y q(y)·log π(y), q the best of n completions of the policy that acts, which is −KL(q ‖ π) and a constant.

        Args:
            texts: of each prompt.
            acting: [S, A].
            n: completions in a group.
            positive: whether only completions that earn something count.
        """
        total = torch.zeros((), dtype=torch.float64)
        for own in texts:
            law = best_of_n_law(own.reward, own.probability(acting), n) * ((own.reward > 0) | (not positive))
            total = total + (torch.from_numpy(law) * own.log_probability(self.leaf.log_softmax(-1))).sum()
        return total / len(texts)

    def gradient(self, objective: Tensor) -> Tensor:
        """The gradient by the logits: [S, A]."""
        return torch.autograd.grad(objective, self.leaf, retain_graph=True)[0]


class At:
    """A policy network at given parameters, which maps gradients by logits to gradients by parameters.

    Args:
        context: whose policy network it is.
        params: name → [1, ...].
        states: S.
    """

    def __init__(self, context: AlgorithmContext, params: Mapping[str, Tensor], states: int) -> None:
        self._network, self._states = context.networks[PI], torch.arange(states).unsqueeze(0)
        self._params = {name: x.detach().clone().requires_grad_() for name, x in params.items()}

    @cached_property
    def scores(self) -> Tensor:
        """The logits [S, A]."""
        with torch.enable_grad():
            return self._network.apply(self._params, self._states)[0]

    def carried(self, by_logits: Tensor) -> Tensor:
        """A gradient by the logits [S, A] as one by the parameters, float64 [P]."""
        found = torch.autograd.grad(
            self.scores, list(self._params.values()), by_logits.to(self.scores.dtype), retain_graph=True
        )
        return torch.cat([x.flatten() for x in found]).double()
