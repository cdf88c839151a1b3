"""Lagrange multipliers of a chance constraint, updated by dual ascent on sampled episodes."""

from typing import Any

import torch
from torch import Tensor

from rlnet.config import ConstraintConfig
from rlnet.data.rollout import Rollout


class Constraint:
    """Lagrange multipliers λ [M, 1] of the constraint P(event in an episode) ≤ limit.

    max_π min_{λ ≥ 0} J(π) − λ·(P(π) − limit): the learner maximises the reward R − λ·1[event], and the episodes that
    end in a rollout change λ ← max(0, λ + rate·Σ (1[the event happened in it] − limit)), exploration included (dual
    ascent; Altman 1999, Tessler, Mankowitz & Mannor 2019). Where an episode goes on after the event, each costs λ.

    Args:
        settings: with columns [M, 1] of limit, rate and multiplier.
        envs: N.
    """

    def __init__(self, settings: ConstraintConfig, envs: int) -> None:
        limit: Any = settings.limit
        multiplier: Any = settings.multiplier
        rate: Any = settings.rate
        self._limit, self._rate = (x.double() for x in (limit, rate))
        self.multiplier: Tensor = multiplier.double().clone()  # [M, 1]
        # [M, N], whether the event has happened in the running episode.
        self._happened = torch.zeros(len(limit), envs, dtype=torch.bool, device=limit.device)
        self._counts = torch.zeros(len(limit), 2, dtype=torch.float64, device=limit.device)  # since the last row

    def charged(self, rollout: Rollout) -> Rollout:
        """Replace the reward of a rollout or replay batch by R − λ·1[event]."""
        return rollout.replace(reward=rollout.reward - self.multiplier.float() * rollout.event)

    @torch.no_grad()
    def observe(self, rollout: Rollout, first: int, active: Tensor, follows: Tensor) -> None:
        """Dual ascent step with the episodes that end in a rollout [T, M, N] from row `first` on.

        Args:
            active: bool [M], the members that still learn, whose episodes are counted.
            follows: bool [M], those of them whose multiplier changes by their episodes.
        """
        rows = (getattr(rollout, name)[first:] for name in ("event", "terminated", "truncated", "valid"))
        counts = torch.zeros_like(self._counts)
        for event, terminated, truncated, valid in zip(*rows, strict=True):
            self._happened |= event & valid
            ended = (terminated | truncated) & valid
            counts += torch.stack([(self._happened & ended).sum(-1), ended.sum(-1)], -1)
            self._happened &= ~ended
        counts *= active.to(counts.device).unsqueeze(-1)
        with_event, ended = counts.split(1, -1)
        step = self._rate * (with_event - self._limit * ended) * follows.to(counts.device).unsqueeze(-1)
        self.multiplier = (self.multiplier + step).clamp(min=0.0)
        self._counts += counts

    def logged(self) -> dict[str, Tensor]:
        """Metrics [M]: multiplier, and share of the episodes since the last call with the event (NaN: no episodes)."""
        with_event, ended = self._counts.unbind(-1)
        rate = with_event / ended
        self._counts.zero_()
        return {"constraint/multiplier": self.multiplier.squeeze(-1), "constraint/event_rate": rate}

    def begin(self) -> None:
        """Forget the running episodes, because all environments begin new ones."""
        self._happened.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        """State for a checkpoint, with the members in front."""
        return {"multiplier": self.multiplier, "happened": self._happened, "counts": self._counts}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the state of `state_dict`."""
        self.multiplier = state["multiplier"].to(self.multiplier)
        self._happened.copy_(state["happened"])
        self._counts.copy_(state["counts"])
