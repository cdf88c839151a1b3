"""Self-play and other acting by tree search: action selection for the collector, with each member's random numbers."""

from itertools import count
from typing import Any, cast

import numpy as np
import torch

from rlnet.algos import Algorithm, AlgorithmContext
from rlnet.algos.algorithm import Planner
from rlnet.algos.context import Hyper, Params
from rlnet.config import Config
from rlnet.data.interfaces import Choose, Searched
from rlnet.mdp import FiniteMDP
from rlnet.numerics.random_streams import Array, BlockUniform, Streams
from rlnet.planning import policy_where_reachable


class SelfPlay:
    """Action selection by tree search, in rollouts of whole episodes.

    Args:
        algorithm, context: an algorithm with `acting.planner`, and its context.
        config: of the run.
    """

    def __init__(self, algorithm: Algorithm, context: AlgorithmContext, config: Config) -> None:
        self._plan, self._context = algorithm.acting.planner, context
        self._on_device = config.device != "cpu"
        # A rollout's numbers are drawn together, whenever its last episode ends.
        shape = config.algo.rollout, config.algo.envs, context.actions.outputs
        self._uniforms = BlockUniform(Streams(config.member_seeds, "search"), shape, 1, np)
        self.threads = 1

    def planner(self, params: Params, hyper: Hyper) -> Planner:
        """Make the tree search with these parameters."""
        assert self._plan is not None
        planner = self._plan(self._context, params, hyper)
        planner.threads = self.threads
        return planner

    def choosing(self, params: Params, hyper: Hyper) -> Choose:
        """The action function of the next rollout."""
        planner, numbers, moves = self.planner(params, hyper), self._uniforms.next(), count()

        def choose(obs: Array, mask: Array | None, uniform: Array, running: Array | None) -> Searched:
            move = next(moves)
            seen, active = (
                None if x is None else np.asarray(x.cpu() if self._on_device else x) for x in (obs, running)
            )
            found = planner(cast(np.ndarray, seen), move, numbers[:, move], active)
            action = self._context.actions.sample(torch.from_numpy(found.policy), torch.as_tensor(uniform).cpu())
            made = action, torch.from_numpy(found.target).float(), torch.from_numpy(found.value).float()
            return Searched(*(x.to(obs.device) if self._on_device else x.numpy() for x in made))

        return choose

    def played(
        self, params: Params, hyper: Hyper, mdp: FiniteMDP, policy: np.ndarray, value: np.ndarray | None
    ) -> np.ndarray:
        """The policies [M, S, A] of the searches as they play to win, where they can ever act; elsewhere `policy`.

        Args:
            policy, value: [M, S, A] and [M, S], what these parameters say in every state; no value: not evaluated yet.
        """
        planner, tables = self.planner(params, hyper), []
        if value is not None:
            planner.know(policy, value)
        for member, own in enumerate(policy):

            def at(state: np.ndarray, member: int = member) -> np.ndarray:
                return planner.states(np.full(len(state), member), state)

            tables.append(policy_where_reachable(mdp, at, own)[0])
        return np.stack(tables)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return self._uniforms.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self._uniforms.load_state_dict(state)
