"""rlnet's tree search, with the networks at every leaf; `whole` of a kind: in every position, once for each search."""

from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from rlnet.algos.alphazero import Planner
from rlnet.algos.context import PI, AlgorithmContext, V
from rlnet.config import MlpConfig
from rlnet.envs.boards.enumeration import enumerate_positions, game_of
from rlnet.envs.boards.rules import KInARow
from rlnet.envs.boards.simulation import planes
from rlnet.nets import Inputs, ParameterLayout, make_network
from rlnet.numerics.random_streams import Streams
from rlnet.planning import Dynamics, RulesDynamics, TableDynamics
from rlnet.policies.distributions import Categorical

GAMES = {"tic_tac_toe": KInARow(3, 3, 3, gravity=False), "connect_four": KInARow(6, 7, 4, gravity=True)}


class Turns:
    """Searches from positions after two random moves."""

    def __init__(self, spec: dict[str, Any], whole: bool = False) -> None:
        torch.set_num_threads(1)  # as in every run of rlnet with perceptrons
        threadpool_limits(1, user_api="blas")
        torch.set_flush_denormal(True)
        numbers, rules = spec["numbers"], GAMES[spec["kind"]]
        self._games, self._simulations = numbers["games"], numbers["simulations"]
        self._rng, self._rules, features = np.random.default_rng(spec["seed"]), rules, None
        self._dynamics: Dynamics = RulesDynamics(rules)
        self._number: dict[bytes, int] | None = None
        if whole:
            positions = enumerate_positions(rules, 2**18)
            self._dynamics = TableDynamics(game_of(positions))
            self._number = {row.tobytes(): k for k, row in enumerate(positions.cells)}
            features = torch.from_numpy(planes(positions.cells))
        size = 2 * rules.rows * rules.columns
        states = None if features is None else len(features)
        inputs = Inputs(env="bench", n_states=states, features=features, size=None if whole else size)
        config = MlpConfig("mlp", hidden=list(numbers["hidden"]), input="features")
        networks = {PI: make_network(config, inputs, rules.n_actions), V: make_network(config, inputs, 1)}
        options = {"search": "puct", "simulations": self._simulations}
        self._context = AlgorithmContext(
            networks=networks, actions=Categorical(rules.n_actions), dynamics=self._dynamics, options=options
        )
        layout = ParameterLayout(networks)
        self._params = layout.unpack(layout.init(Streams([spec["seed"]], "network")))
        own = {"gamma": 1.0, "exploration": 1.25, "value_scale": 1.0, "noise": 0.25, "concentration": 1.0}
        own |= {"temperature": 1.0, "sampled_moves": 1e9}
        self._hyper = {name: torch.full((1, 1), number) for name, number in own.items()}

    def _roots(self) -> np.ndarray:
        cells = np.tile(self._rules.start(), (self._games, 1))
        for _ in range(2):
            scores = self._rng.random((self._games, self._rules.n_actions)) * self._rules.legal(cells)
            cells, _, _ = self._rules.play(cells, scores.argmax(-1))
        if self._number is None:
            return self._dynamics.observations(cells)[None]
        return np.array([[self._number[row.tobytes()] for row in cells]])

    def turn(self, steps: int) -> int:
        """About so many simulations."""
        done = 0
        while done < steps:
            planner = Planner(self._context, self._params, self._hyper)
            roots = self._roots()
            planner(roots, 0, self._rng.random((1, self._games, self._rules.n_actions)))
            done += self._games * self._simulations
        return done


make = Turns
