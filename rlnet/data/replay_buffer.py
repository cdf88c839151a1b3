"""Replay buffer: a ring of the last transitions of every environment, and batches of n-step segments from it.

A segment is n consecutive steps of one environment. A batch is a `Rollout` [n, M, B], so that losses of rollouts work
on replay too (it has no `start_discount`, which only policy gradients use); one-step methods take n = 1. Only the first
row of a segment has a weight.

Prioritised (Schaul et al. 2016), a segment is drawn with probability ∝ p^α, p = |δ| + floor of its first row when it
was last learned from (new rows: the largest so far). Importance weights (P_min/P)^β correct for this: with β = 1
the expected gradient is that of uniform draws times P_min·(number of segments). P_min is that of all the segments that
could be drawn, not of those in the batch, which would make the weights of one row depend on the others.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.data.prioritized_sampling import Priorities
from rlnet.data.rollout import Rollout
from rlnet.data.transitions import Transitions, restored, room_for
from rlnet.numerics.random_streams import Array, BlockUniform, Streams, as_array


class Replay:
    """Replay buffer of the last `capacity` transitions of each member, sampled uniformly or by priority.

    Args:
        capacity: transitions per member, shared by its N environments; rounded up to whole steps of all of them.
        batch: B, segments per member in a batch.
        steps: n, rows of a segment.
        seeds: the M member seeds; each draws from its own stream.
        device: stores tensors on it; None: stores numpy records on the CPU.
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
        self._ring: Transitions | None = None  # once there are any
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
        return 0 if self._ring is None else self._ring.shape[0]

    @property
    def _envs(self) -> int:
        return cast(Transitions, self._ring).shape[2]

    def __len__(self) -> int:
        """The number of transitions of each member that are stored."""
        return 0 if self._ring is None else min(self._added, self.slots) * self._ring.shape[2]

    def add(self, rollout: Rollout) -> None:
        """Store the rows of a rollout [T, M, N], overwriting the oldest ones.

        Raises:
            ValueError: a rollout longer than the ring.
            ConfigError: there is not memory enough for the ring.
        """
        length, _, envs = rollout.reward.shape
        if self._ring is None:
            what = f"algo.capacity={self.capacity}"
            slots = room(self.capacity, envs, self.steps)
            self._ring = room_for(rollout, slots, in_numpy=self._library is np, what=what)
        if length > self.slots:
            raise ValueError(f"a rollout of {length} steps does not fit into a replay of {self.slots} steps")
        self._ring.write(rollout, self._added % self.slots)
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

        `extra["place"]` [1, M, B] of a prioritised sample holds the indices of the first rows, for `prioritise`. A
        sample is valid until rows are added: its fields are gathered when they are first read.

        Args:
            correction: β of the importance weights of prioritised samples, [M, 1] or a number.

        Raises:
            ValueError: fewer than n steps are stored.
        """
        held = min(self._added, self.slots)
        if self._ring is None or held < self.steps:
            raise ValueError(f"{held} steps are stored, a segment needs {self.steps}")
        numbers = self._numbers.next()
        if self.prioritised:
            return self._by_priority(numbers[:, 0], correction)
        envs = self._ring.shape[2]
        # The oldest row comes first, so that a segment never runs over the seam of the ring.
        first = _whole(numbers[:, 0] * (held - self.steps + 1)) + (self._added - held) % self.slots
        return self._segments(first, _whole(numbers[:, 1] * envs) if envs > 1 else 0)

    def _segments(self, first: Array, env: Array | int, weight: Array | float = 1.0, **extra: Tensor) -> Rollout:
        """The rows from `first` on, of an environment: [M, B] → [n, M, B]. The first weighs `weight`/B where valid.

        Args:
            first: slots of the ring, below twice their number: behind the last one comes the first again.
        """
        ring = cast(Transitions, self._ring)
        slots, members, envs = ring.shape
        row = first + self._ahead
        row -= slots * (row >= slots)
        at = (row * members + self._member) * envs + env
        return ring.sample(at, weight / self.batch, extra)

    def _by_priority(self, uniform: Array, correction: Tensor | float) -> Rollout:
        """Draw ∝ p^α, from uniform numbers [M, B]."""
        envs, mass, priorities = self._envs, self._masses(), cast(Priorities, self._drawable)
        drawn = priorities.draw(uniform)
        share = priorities.least() / mass.take(drawn + self._member * mass.shape[1])
        power = as_array(correction, self._library) if isinstance(correction, Tensor) else correction
        weight = as_array(torch.as_tensor(share**power).float(), self._library)
        return self._segments(drawn // envs, drawn % envs, weight, place=torch.as_tensor(drawn).unsqueeze(0))

    def prioritise(self, batch: Rollout, error: Tensor) -> None:
        """Set the priorities of a sample by its TD errors.

        Args:
            batch: of `sample`.
            error: TD errors δ [n, M, B]; only the first row is used.
        """
        missed = as_array(error[0].abs().double() + self._floor, self._library)
        mass = torch.as_tensor(missed**self._exponent)
        place = batch.extra["place"][0]
        self._mass.scatter_(-1, place, mass)
        mass = self._mass.gather(-1, place)  # of a row that was drawn twice, and missed differently, one of both
        drawable = mass if self.steps == 1 else mass * self._begins(place // self._envs)
        cast(Priorities, self._drawable).set(*(as_array(x, self._library) for x in (place, drawable)))
        self._top = torch.maximum(self._top, mass.amax(-1, keepdim=True))

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, exact to the next batch; all tensors with the members in front."""
        priorities = {"mass": None if self._drawable is None else self._mass, "top": self._top}
        ring = None if self._ring is None else self._ring.state_dict(min(self._added, self.slots))
        return {"ring": ring, "added": self._added, "numbers": self._numbers.state_dict(), **priorities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self._added = state["added"]
        ring, self._ring = state["ring"], None
        if ring is not None:
            slots = room(self.capacity, ring["reward"].shape[2], self.steps)
            self._ring = restored(ring, slots, (self._added - 1) % slots, in_numpy=self._library is np)
        self._numbers.load_state_dict(state["numbers"])
        self._top = state["top"]
        if state["mass"] is not None:
            self._mass = state["mass"]
        if self.prioritised and self._ring is not None:
            begins = self._begins(torch.arange(self.slots, device=self._mass.device))
            mass = self._mass.view(len(self._mass), self.slots, -1) * begins.view(-1, 1)
            self._drawable = Priorities(as_array(mass.flatten(1), self._library), self.batch, self._library)

    def cut(self) -> None:
        """Mark the running episodes as truncated at the newest rows, because new episodes begin."""
        if self._ring is not None and self._added:
            row = (self._added - 1) % self.slots
            newest = {name: self._ring.field(name)[row] for name in ("valid", "terminated", "truncated")}
            newest["truncated"] |= newest["valid"] & ~newest["terminated"]

    def _begins(self, slot: Tensor) -> Tensor:
        """Whether the row of a slot begins a whole segment: it is not among the n − 1 newest."""
        return (self._added - 1 - slot) % self.slots >= self.steps - 1


def room(capacity: int, envs: int, steps: int) -> int:
    """The number of rows of the ring: as many as hold `capacity` transitions, and a segment at least."""
    return max(-(-capacity // envs), steps)


def _whole(numbers: Array) -> Array:
    """Rounded down to int64."""
    return numbers.astype(np.int64) if isinstance(numbers, np.ndarray) else numbers.long()
