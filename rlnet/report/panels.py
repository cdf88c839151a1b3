"""Panels, grids, arrows, scales and units, shared by terminal output and figures.

S states, A actions. Terminal states are left out of scales and units: their value is 0 by definition and a network is
never asked about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlnet.mdp.cells import DIRECTIONS

if TYPE_CHECKING:
    from rlnet.mdp import FiniteMDP

VALUE, ERROR = "value", "error"

# Probabilities closer than this to the largest count as a tie: nobody can see or means a smaller preference.
TIE = 1e-3
MAX_CHAIN = 60  # a grid of one row or column with more cells than this is too long to be drawn as one


@dataclass(frozen=True, eq=False)
class Panel:
    """A panel: one quantity over all states, drawn beside others.

    Panels of kind "value" share one colour scale and one unit; those of kind "error" share another, centred on 0.

    Raises:
        ValueError: the kind is unknown, or an array has the wrong rank or length.
    """

    title: str
    v: np.ndarray  # float [S]
    policy: np.ndarray | None = None  # float [S, A] probabilities; the most probable actions are drawn
    kind: str = VALUE

    def __post_init__(self) -> None:
        if self.kind not in (VALUE, ERROR):
            raise ValueError(f"panel {self.title!r}: kind={self.kind!r}, allowed are {VALUE!r}, {ERROR!r}")
        object.__setattr__(self, "v", np.asarray(self.v, dtype=np.float64))
        if self.v.ndim != 1:
            raise ValueError(f"panel {self.title!r}: v has shape {self.v.shape}, it must be [S]")
        if self.policy is not None:
            object.__setattr__(self, "policy", np.asarray(self.policy, dtype=np.float64))
            if self.policy.ndim != 2 or len(self.policy) != len(self.v):
                raise ValueError(f"panel {self.title!r}: policy has shape {self.policy.shape}, it must be [S, A]")


def learned_and_exact(
    v: np.ndarray,
    v_exact: np.ndarray,
    policy: np.ndarray,
    optimal_policy: np.ndarray,
    against: str,
    note: str = "",
    approximation: str = "",
) -> list[Panel]:
    """The three panels of a comparison: learned values with the judged policy, exact values, and their difference.

    Args:
        v, v_exact: [S].
        policy, optimal_policy: [S, A]; the exact panel shows the policy whose values it holds.
        against: "optimal" or "policy", as in `rlnet.compare`.
        note: added to the first title.
        approximation: what is approximate about the values, if anything is.
    """
    optimal, kind = against == "optimal", "approximate" if approximation else "exact"
    return [
        Panel(f"learned V{note}", v, policy),
        Panel(f"{kind} V*" if optimal else f"{kind} V^π", v_exact, optimal_policy if optimal else policy),
        Panel(f"error (learned − {kind})", v - v_exact, None, ERROR),
    ]


def check_panels(mdp: FiniteMDP, panels: Sequence[Panel]) -> None:
    """Raises ValueError where there is no panel, or one does not fit the model."""
    if not panels:
        raise ValueError("no panels to show")
    for panel in panels:
        if len(panel.v) != mdp.n_states:
            raise ValueError(f"panel {panel.title!r}: {len(panel.v)} values, the model has {mdp.n_states} states")
        if panel.policy is not None and panel.policy.shape[1] != mdp.n_actions:
            raise ValueError(
                f"panel {panel.title!r}: policy over {panel.policy.shape[1]} actions, the model has {mdp.n_actions}"
            )


def grid_states(mdp: FiniteMDP) -> np.ndarray:
    """The state of each cell, int [rows, cols], −1 for a wall; row 0 is the top. ValueError without a shape."""
    if mdp.shape is None:
        raise ValueError("the model has no shape, so its states lie on no grid")
    grid = np.full(mdp.shape[0] * mdp.shape[1], -1)
    grid[np.arange(mdp.n_states) if mdp.cell is None else mdp.cell] = np.arange(mdp.n_states)
    return grid.reshape(mdp.shape)


def as_chain(mdp: FiniteMDP) -> bool:
    """Whether the grid is one long row or column, better shown as a list of states or as a curve."""
    return mdp.shape is not None and min(mdp.shape) == 1 and max(mdp.shape) > MAX_CHAIN


def chosen_actions(mdp: FiniteMDP, policy: np.ndarray) -> np.ndarray:
    """The most probable available actions of each state, bool [S, A], ties included; none in terminal states."""
    probability = np.where(mdp.available, np.nan_to_num(policy, nan=0.0), 0.0)
    best = probability.max(axis=1, keepdims=True, initial=0.0)
    return (probability > 0) & (probability >= best - TIE)


def has_arrows(mdp: FiniteMDP) -> bool:
    """Whether every action has a direction, so that a policy can be drawn on a grid."""
    return mdp.action_labels is not None and all(label in DIRECTIONS for label in mdp.action_labels)


def action_names(mdp: FiniteMDP) -> list[str]:
    """One name per action: its label, or its number."""
    return list(mdp.action_labels) if mdp.action_labels is not None else [str(a) for a in range(mdp.n_actions)]


def state_names(mdp: FiniteMDP) -> list[str]:
    """One name per state: its label, or its number."""
    return list(mdp.labels) if mdp.labels is not None else [str(s) for s in range(mdp.n_states)]


@dataclass(frozen=True)
class Scale:
    """The range of a colour map."""

    low: float
    high: float

    @property
    def flat(self) -> bool:
        """Whether all values are equal."""
        return self.low == self.high

    def fraction(self, value: float) -> float:
        """Position of a finite value on the map, in [0, 1]; 0.5 on a flat scale."""
        return 0.5 if self.flat else float(np.clip((value - self.low) / (self.high - self.low), 0.0, 1.0))


def finite_values(mdp: FiniteMDP, panels: Sequence[Panel], kind: str) -> np.ndarray:
    """Finite values of the non-terminal states in the panels of a kind, float [n]."""
    parts = [panel.v[~mdp.terminal] for panel in panels if panel.kind == kind]
    values = np.concatenate(parts) if parts else np.zeros(0)
    return values[np.isfinite(values)]


def scale_of(mdp: FiniteMDP, panels: Sequence[Panel], kind: str) -> Scale:
    """The scale that all panels of a kind share: from least to largest, for errors symmetric about 0."""
    values = finite_values(mdp, panels, kind)
    if kind == ERROR:
        largest = float(np.abs(values).max(initial=0.0))
        return Scale(-largest, largest)
    return Scale(float(values.min()), float(values.max())) if len(values) else Scale(0.0, 0.0)


@dataclass(frozen=True)
class Unit:
    """Number format of a kind: units of 10^exponent, with a fixed number of decimals."""

    exponent: int
    decimals: int
    signed: bool

    def text(self, value: float) -> str:
        """The number, or nan, inf, -inf. What rounds to 0 has no sign."""
        if not np.isfinite(value):
            return f"{value:+}" if self.signed and not np.isnan(value) else str(float(value))
        scaled = float(value) / 10.0**self.exponent
        text = f"{scaled:{'+' if self.signed else ''}.{self.decimals}f}"
        return text if text.strip("+-0.") else f"{0:.{self.decimals}f}"

    @property
    def suffix(self) -> str:
        """Suffix of titles: "", or ", in 10⁻⁴"."""
        superscript = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
        return f", in 10{str(self.exponent).translate(superscript)}" if self.exponent else ""


def unit_of(mdp: FiniteMDP, panels: Sequence[Panel], kind: str) -> Unit:
    """The unit that all panels of a kind share: about three digits of what distinguishes the states."""
    values = finite_values(mdp, panels, kind)
    largest = float(np.abs(values).max(initial=0.0))
    exponent = int(np.floor(np.log10(largest))) if largest > 0 and not 1e-2 <= largest < 1e5 else 0
    exponent = max(exponent, -307)  # below, 10^exponent is no longer a normal number
    spread = (2 * largest if kind == ERROR else float(np.ptp(values)) if len(values) else 0.0) / 10.0**exponent
    spread = spread if spread > 1e-4 else 1.0
    decimals = int(np.clip(np.floor(2.5 - np.log10(spread)), 0, 4))
    return Unit(exponent, decimals, signed=kind == ERROR)
