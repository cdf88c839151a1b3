"""The sweeps of `PackedSweeps` in torch, for a GPU: Jacobi only, the same certificate."""

from __future__ import annotations

import numpy as np

from rlnet.mdp.model import FiniteMDP


class TorchSweeps:
    """v and the sweeps that improve it, as float64 tensors on `device`; see `rlnet.mdp.iterate.Sweeps`.

    Outcomes are padded to [P, K] and actions to [S, A], so a backup is one gather and one maximum. Raises ValueError if
    the device is not there.
    """

    far = True  # Gauss-Seidel does not suit a GPU
    relax = 1.0  # nor does over-relaxation
    changed = 1.0  # the share of states whose choice the last backup changed

    def __init__(self, mdp: FiniteMDP, gamma: float, device: str) -> None:
        import torch

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"device={device!r}: torch finds no GPU here; use device='cpu'")
        self.torch, self.gamma, self.n = torch, gamma, mdp.n_states
        counts = np.diff(mdp.outcome_ptr).astype(np.int64)
        width = int(counts.max(initial=1))
        pair = np.repeat(np.arange(mdp.n_pairs), counts)
        place = pair * width + np.arange(mdp.n_outcomes) - np.repeat(mdp.outcome_ptr[:-1].astype(np.int64), counts)
        chance, successor = np.zeros(mdp.n_pairs * width), np.zeros(mdp.n_pairs * width, dtype=np.int64)
        chance[place] = np.where(mdp.terminated, 0.0, mdp.probability)
        successor[place] = mdp.next_state
        self.chance = torch.as_tensor(chance.reshape(-1, width), device=device)
        self.successor = torch.as_tensor(successor.reshape(-1, width), device=device)
        self.reward = torch.as_tensor(mdp.expected_reward.copy(), device=device)
        self.pair_state = torch.as_tensor(mdp.pair_state.astype(np.int64), device=device)
        self.acts = torch.as_tensor(~mdp.terminal, device=device)
        self.leaks = bool(mdp.terminated.any() or mdp.terminal.any())
        self.terms = width + 6
        self.scale = float(np.abs(mdp.reward).max(initial=0.0))
        self.v = torch.zeros(mdp.n_states, dtype=torch.float64, device=device)
        self.chosen = torch.zeros(mdp.n_states, dtype=torch.int64, device=device)

    def rounding(self, further: float = 0.0) -> float:
        """As `PackedSweeps.rounding`."""
        largest = float(self.v.abs().max()) if self.n else 0.0
        return 0.5 * self.terms * np.finfo(float).eps * (self.scale + 2.0 * (largest + further))

    def backup(self, bonus: float = 0.0, keep: bool = False) -> tuple[float, float]:
        """v ← Tv and the greedy policy; the least and the largest change. Action values are computed when asked for."""
        q = self._q() + bonus
        new = self.torch.full_like(self.v, -np.inf).scatter_reduce_(0, self.pair_state, q, "amax")
        new = self.torch.where(self.acts, new, 0.0)
        hit = (q == new[self.pair_state]).nonzero().squeeze(1)
        before = self.chosen.clone()
        self.chosen[self.pair_state[hit.flip(0)]] = hit.flip(0)
        self.changed = float((self.chosen != before).double().mean())
        return self._replace(new)

    def follow(self, bonus: float = 0.0) -> tuple[float, float]:
        """One Jacobi sweep of that policy; the least and the largest change."""
        rows = self.chosen
        new = self.reward[rows] + bonus + self.gamma * (self.chance[rows] * self.v[self.successor[rows]]).sum(1)
        return self._replace(self.torch.where(self.acts, new, 0.0))

    def backup_in_place(self, bonus: float = 0.0, ignore: float = 0.0) -> float:
        """A Jacobi backup in the place of a Gauss-Seidel one; the largest change."""
        low, high = self.backup(bonus)
        return max(-low, high)

    def follow_in_place(self, bonus: float = 0.0, times: int = 1) -> float:
        """Jacobi sweeps of the policy; the largest change of the last."""
        for _ in range(times):
            low, high = self.follow(bonus)
        return max(-low, high)

    def try_ways(self, bonus: float = 0.0) -> int:
        """Jacobi sweeps have no direction."""
        return 0

    def shift(self, by: float) -> None:
        """Add a constant to the value of every state that acts."""
        self.v[self.acts] += by  # a product of mask and number would be of single precision

    def start(self, bonus: float = 0.0) -> bool:
        """No pass back from the ends here: from 0."""
        return False

    def values(self) -> np.ndarray:
        """float64 [n], on the host."""
        return self.v.cpu().numpy()

    def action_values(self) -> np.ndarray:
        """float64 [P], on the host."""
        return self._q().cpu().numpy()

    def _q(self):
        return self.reward + self.gamma * (self.chance * self.v[self.successor]).sum(1)

    def _replace(self, new) -> tuple[float, float]:
        change = new - self.v
        self.v = new
        return float(change.min()), float(change.max())
