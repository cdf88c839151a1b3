"""Exceptions and warnings of models and solutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class InvalidMDPError(ValueError):
    """Arrays that are no Markov decision process; the message names the first (state, action) and the number."""


class NoModelError(ValueError):
    """No finite model could be read or explored; the message says why."""


class ImproperPolicyError(ValueError):
    """Improper policy at γ = 1: it (or every policy) never ends from some states and keeps collecting reward."""

    states: np.ndarray  # int: those states, where `solve` raises it


class UnboundedValueError(ValueError):
    """Unbounded value at γ = 1: v* is +∞ in some states."""

    states: np.ndarray  # int: those states, where `solve` raises it


class ToleranceWarning(UserWarning):
    """The requested tolerance was not reached; `Solution.error_bound` says what was."""


def name_states(states: np.ndarray, labels: Sequence[str] | None = None, limit: int = 8) -> str:
    """ "3, 7, 8, ... (12 in all)", with labels where the model has them."""
    shown = [str(int(s)) if labels is None else f"{int(s)} ({labels[int(s)]})" for s in states[:limit]]
    more = "" if len(states) <= limit else f", ... ({len(states)} in all)"
    return ", ".join(shown) + more
