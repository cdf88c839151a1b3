"""What travels from the environments to the losses.

Axes, always in this order: T time, M members, N environments per member, then features.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rollout:
    """T consecutive steps of M × N environments."""

    obs: Tensor  # [T, M, N] int64 state index, or [T, M, N, F] float32
    action: Tensor  # [T, M, N] int64
    reward: Tensor  # [T, M, N] float32, R_{t+1}
    next_obs: Tensor  # as obs: the true successor S_{t+1}, at an end the final observation
    terminated: Tensor  # [T, M, N] bool: the MDP ended, no successor value
    truncated: Tensor  # [T, M, N] bool: a limit cut the episode, the successor has a value
    valid: Tensor  # [T, M, N] bool: False for a row that is no transition (an autoreset, the time after an episode)
    weight: Tensor  # [T, M, N] float32: the row's share in the member's loss; 0 for rows not to be learned from now
    start_discount: Tensor  # [T, M, N] float32: γ^t with t the steps since the episode began
