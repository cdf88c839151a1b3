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

import numpy as np
import torch
from torch import Tensor

from rlnet.data import TENSORS, Rollout
from rlnet.rng import Array, BlockUniform, Streams, as_array

STORED = tuple(name for name in TENSORS if name != "weight")
# In numpy a transition is one record, which lies together: drawn rows are then one visit of memory each. Indices of
# states and actions are stored in half of their width: no network has 2³¹ rows to look up.
NARROW = {torch.int64: np.int32, torch.float32: np.float32, torch.bool: np.bool_}
WIDE = {np.int32: np.int64, np.float32: np.float32, np.bool_: np.bool_}


class Replay:
    """The last `capacity` transitions of each member, sampled uniformly or by their errors.

    Args:
        capacity: transitions per member, shared by its N environments; rounded up to whole steps of all of them.
        batch: B, segments per member in a batch.
        steps: n, rows of a segment.
        seeds: the M member seeds; each draws from its own stream.
        device: where everything lives, as tensors; None: on the CPU, in records of numpy.
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
        device: torch.device | str | None = None,
        *,
        priority: float = 0.0,
        floor: Tensor | float = 0.01,
    ) -> None:
        for name, value in (("capacity", capacity), ("batch", batch), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.capacity, self.batch, self.steps = capacity, batch, steps
        self._library, device = (np, "cpu") if device is None else (torch, device)
        self._numbers = BlockUniform(Streams(seeds, "replay", device), (2, batch), library=self._library)
        member, ahead = torch.arange(len(seeds), device=device), torch.arange(steps, device=device)
        self._member = as_array(member.view(-1, 1), self._library)
        self._ahead = as_array(ahead.view(-1, 1, 1), self._library)
        # [slots, M, N, ...] by name: an array of records, or with tensors one for each name.
        self._ring: np.ndarray | dict[str, Tensor] | None = None
        self._kinds: dict[str, type] = {}  # of the fields of records
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
        return 0 if self._ring is None else len(self._ring["reward"])

    def __len__(self) -> int:
        """Transitions of each member that are stored now."""
        return 0 if self._ring is None else min(self._added, self.slots) * self._ring["reward"].shape[2]

    def _empty(self, rollout: Rollout, slots: int) -> np.ndarray | dict[str, Tensor]:
        """A ring for rows like those of a rollout."""
        rows = {name: getattr(rollout, name) for name in STORED}
        if self._library is torch:
            return {name: tensor.new_zeros(slots, *tensor.shape[1:]) for name, tensor in rows.items()}
        self._kinds = {name: NARROW[tensor.dtype] for name, tensor in rows.items()}
        kinds = [(name, kind, tuple(rows[name].shape[3:])) for name, kind in self._kinds.items()]
        return np.zeros((slots, *rollout.reward.shape[1:]), np.dtype(kinds, align=True))

    def add(self, rollout: Rollout) -> None:
        """Store the rows of a rollout [T, M, N]; the oldest ones make room.

        Raises:
            ValueError: a rollout longer than the ring.
        """
        length, _, envs = rollout.reward.shape
        if self._ring is None:
            self._ring = self._empty(rollout, max(-(-self.capacity // envs), self.steps))
        if length > self.slots:
            raise ValueError(f"a rollout of {length} steps does not fit into a replay of {self.slots} steps")
        begin = self._added % self.slots
        fit = min(length, self.slots - begin)  # the others go to the front
        for name in STORED:
            rows, ring = getattr(rollout, name), self._ring[name]
            rows = rows.numpy() if self._library is np else rows
            ring[begin : begin + fit] = rows[:fit]
            if fit < length:
                ring[: length - fit] = rows[fit:]
        self._added += length
        if self.prioritised:
            if len(self._mass) == 0:
                self._mass = self._top.new_zeros(len(self._member), self.slots * envs)
            at = (begin + torch.arange(length, device=self._mass.device)) % self.slots
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
        numbers = self._numbers.next()
        if self.prioritised:
            return self._by_priority(torch.as_tensor(numbers[:, 0]), correction)
        # The oldest row comes first, so that a segment never runs over the seam of the ring.
        first = _whole(numbers[:, 0] * (held - self.steps + 1)) + (self._added - held)
        return self._segments(first, _whole(numbers[:, 1] * self._ring["reward"].shape[2]))

    def _segments(self, first: Array, env: Array, weight: Tensor | float = 1.0, **extra: Tensor) -> Rollout:
        """The rows from `first` on, of an environment: [M, B] → [n, M, B]. The first weighs `weight`/B where valid."""
        _, members, envs = self._ring["reward"].shape
        at = ((first + self._ahead) % self.slots * members + self._member) * envs + env
        if self._library is np:
            drawn = self._ring.reshape(-1).take(at)
            rows = {name: torch.from_numpy(drawn[name].astype(WIDE[kind], "C")) for name, kind in self._kinds.items()}
        else:
            rows = {name: ring.flatten(0, 2)[at] for name, ring in self._ring.items()}
        weights = torch.zeros_like(rows["reward"])
        weights[0] = rows["valid"][0] * (weight / self.batch)
        return Rollout(**rows, weight=weights, extra=extra)

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
        least = mass.masked_fill(mass == 0, torch.inf).amin(-1, keepdim=True)
        weight = ((least / mass.gather(-1, drawn)) ** correction).float()
        first, env = (as_array(x, self._library) for x in (drawn // envs, drawn % envs))
        return self._segments(first, env, weight, place=drawn.unsqueeze(0))

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
        ring = self._ring
        if isinstance(ring, np.ndarray):
            ring = {name: torch.from_numpy(ring[name].copy()) for name in STORED}
        return {"ring": ring, "added": self._added, "numbers": self._numbers.state_dict(), **priorities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._ring, self._added = state["ring"], state["added"]
        if self._library is np and self._ring is not None:
            self._kinds = {name: tensor.numpy().dtype.type for name, tensor in self._ring.items()}
            kinds = [(name, kind, tuple(self._ring[name].shape[3:])) for name, kind in self._kinds.items()]
            records = np.zeros(self._ring["reward"].shape, np.dtype(kinds, align=True))
            for name, tensor in self._ring.items():
                records[name] = tensor.numpy()
            self._ring = records
        self._numbers.load_state_dict(state["numbers"])
        self._mass, self._top = state["mass"], state["top"]


def _whole(numbers: Array) -> Array:
    """Rounded down to int64."""
    return numbers.astype(np.int64) if isinstance(numbers, np.ndarray) else numbers.long()
