"""What can be wrong with a model, or with asking it for a value."""

from __future__ import annotations

import numpy as np


class InvalidMDPError(ValueError):
    """The numbers are no Markov decision process; the message names the first (state, action) and the number."""


class NoModelError(ValueError):
    """The environment has no finite model that could be read or explored; the message says why."""


class ImproperPolicyError(ValueError):
    """At γ = 1 the policy (or every policy) goes on for ever from some states and keeps collecting reward there."""

    states: np.ndarray  # int: those states, where `solve` raises it


class UnboundedValueError(ValueError):
    """At γ = 1 a policy collects unbounded reward: v* is +∞ in some states."""

    states: np.ndarray  # int: those states, where `solve` raises it


class ToleranceWarning(UserWarning):
    """The requested tolerance was not reached; `Solution.error_bound` says what was."""


def name_states(states: np.ndarray, labels: tuple[str, ...] | None = None, limit: int = 8) -> str:
    """ "3, 7, 8, ... (12 in all)", with labels where the model has them."""
    shown = [str(int(s)) if labels is None else f"{int(s)} ({labels[int(s)]})" for s in states[:limit]]
    more = "" if len(states) <= limit else f", ... ({len(states)} in all)"
    return ", ".join(shown) + more
