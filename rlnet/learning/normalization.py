"""Normalisation: running statistics of observations and returns for each member."""

from typing import Any

import torch
from torch import Tensor

from rlnet.algos.context import AlgorithmContext
from rlnet.data.rollout import Rollout
from rlnet.nets.network import ParameterLayout
from rlnet.nets.normalized import MEAN, SCALE, UNIT

SMALLEST = 1e-8  # added to a variance


class Moments:
    """Mean and variance [M, F] of all numbers so far, float64, by the parallel update of Chan et al. (1979)."""

    def __init__(self, members: int, size: int, device: torch.device | str) -> None:
        made: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self.count = torch.zeros(members, 1, **made)
        self.mean, self.squares = (torch.zeros(members, size, **made) for _ in range(2))

    def update(self, x: Tensor, valid: Tensor) -> None:
        """Add the valid rows of x [T, M, N, F], valid bool [T, M, N]."""
        weight = valid.unsqueeze(-1).double()
        x = torch.where(valid.unsqueeze(-1), x.double(), 0.0)
        count = weight.sum((0, 2))
        mean = x.sum((0, 2)) / count.clamp(min=1)
        squares = ((x - mean.unsqueeze(1)).square() * weight).sum((0, 2))
        total = (self.count + count).clamp(min=1)
        change = mean - self.mean
        self.mean += change * count / total
        self.squares += squares + change.square() * self.count * count / total
        self.count += count

    @property
    def scale(self) -> Tensor:
        """1/deviation [M, F]; 1 where there were fewer than two numbers."""
        return torch.where(self.count > 1, (self.squares / self.count.clamp(min=1) + SMALLEST).rsqrt(), 1.0)

    def state_dict(self) -> dict[str, Tensor]:
        """State for a checkpoint, with the members in front."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the state of `state_dict`."""
        for name, own in self.state_dict().items():
            own.copy_(state[name])


class Normalization:
    """Running statistics of observations and returns, stored in the parameters of the networks.

    Observations: mean and deviation of every number that was acted on (images are scaled by their space instead).
    Returns: the deviation of Σ γ^k·R_{t−k}, the discounted sum of the rewards of the running episode so far
    (Engstrom et al. 2020).

    Args:
        context: with the networks.
        layout: of their parameters.
        members, envs: M and N.
        gamma: [M, 1].
    """

    def __init__(
        self, context: AlgorithmContext, layout: ParameterLayout, members: int, envs: int, gamma: Tensor
    ) -> None:
        self._context, self._layout, self._gamma = context, layout, gamma.double()
        shapes = [network.shapes for network in layout.networks.values()]
        sizes = [own[MEAN][0] for own in shapes if MEAN in own]
        self.inputs = Moments(members, sizes[0], gamma.device) if sizes else None
        self.returns = Moments(members, 1, gamma.device) if any(UNIT in own for own in shapes) else None
        self._sums = torch.zeros(members, envs, dtype=torch.float64, device=gamma.device)

    @property
    def is_active(self) -> bool:
        """Whether any network has normalised inputs or outputs."""
        return self.inputs is not None or self.returns is not None

    @torch.no_grad()
    def observe(self, rollout: Rollout, first: int, *thetas: Tensor | None) -> None:
        """Add the rows of a rollout from `first` on, and write the statistics into parameters [M, P]."""
        valid = rollout.valid[first:]
        if self.inputs is not None:
            obs = rollout.obs[first:]
            layout = self._context.layout
            self.inputs.update(obs if layout is None else layout.floats(obs), valid)
        if self.returns is not None:
            ended = rollout.terminated | rollout.truncated
            sums = torch.zeros_like(valid, dtype=torch.float64)
            for t, reward in enumerate(rollout.reward[first:].double()):
                now = valid[t]
                sums[t] = self._sums * self._gamma + reward
                self._sums = torch.where(ended[first + t] | ~now, 0.0, sums[t])
            self.returns.update(sums.unsqueeze(-1), valid)
        for theta in thetas:
            if theta is not None:
                self.write(theta)

    def write(self, theta: Tensor) -> None:
        """Write the statistics into parameters [M, P]."""
        plain = self._plain
        for role, own in self._layout.unpack(theta).items():
            shapes = self._layout.networks[role].shapes
            if self.inputs is not None and MEAN in shapes:
                own[MEAN].copy_(torch.where(plain, self.inputs.mean, 0.0))
                own[SCALE].copy_(torch.where(plain, self.inputs.scale, 1.0))
            if self.returns is not None and UNIT in shapes:
                own[UNIT].copy_(1 / self.returns.scale)

    @property
    def _plain(self) -> Tensor:
        """The numbers of an observation that belong to no image: bool [F]."""
        if self._context.layout is None or self.inputs is None:
            return torch.ones((), dtype=torch.bool, device=self._gamma.device)
        parts = self._context.layout.parts
        which = [torch.full((part.size,), not part.in_bytes) for part in parts]
        padding = torch.ones(self.inputs.mean.shape[1] - sum(part.size for part in parts), dtype=torch.bool)
        return torch.cat([*which, padding]).to(self._gamma.device)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, with the members in front."""
        parts = {"inputs": self.inputs, "returns": self.returns}
        return {"sums": self._sums, **{name: part.state_dict() for name, part in parts.items() if part is not None}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`; parameters are restored with theirs."""
        self._sums = state["sums"].to(self._sums)
        for name, part in (("inputs", self.inputs), ("returns", self.returns)):
            if part is not None:
                part.load_state_dict(state[name])
