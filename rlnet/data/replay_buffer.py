"""Replay buffer: a ring of the last transitions of every environment, and batches of n-step segments from it.

A segment of n consecutive steps of one environment comes back as a `Rollout` [n, M, B], so that a loss that learns from
rollouts learns from replay too, but for the discounts since the start of episodes, which policy gradients alone ask
for; a one-step method asks for n = 1. Only the first row of a segment has a weight.

Prioritised (Schaul et al. 2016), a segment is drawn with probability ∝ p^α, p = |δ| + floor of its first row when it
was last learned from (new rows: the largest so far). Importance weights (P_min/P)^β undo this in the mean: with β = 1
the expected gradient is that of uniform draws times P_min·(number of segments). P_min is that of all the segments that
could be drawn, not of those in the batch, which would make the weights of one row depend on the others.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.data.prioritized_sampling import Priorities
from rlnet.data.rollout import Rollout
from rlnet.numerics.random_streams import Array, BlockUniform, Streams, as_array

NOT_STORED = ("weight", "start_discount")
# In numpy a transition is one record, which lies together: drawn rows are then one visit of memory each. Indices of
# states and actions are stored in half of their width: no network has 2³¹ rows to look up.
NARROW = {torch.int64: np.int32, torch.float32: np.float32, torch.bool: np.bool_}


class Replay:
    """Replay buffer of the last `capacity` transitions of each member, sampled uniformly or by priority.

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
        self._ring: Any = None
        self._names: tuple[str, ...] = ()  # of its fields
        self._added = 0  # rows written since the beginning
        self._exponent, self._floor = priority, floor
        # p^α of the rows, float64 [M, slots·N]; 0 for a row that is no transition.
        self._mass = torch.zeros(len(seeds), 0)
        self._drawable: Priorities | None = None  # the same, without rows that have no whole segment after them yet
        self._top = torch.ones(len(seeds), 1, dtype=torch.float64, device=device)  # the largest p^α so far

    @property
    def prioritised(self) -> bool:
        """Whether sampling is prioritised."""
        return self._exponent > 0

    @property
    def slots(self) -> int:
        """The number of rows of the ring."""
        return 0 if self._ring is None else len(self._ring["reward"])

    def __len__(self) -> int:
        """The number of transitions of each member that are stored."""
        return 0 if self._ring is None else min(self._added, self.slots) * self._ring["reward"].shape[2]

    def _empty(self, rollout: Rollout, slots: int) -> np.ndarray | dict[str, Tensor]:
        """A ring for rows like those of a rollout."""
        self._names = tuple(name for name in rollout.names if name not in NOT_STORED)
        rows = {name: rollout.tensor(name) for name in self._names}
        if self._library is torch:
            return {name: tensor.new_zeros(slots, *tensor.shape[1:]) for name, tensor in rows.items()}
        kinds = [(name, NARROW[tensor.dtype], tuple(tensor.shape[3:])) for name, tensor in rows.items()]
        return self._records(kinds, (slots, *rollout.reward.shape[1:]))

    def _records(self, kinds: list[tuple], shape: Sequence[int]) -> np.ndarray:
        """A ring of zeros, of fields (name, kind, shape)."""
        dtype = np.dtype(kinds, align=True)
        self._record = np.dtype((np.void, dtype.itemsize))
        self._fields: dict[str, tuple[np.dtype, int, np.dtype, np.dtype | None]] = {}
        for name, (kind, offset, *_) in (dtype.fields or {}).items():
            if kind.base == np.int32:
                self._fields[name] = kind, offset, np.dtype(np.int64), None
            else:
                whole = np.dtype((np.void, kind.itemsize)) if kind.shape else kind
                self._fields[name] = whole, offset, whole, kind if kind.shape else None
        return np.zeros(shape, dtype)

    def add(self, rollout: Rollout) -> None:
        """Store the rows of a rollout [T, M, N], overwriting the oldest ones.

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
        for name in self._names:
            rows: Array = rollout.array(name) if self._library is np else rollout.tensor(name)
            ring = self._ring[name]
            ring[begin : begin + fit] = rows[:fit]
            if fit < length:
                ring[: length - fit] = rows[fit:]
        self._added += length
        if self.prioritised:
            self._enter(rollout.valid)

    def _enter(self, valid: Tensor) -> None:
        """Give new rows [T, M, N] the largest priority so far."""
        length, members, envs = valid.shape
        if self._drawable is None:
            self._mass = self._top.new_zeros(members, self.slots * envs)
            self._drawable = Priorities(self._masses(), self.batch, self._library)
        mass = self._masses().reshape(members, self.slots, envs)
        begin = max(0, self._added - length - self.steps + 1, self._added - self.slots)
        slot = as_array(torch.arange(begin, self._added, device=self._mass.device) % self.slots, self._library)
        valid, top = (as_array(x, self._library) for x in (valid, self._top))
        mass[:, slot[-length:]] = top[..., None] * valid.swapaxes(0, 1)
        # The newest rows begin no whole segment, and some of those that were the newest now do.
        drawable = mass[:, slot]
        drawable[:, max(0, len(slot) - self.steps + 1) :] = 0.0
        row = slot[:, None] * envs + as_array(torch.arange(envs, device=self._mass.device), self._library)
        self._drawable.set(row.reshape(1, -1) + 0 * self._member, drawable.reshape(members, -1))

    def _masses(self) -> Array:
        return as_array(self._mass, self._library)

    def sample(self, correction: Tensor | float = 1.0) -> Rollout:
        """Sample B segments of n steps for each member: [n, M, B]. Rows that are no transitions have weight 0.

        `extra["place"]` [1, M, B] of a prioritised sample says where the first rows lie, for `prioritise`. A sample
        holds until rows are added: its fields are gathered when they are looked at.

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
            return self._by_priority(numbers[:, 0], correction)
        envs = self._ring["reward"].shape[2]
        # The oldest row comes first, so that a segment never runs over the seam of the ring.
        first = _whole(numbers[:, 0] * (held - self.steps + 1)) + (self._added - held) % self.slots
        return self._segments(first, _whole(numbers[:, 1] * envs) if envs > 1 else 0)

    def _segments(self, first: Array, env: Array | int, weight: Array | float = 1.0, **extra: Tensor) -> Rollout:
        """The rows from `first` on, of an environment: [M, B] → [n, M, B]. The first weighs `weight`/B where valid.

        Args:
            first: slots of the ring, below twice their number: behind the last one comes the first again.
        """
        slots, members, envs = self._ring["reward"].shape
        row = first + self._ahead
        row -= slots * (row >= slots)
        at = (row * members + self._member) * envs + env
        if self._library is np:
            make, valid = self._of_records(at)
            weights: Array = np.zeros(at.shape, np.float32)
            np.multiply(valid, weight / self.batch, out=weights[0], casting="same_kind")
            return Rollout.lazily(make, weights, extra, self._names)
        rows = {name: ring.flatten(0, 2) for name, ring in self._ring.items()}
        weights = torch.zeros(at.shape, device=at.device)
        torch.mul(rows["valid"][at[0]], weight / self.batch, out=weights[0])
        return Rollout.lazily(lambda name: rows[name][at], weights, extra, self._names)

    def _of_records(self, at: np.ndarray) -> tuple[Callable[[str], np.ndarray], np.ndarray]:
        """Fields of the records with these numbers [n, M, B], by name; and whether the first rows are valid [M, B]."""
        # As pieces of memory numpy copies them several times faster than as records of fields, or as rows of numbers.
        records, fields = self._ring.reshape(-1).view(self._record).take(at), self._fields

        def make(name: str) -> np.ndarray:
            kind, offset, wide, numbers = fields[name]
            field = records.getfield(kind, offset).astype(wide)
            return field if numbers is None else field.view(numbers)

        kind, offset, *_ = fields["valid"]
        return make, records[0].getfield(kind, offset)

    def _by_priority(self, uniform: Array, correction: Tensor | float) -> Rollout:
        """Draw ∝ p^α, from uniform numbers [M, B]."""
        envs, mass, priorities = self._ring["reward"].shape[2], self._masses(), cast(Priorities, self._drawable)
        drawn = priorities.draw(uniform)
        share = priorities.least() / mass.take(drawn + self._member * mass.shape[1])
        weight, place = (torch.as_tensor(x) for x in (share, drawn))
        weight = as_array((weight**correction).float(), self._library)
        return self._segments(drawn // envs, drawn % envs, weight, place=place.unsqueeze(0))

    def prioritise(self, batch: Rollout, error: Tensor) -> None:
        """Set the priorities of a sample by its TD errors.

        Args:
            batch: of `sample`.
            error: δ [n, M, B], of which the first row counts.
        """
        mass = (error[0].abs().double() + self._floor) ** self._exponent
        place = batch.extra["place"][0]
        self._mass.scatter_(-1, place, mass)
        mass = self._mass.gather(-1, place)  # of a row that was drawn twice, and missed differently, one of both
        drawable = mass if self.steps == 1 else mass * self._begins(place // self._ring["reward"].shape[2])
        cast(Priorities, self._drawable).set(*(as_array(x, self._library) for x in (place, drawable)))
        self._top = torch.maximum(self._top, mass.amax(-1, keepdim=True))

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, exact to the next batch; all tensors with the members in front."""
        priorities = {"mass": None if self._drawable is None else self._mass, "top": self._top}
        ring = self._ring
        if isinstance(ring, np.ndarray):
            ring = {name: torch.from_numpy(ring[name].copy()) for name in self._names}
        if ring is not None:
            ring = {name: rows.transpose(0, 1) for name, rows in ring.items()}
        return {"ring": ring, "added": self._added, "numbers": self._numbers.state_dict(), **priorities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self._ring, self._added = state["ring"], state["added"]
        if self._ring is not None:
            self._ring = {name: rows.transpose(0, 1) for name, rows in self._ring.items()}
            self._names = tuple(self._ring)
        if self._library is np and self._ring is not None:
            kinds = [(name, rows.numpy().dtype, tuple(rows.shape[3:])) for name, rows in self._ring.items()]
            records = self._records(kinds, self._ring["reward"].shape)
            for name, tensor in self._ring.items():
                records[name] = tensor.numpy()
            self._ring = records
        self._numbers.load_state_dict(state["numbers"])
        self._top = state["top"]
        if state["mass"] is not None:
            self._mass = state["mass"]
        if self.prioritised and self._ring is not None:
            begins = self._begins(torch.arange(self.slots, device=self._mass.device))
            mass = self._mass.view(len(self._mass), self.slots, -1) * begins.view(-1, 1)
            self._drawable = Priorities(as_array(mass.flatten(1), self._library), self.batch, self._library)

    def cut(self) -> None:
        """Truncate the running episodes at the newest rows: the next rows do not follow from them."""
        if self._ring is not None and self._added:
            row = (self._added - 1) % self.slots
            newest = {name: self._ring[name][row] for name in ("valid", "terminated", "truncated")}
            newest["truncated"] |= newest["valid"] & ~newest["terminated"]

    def _begins(self, slot: Tensor) -> Tensor:
        """Whether the row of a slot begins a whole segment: it is not among the n − 1 newest."""
        return (self._added - 1 - slot) % self.slots >= self.steps - 1


def _whole(numbers: Array) -> Array:
    """Rounded down to int64."""
    return numbers.astype(np.int64) if isinstance(numbers, np.ndarray) else numbers.long()
