"""Finite Markov decision processes and their exact solution by dynamic programming. Knows no network, no learner.

SciPy's submodules (`sp.sparse`, `sp.linalg`) are loaded at first use, when a model is built: training without a model
does not wait for them.
"""

from rlnet.mdp.errors import (
    ImproperPolicyError,
    InvalidMDPError,
    NoModelError,
    ToleranceWarning,
    UnboundedValueError,
)
from rlnet.mdp.evaluation import evaluate, occupancy
from rlnet.mdp.events import event_model, event_probability
from rlnet.mdp.games.responses import best_response, game_value, nash_conv
from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.solution import Solution
from rlnet.mdp.solving import solve

__all__ = [
    "FiniteMDP",
    "ImproperPolicyError",
    "InvalidMDPError",
    "NoModelError",
    "Solution",
    "ToleranceWarning",
    "UnboundedValueError",
    "best_response",
    "evaluate",
    "event_model",
    "event_probability",
    "game_value",
    "nash_conv",
    "occupancy",
    "solve",
]
