"""The search of OpenSpiel's Python AlphaZero: its MCTSBot with its evaluator and PUCT, one position at a time.

The network is a perceptron in numpy, the fastest there is for single positions; the evaluator's own cache of positions
is emptied before each turn, as it is whenever the network has learned.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pyspiel
from open_spiel.python.algorithms import mcts
from open_spiel.python.algorithms.alpha_zero import evaluator


class Perceptrons:
    """A policy and a value network of one hidden size, with random weights."""

    def __init__(self, rng: np.random.Generator, size: int, hidden: list[int], actions: int) -> None:
        self._nets = []
        for out in (actions, 1):
            widths = [size, *hidden, out]
            pairs = pairwise(widths)
            self._nets.append([rng.uniform(-1, 1, pair).astype(np.float32) / pair[0] ** 0.5 for pair in pairs])

    def inference(self, obs: np.ndarray, mask: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and policy of one position."""
        out = []
        for layers in self._nets:
            x = obs.astype(np.float32).ravel()
            for k, weight in enumerate(layers):
                x = (np.maximum(x, 0) if k else x) @ weight
            out.append(x)
        policy = np.where(mask, np.exp(out[0] - out[0].max()), 0.0)
        return float(out[1][0]), policy / policy.sum()


class Turns:
    """Searches from positions after two random moves."""

    def __init__(self, spec: dict[str, Any]) -> None:
        numbers, self._rng = spec["numbers"], np.random.default_rng(spec["seed"])
        self._game, self._simulations = pyspiel.load_game(spec["kind"]), numbers["simulations"]
        actions = self._game.num_distinct_actions()
        size = int(np.prod(self._game.observation_tensor_shape()))
        model = Perceptrons(self._rng, size, numbers["hidden"], actions)
        self._evaluator = evaluator.AlphaZeroEvaluator(self._game, model)
        self._bot = mcts.MCTSBot(
            self._game,
            1.25,
            self._simulations,
            self._evaluator,
            solve=False,
            random_state=np.random.RandomState(spec["seed"]),
            child_selection_fn=mcts.SearchNode.puct_value,
            dirichlet_noise=(0.25, 1.0),
        )

    def turn(self, steps: int) -> int:
        """About so many simulations."""
        self._evaluator._cache.clear()
        done = 0
        while done < steps:
            state = self._game.new_initial_state()
            for _ in range(2):
                state.apply_action(int(self._rng.choice(state.legal_actions())))
            self._bot.mcts_search(state)
            done += self._simulations
        return done


make = Turns
