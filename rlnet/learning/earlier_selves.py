"""Earlier selves: snapshots of the parameters at evenly spaced steps, the opponents in contests at the end of a run."""

from typing import Any

import torch
from torch import Tensor


class EarlierSelves:
    """Snapshots of the parameters of M members at K steps: at the start, and after 1/K, 2/K, ... of the run.

    Each member is kept by its own count of steps.

    Args:
        steps: of the run.
        count: K.
        theta: [M, P], the parameters at the beginning.
    """

    def __init__(self, steps: int, count: int, theta: Tensor) -> None:
        self._due = torch.tensor([k * steps // count for k in range(count)])
        self.step = torch.full((len(theta), count), -1)  # [M, K], when each was kept; −1: not yet
        self.theta = theta.new_zeros(len(theta), count, theta.shape[1])  # [M, K, P]
        self.observe(torch.zeros(len(theta), dtype=torch.int64), theta)

    @property
    def count(self) -> int:
        """K."""
        return len(self._due)

    def observe(self, steps: Tensor, theta: Tensor) -> None:
        """Keep the parameters theta [M, P] of members that have reached the step of a snapshot; steps: int64 [M]."""
        due = (self.step < 0) & (steps[:, None] >= self._due)
        if due.any():
            self.step = torch.where(due, steps[:, None], self.step)
            member, moment = due.nonzero(as_tuple=True)
            self.theta[member.to(theta.device), moment.to(theta.device)] = theta[member.to(theta.device)]

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"step": self.step, "theta": self.theta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self.step.copy_(state["step"])
        self.theta.copy_(state["theta"])
