"""Sweeps in torch, for a GPU: Jacobi only, with the same certificate as `PackedSweeps`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.operators.bellman import System
from rlnet.mdp.solvers.compiled.outcome_arrays import source

if TYPE_CHECKING:  # it takes longer to import than most models to solve
    import torch


class TorchSweeps:
    """Values v and sweeps as float64 tensors on `device`; see `rlnet.mdp.solvers.value_iteration.Sweeps`.

    Outcomes are padded to [P, K] and actions to [S, A], so a backup is one gather and one maximum. Raises ValueError if
    the device is not there.
    """

    far = True  # Gauss-Seidel does not suit a GPU
    relax = 1.0  # nor does over-relaxation
    changed = 1.0  # the share of states whose choice the last backup changed

    def __init__(self, model: FiniteMDP | System, gamma: float, device: str) -> None:
        import torch

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"device={device!r}: torch finds no GPU here; use device='cpu'")
        self.pair_ptr, outcome_ptr, (next_state, probability, _, terminated) = source(model)
        self.torch, self.gamma, self.device = torch, gamma, device
        self.n, n_pairs = len(self.pair_ptr) - 1, len(outcome_ptr) - 1
        counts = np.diff(outcome_ptr).astype(np.int64)
        width = int(counts.max(initial=1))
        pair = np.repeat(np.arange(n_pairs), counts)
        place = pair * width + np.arange(len(next_state)) - np.repeat(outcome_ptr[:-1].astype(np.int64), counts)
        chance, successor = np.zeros(n_pairs * width), np.zeros(n_pairs * width, dtype=np.int64)
        chance[place] = np.where(terminated, 0.0, probability)
        successor[place] = next_state
        self.chance = torch.as_tensor(chance.reshape(-1, width), device=device)
        self.successor = torch.as_tensor(successor.reshape(-1, width), device=device)
        self.pair_state = torch.as_tensor(model.pair_state.astype(np.int64), device=device)
        self.acts = np.diff(self.pair_ptr) > 0
        self.mask = torch.as_tensor(self.acts, device=device)
        if isinstance(model, System):
            reward, size, ends, terms = model.reward, model.magnitude, model.ends, model.terms
        else:
            reward, size, ends, terms = model.expected_reward, np.abs(model.reward), terminated, width
        self.reward = torch.as_tensor(reward.copy(), device=device)
        self.leaks = bool(ends.any() or not self.acts.all())
        self.terms = terms + 6
        self.scale = float(size.max(initial=0.0))
        self.v = torch.zeros(self.n, dtype=torch.float64, device=device)
        self.chosen = torch.zeros(self.n, dtype=torch.int64, device=device)

    def rounding(self, further: float = 0.0) -> float:
        """As `PackedSweeps.rounding`."""
        largest = float(self.v.abs().max()) if self.n else 0.0
        return 0.5 * self.terms * np.finfo(float).eps * (self.scale + 2.0 * (largest + further))

    def backup(self, bonus: float = 0.0, keep: bool = False) -> tuple[float, float]:
        """v ← Tv and the greedy policy; the least and the largest change. Action values are computed when asked for."""
        q = self._q() + bonus
        new = self.torch.full_like(self.v, -np.inf).scatter_reduce_(0, self.pair_state, q, "amax")
        new = self.torch.where(self.mask, new, 0.0)
        hit = (q == new[self.pair_state]).nonzero().squeeze(1)
        before = self.chosen.clone()
        self.chosen[self.pair_state[hit.flip(0)]] = hit.flip(0)
        self.changed = float((self.chosen != before).double().mean())
        return self._replace(new)

    def follow(self, bonus: float = 0.0) -> tuple[float, float]:
        """One Jacobi sweep of that policy; the least and the largest change."""
        rows = self.chosen
        new = self.reward[rows] + bonus + self.gamma * (self.chance[rows] * self.v[self.successor[rows]]).sum(1)
        return self._replace(self.torch.where(self.mask, new, 0.0))

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
        """0: Jacobi sweeps have no direction."""
        return 0

    def average(self) -> None:
        """As `PackedSweeps.average`."""
        self.v = 0.5 * (self.v + self.before)

    def shift(self, by: float) -> None:
        """Add a constant to the value of every state that acts."""
        self.v[self.mask] += by  # a product of mask and number would be of single precision

    def start(self, bonus: float = 0.0) -> bool:
        """Start from values 0; False, as there is no pass back from the ends here."""
        return False

    def path_lengths(self) -> None:
        """None: there is no walk along paths here."""

    def follow_pairs(self, pairs: np.ndarray) -> None:
        """As `PackedSweeps.follow_pairs`."""
        self.chosen = self.torch.as_tensor(np.maximum(pairs, 0), device=self.device)

    @property
    def choice(self) -> np.ndarray:
        """int64 [n], on the host: the greedy pairs of the last backup; any number where there are none."""
        return self.chosen.cpu().numpy()

    @contextmanager
    def counting(self, guess: np.ndarray | None) -> Iterator[None]:
        """As `PackedSweeps.counting`."""
        values, reward = self.v, self.reward
        self.v = self.torch.zeros_like(values) if guess is None else self.torch.as_tensor(guess, device=self.device)
        self.reward = self.torch.zeros_like(reward)
        try:
            yield
        finally:
            self.v, self.reward = values, reward

    def after(self, w: np.ndarray) -> np.ndarray:
        """As `PackedSweeps.after`."""
        return (self.chance * self.torch.as_tensor(w, device=self.device)[self.successor]).sum(1).cpu().numpy()

    def move(self, by: np.ndarray) -> None:
        """Add `by`, float64 [n], to the values."""
        self.v = self.v + self.torch.as_tensor(by, device=self.device)

    def values(self) -> np.ndarray:
        """The values, float64 [n], on the host."""
        return self.v.cpu().numpy()

    def action_values(self) -> np.ndarray:
        """The action values of all pairs, float64 [P], on the host."""
        return self._q().cpu().numpy()

    def _q(self) -> torch.Tensor:
        return self.reward + self.gamma * (self.chance * self.v[self.successor]).sum(1)

    def _replace(self, new: torch.Tensor) -> tuple[float, float]:
        change = new - self.v
        self.before, self.v = self.v, new
        return float(change.min()), float(change.max())
