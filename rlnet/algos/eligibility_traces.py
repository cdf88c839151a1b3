"""Eligibility traces (S&B chapter 12): decaying sums of past gradients, one trace for each environment.

z [M, N, P] holds a trace for each environment, of the parameters of its member. Imports torch alone.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def accumulating(trace: Tensor, grad: Tensor, decay: Tensor, rate: Tensor) -> Tensor:
    """Accumulating trace, z_t = γλ·z_{t−1} + ∇v(S_t) (S&B eq. 12.5).

    Args:
        trace: z_{t−1}, [M, N, P].
        grad: ∇v(S_t), [M, N, P].
        decay: γλ, [M, N, 1].
        rate: α, [M, 1, 1]; only the dutch trace depends on it.
    """
    return (decay * trace).add_(grad)


def replacing(trace: Tensor, grad: Tensor, decay: Tensor, rate: Tensor) -> Tensor:
    """Replacing trace, z_{i,t} = 1 where the feature i is 1, else γλ·z_{i,t−1} (S&B eq. 12.12); binary gradients."""
    return torch.where(grad != 0, grad, decay * trace)


def dutch(trace: Tensor, grad: Tensor, decay: Tensor, rate: Tensor) -> Tensor:
    """Dutch trace, z_t = γλ·z_{t−1} + (1 − α·γλ·z_{t−1}ᵀ∇v(S_t))·∇v(S_t) (S&B eq. 12.11), for linear functions."""
    remembered = decay * trace
    return remembered + (1 - rate * (remembered * grad).sum(-1, keepdim=True)) * grad


KINDS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "accumulating": accumulating,
    "replacing": replacing,
    "dutch": dutch,
}


class Traces:
    """Eligibility traces of M × N environments.

    Args:
        kind: of KINDS.
        shape: (M, N, P).
        device: of the tensors.
    """

    def __init__(self, kind: str, shape: tuple[int, int, int], device: torch.device | str = "cpu") -> None:
        self.kind = kind
        self.trace = torch.zeros(shape, device=device)
        self.foreseen = torch.zeros(shape[:2], device=device)  # [M, N], v(S_t) as it was before the last update

    def directions(
        self, value: Tensor, next_value: Tensor, error: Tensor, grad: Tensor, decay: Tensor, rate: Tensor, due: Tensor
    ) -> Tensor:
        """Add ∇v(S_t) to the traces, and return the update directions δ·z [M, N, P] of each environment.

        With dutch traces it is δ·z + (v(S_t) − v⁻(S_t))·(z − ∇v(S_t)), v⁻ being the value before the last update: with
        one environment per member and a linear v, α times that is true online TD(λ) (S&B section 12.5).

        Args:
            value, next_value, error: v(S_t), v(S_{t+1}) and δ, [M, N].
            grad: ∇v(S_t), [M, N, P].
            decay: γλ, or 0 where the past is to be forgotten, [M, N].
            rate: α, [M, 1].
            due: bool [M, N]; other environments keep their traces and have the direction 0.
        """
        trace = KINDS[self.kind](self.trace, grad, decay.unsqueeze(-1), rate.unsqueeze(-1))
        out = error.unsqueeze(-1) * trace
        if self.kind == "dutch":
            out = out + (value - self.foreseen).unsqueeze(-1) * (trace - grad)
            self.foreseen = torch.where(due, next_value, self.foreseen)
        # What this step has made is written to in place: passes over memory are all that traces cost.
        self.trace = torch.where(due.unsqueeze(-1), trace, self.trace, out=trace)
        return out.mul_(due.unsqueeze(-1))

    def forget(self, ended: Tensor) -> None:
        """Reset the traces where an episode ended: bool [M, N]."""
        self.trace.masked_fill_(ended.unsqueeze(-1), 0.0)

    def turn(self, sign: Tensor) -> None:
        """Multiply the traces by the sign of the step just taken: ±1 [M, N].

        In a game the later value of the other player counts negatively for this one, and the traces reach back over
        both: z_t = γλ·sign_t·z_{t−1} + ∇v(S_t), as the discount of that step has the sign.
        """
        self.trace.mul_(sign.unsqueeze(-1))

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: all that is needed to continue with the same updates."""
        return {"trace": self.trace, "foreseen": self.foreseen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self.trace, self.foreseen = state["trace"], state["foreseen"]
