"""Replay: a ring of the last transitions of every environment, and batches of segments drawn from it.

A segment of n consecutive steps of one environment comes back as a `Rollout` [n, M, B], so that a loss that learns from
rollouts learns from replay too; a one-step method asks for n = 1. Only the first row of a segment has a weight.

Prioritised (Schaul et al. 2016), a segment is drawn with probability ∝ p^α, p = |δ| + floor of its first row when it
was last learned from (new rows: the largest so far). Importance weights (P_min/P)^β undo this in the mean: with β = 1
the expected gradient is that of uniform draws times P_min·(number of segments). P_min is that of all the segments that
could be drawn, not of those in the batch, which would make the weights of one row depend on the others.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlnet.data import TENSORS, Rollout
from rlnet.rng import BlockUniform, Streams

STORED = tuple(name for name in TENSORS if name != "weight")


class Replay:
    """The last `capacity` transitions of each member, sampled uniformly or by their errors.

    Args:
        capacity: transitions per member, shared by its N environments; rounded up to whole steps of all of them.
        batch: B, segments per member in a batch.
        steps: n, rows of a segment.
        seeds: the M member seeds; each draws from its own stream.
        device: where everything lives.
        priority: α; 0 samples uniformly.
        floor: added to every |δ|, [M, 1] or a number.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        capacity: int,
        batch: int,
        steps: int,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        priority: float = 0.0,
        floor: Tensor | float = 0.01,
    ) -> None:
        for name, value in (("capacity", capacity), ("batch", batch), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.capacity, self.batch, self.steps = capacity, batch, steps
        self._numbers = BlockUniform(Streams(seeds, "replay", device), (2, batch))
        self._member = torch.arange(len(seeds), device=device).unsqueeze(-1)  # [M, 1]
        self._ring: dict[str, Tensor] = {}  # [slots, M, N, ...]
        self._added = 0  # rows written since the beginning
        self._exponent, self._floor = priority, floor
        self._mass = torch.zeros(0)  # p^α of the rows, float64 [M, slots·N]; 0 for a row that is no transition
        self._top = torch.ones(len(seeds), 1, dtype=torch.float64, device=device)  # the largest p^α so far

    @property
    def prioritised(self) -> bool:
        """Whether rows are drawn by their errors."""
        return self._exponent > 0

    @property
    def slots(self) -> int:
        """Rows of the ring."""
        return len(self._ring["reward"]) if self._ring else 0

    def __len__(self) -> int:
        """Transitions of each member that are stored now."""
        return min(self._added, self.slots) * (self._ring["reward"].shape[2] if self._ring else 0)

    def add(self, rollout: Rollout) -> None:
        """Store the rows of a rollout [T, M, N]; the oldest ones make room.

        Raises:
            ValueError: a rollout longer than the ring.
        """
        length, _, envs = rollout.reward.shape
        if not self._ring:
            slots = max(-(-self.capacity // envs), self.steps)
            for name in STORED:
                tensor = getattr(rollout, name)
                self._ring[name] = tensor.new_zeros(slots, *tensor.shape[1:])
        if length > self.slots:
            raise ValueError(f"a rollout of {length} steps does not fit into a replay of {self.slots} steps")
        at = (self._added + torch.arange(length, device=rollout.reward.device)) % self.slots
        for name, ring in self._ring.items():
            ring[at] = getattr(rollout, name)
        self._added += length
        if self.prioritised:
            if len(self._mass) == 0:
                self._mass = self._top.new_zeros(len(self._member), self.slots * envs)
            self._mass.view(len(self._member), self.slots, envs)[:, at] = self._top.unsqueeze(
                -1
            ) * rollout.valid.movedim(1, 0)

    def sample(self, correction: Tensor | float = 1.0) -> Rollout:
        """B segments of n steps for each member: [n, M, B]. Rows that are no transitions have weight 0.

        `extra["place"]` [1, M, B] of a prioritised sample says where the first rows lie, for `prioritise`.

        Args:
            correction: β, [M, 1] or a number, of prioritised samples.

        Raises:
            ValueError: fewer than n steps are stored.
        """
        held = min(self._added, self.slots)
        if held < self.steps:
            raise ValueError(f"{held} steps are stored, a segment needs {self.steps}")
        for_slot, for_env = self._numbers.next().unbind(1)  # [M, B] each
        envs = self._ring["reward"].shape[2]
        if self.prioritised:
            return self._by_priority(for_slot, correction)
        # The oldest row comes first, so that a segment never runs over the seam of the ring.
        first = (for_slot * (held - self.steps + 1)).long() + (self._added - held)
        out = self._segments(first, (for_env * envs).long())
        weight = torch.zeros_like(out["reward"])
        weight[0] = out["valid"][0] / self.batch
        return Rollout(**out, weight=weight)

    def _segments(self, first: Tensor, env: Tensor) -> dict[str, Tensor]:
        """The rows from `first` on, of an environment: [M, B] → [n, M, B]."""
        rows = (first + torch.arange(self.steps, device=first.device).view(-1, 1, 1)) % self.slots
        return {name: ring[rows, self._member, env] for name, ring in self._ring.items()}

    def _by_priority(self, uniform: Tensor, correction: Tensor | float) -> Rollout:
        """Draw ∝ p^α by inverting the cumulative sum [M, B]."""
        envs = self._ring["reward"].shape[2]
        mass = self._mass
        if self.steps > 1:  # the newest rows have no segment after them yet
            newest = (self._added - 1 - torch.arange(self.steps - 1, device=mass.device)) % self.slots
            mass = mass.clone()
            mass.view(len(mass), self.slots, envs)[:, newest] = 0.0
        cumulative = mass.cumsum(-1)
        drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        out = self._segments(drawn // envs, drawn % envs)
        least = mass.masked_fill(mass == 0, torch.inf).amin(-1, keepdim=True)
        weight = torch.zeros_like(out["reward"])
        weight[0] = (least / mass.gather(-1, drawn)) ** correction / self.batch
        return Rollout(**out, weight=weight, extra={"place": drawn.unsqueeze(0)})

    def prioritise(self, batch: Rollout, error: Tensor) -> None:
        """Set the priorities of a sample by what its rows missed.

        Args:
            batch: of `sample`.
            error: δ [n, M, B], of which the first row counts.
        """
        mass = (error[0].abs().double() + self._floor) ** self._exponent
        self._mass.scatter_(-1, batch.extra["place"][0], mass)
        self._top = torch.maximum(self._top, mass.amax(-1, keepdim=True))

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on with the same batches."""
        priorities = {"mass": self._mass, "top": self._top}
        return {"ring": self._ring, "added": self._added, "numbers": self._numbers.state_dict(), **priorities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._ring, self._added = state["ring"], state["added"]
        self._numbers.load_state_dict(state["numbers"])
        self._mass, self._top = state["mass"], state["top"]
