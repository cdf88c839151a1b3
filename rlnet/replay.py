"""Replay: a ring of the last transitions of every environment, and batches of segments drawn from it.

A segment of n consecutive steps of one environment comes back as a `Rollout` [n, M, B], so that a loss that learns from
rollouts learns from replay too; a one-step method asks for n = 1. Only the first row of a segment has a weight.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlnet.data import TENSORS, Rollout
from rlnet.rng import BlockUniform, Streams

STORED = tuple(name for name in TENSORS if name != "weight")


class Replay:
    """The last `capacity` transitions of each member, sampled uniformly.

    Args:
        capacity: transitions per member, shared by its N environments; rounded up to whole steps of all of them.
        batch: B, segments per member in a batch.
        steps: n, rows of a segment.
        seeds: the M member seeds; each draws from its own stream.
        device: where everything lives.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self, capacity: int, batch: int, steps: int, seeds: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        for name, value in (("capacity", capacity), ("batch", batch), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.capacity, self.batch, self.steps = capacity, batch, steps
        self._numbers = BlockUniform(Streams(seeds, "replay", device), (2, batch))
        self._member = torch.arange(len(seeds), device=device).unsqueeze(-1)  # [M, 1]
        self._ring: dict[str, Tensor] = {}  # [slots, M, N, ...]
        self._added = 0  # rows written since the beginning

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

    def sample(self) -> Rollout:
        """B segments of n steps for each member: [n, M, B]. Rows that are no transitions have weight 0.

        Raises:
            ValueError: fewer than n steps are stored.
        """
        held = min(self._added, self.slots)
        if held < self.steps:
            raise ValueError(f"{held} steps are stored, a segment needs {self.steps}")
        for_slot, for_env = self._numbers.next().unbind(1)  # [M, B] each
        envs = self._ring["reward"].shape[2]
        # The oldest row comes first, so that a segment never runs over the seam of the ring.
        first = (for_slot * (held - self.steps + 1)).long() + (self._added - held)
        rows = (first + torch.arange(self.steps, device=first.device).view(-1, 1, 1)) % self.slots  # [n, M, B]
        env = (for_env * envs).long()
        out = {name: ring[rows, self._member, env] for name, ring in self._ring.items()}
        weight = torch.zeros_like(out["reward"])
        weight[0] = out["valid"][0] / self.batch
        return Rollout(**out, weight=weight)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on with the same batches."""
        return {"ring": self._ring, "added": self._added, "numbers": self._numbers.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._ring, self._added = state["ring"], state["added"]
        self._numbers.load_state_dict(state["numbers"])
