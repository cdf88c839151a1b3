"""sbx: the learners of Stable-Baselines3 with networks in JAX; its environments and loops are those of SB3."""

import importlib
from typing import Any

import numpy as np
from peers import sb3

library = importlib.import_module("sbx")


class Turns(sb3.Turns):
    """A learner of sbx that learns in turns."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec, library)

    def actor(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The layers of the policy."""
        layers = self.model.policy.actor_state.params["params"]
        return [(np.asarray(layers[name]["kernel"]), np.asarray(layers[name]["bias"])) for name in sorted(layers)]


make = Turns
