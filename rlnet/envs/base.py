"""`Environment`: the description of an environment (spaces, model, limits) and how to simulate it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from rlnet.envs.actions import Actions, JointActions, joint_size
from rlnet.envs.adapter import GymnasiumSimulation
from rlnet.envs.boards.board import Board
from rlnet.envs.boards.simulation import BoardSimulation
from rlnet.envs.control.cartpole import CartPoleSimulation
from rlnet.envs.encoding import Encoder
from rlnet.envs.simulate import OnDevice, TabularSimulation
from rlnet.envs.spaces import observed
from rlnet.envs.state_rows import GridRows, StateRows
from rlnet.envs.tokens.simulation import TokenSimulation
from rlnet.envs.tokens.tree import Tokens
from rlnet.mdp import FiniteMDP
from rlnet.mdp.from_env.grid import GridModel
from rlnet.numerics.observation_rows import RowLayout

Simulation = (
    TabularSimulation
    | BoardSimulation
    | TokenSimulation
    | GymnasiumSimulation
    | CartPoleSimulation
    | JointActions
    | OnDevice
)


@dataclass(frozen=True, eq=False)
class Environment:
    """Description of an environment. S states, A actions of D components, F features.

    An observation as the environment gives it becomes a row by `rlnet.envs.reading`, and an action of a policy becomes
    what `step` of a single environment takes by `taken`, of several by `decoded`.
    """

    name: str
    mdp: FiniteMDP | None = field(repr=False)  # the finite model, where there is one
    n_actions: int | None  # A, where actions are discrete
    action_bounds: tuple[np.ndarray, np.ndarray] | None  # lowest and highest, [D] float32 each, where they are real
    n_states: int | None  # S, where observations are state indices
    observation_shape: tuple[int, ...]  # of one observation as a tensor: () for an index, else (F,)
    features: np.ndarray | None = field(repr=False)  # [S, F] float32, the inputs of a linear network
    max_steps: int | None  # the time limit of an episode
    _build: Callable[[Sequence[int], int, torch.device | str | None], Simulation] = field(repr=False)
    masks: bool = field(default=False, kw_only=True)  # whether observations come with masks of the available actions
    game: bool = field(default=False, kw_only=True)  # whether steps have a sign: a zero-sum game of two players
    no_model: str = ""  # why there is no model, in one sentence, where one was looked for
    tried: str = field(default="", kw_only=True)  # how closely the model was tried on code that is not its own
    tokens: Tokens | None = field(default=None, repr=False)  # of token tasks: the task, its tokens and reference
    board: Board | None = field(default=None, repr=False)  # of board games: the rules and the positions
    true_reward: np.ndarray | None = field(
        default=None, repr=False
    )  # [K] of the model's outcomes, where they pay a proxy
    states: StateRows | GridRows | None = field(default=None, repr=False)  # of a model, unless observations are indices
    grid: GridModel | None = field(default=None, repr=False)  # the approximate model, where `mdp` is one
    layout: RowLayout | None = None  # parts of an observation that is no index
    encoder: Encoder | None = field(default=None, repr=False)  # None: observations are indices, or plain numbers
    joined: tuple[int, ...] | None = None  # the factors whose product single actions are, the last one fastest
    drawing: Callable[[str], Any] | None = field(default=None, repr=False)  # render mode → what has draw(state), LEGEND
    events: tuple[str, ...] = ()  # that the simulation can watch
    processes: bool = False  # whether every environment of a simulation has a process of its own
    actions: Actions | None = field(default=None, repr=False)  # as the environment takes them; None: as they are
    space: Any = field(default=None, repr=False)  # of observations, Gymnasium's, masks included; None: none of its own

    @property
    def first_state(self) -> int:
        """What the environment calls its first state, where observations are state indices."""
        space: Any = None if self.space is None else observed(self.space)[0]
        return 0 if space is None else int(space.start)

    @property
    def factors(self) -> tuple[int, ...] | None:
        """The numbers of choices where an action is a product of finite choices."""
        return None if self.actions is None or self.joined is not None else self.actions.factors

    def joint(self) -> "Environment":
        """The same environment with a product of finite choices multiplied out to `n_actions` single actions."""
        if self.factors is None:
            return self
        factors, build = self.factors, self._build

        def built(seeds: Sequence[int], envs: int, device: torch.device | str | None) -> Simulation:
            simulation = JointActions(build(seeds, envs, None), factors)
            return simulation if device is None else OnDevice(simulation, device)

        return replace(self, n_actions=joint_size(factors), joined=factors, _build=built)

    def decoded(self, actions: np.ndarray) -> Any:
        """Actions of a policy, int64 [B], int64 [B, D] or float32 [B, D], as a vector environment of B takes them."""
        actions = self._factored(actions)
        if self.actions is not None:
            return self.actions.decode(actions)
        return actions if self.action_bounds is None else actions.clip(*self.action_bounds)

    def taken(self, action: np.ndarray) -> Any:
        """One action of a policy as `step` of a single environment takes it."""
        if self.actions is None:
            return self.decoded(action)
        return self.actions.of_one(self._factored(action))

    def _factored(self, actions: np.ndarray) -> np.ndarray:
        """Actions int64 [...] that were multiplied out as the choices [..., D] that they are; others as they are."""
        return actions if self.joined is None else np.stack(np.unravel_index(actions, self.joined), axis=-1)

    def simulate(self, seeds: Sequence[int], envs: int, device: torch.device | str | None = None) -> Simulation:
        """Simulation of M = len(seeds) members × N = `envs` environments: of tensors, or (None) of arrays."""
        return self._build(seeds, envs, device)


def from_model(name: str, mdp: FiniteMDP, features: np.ndarray | None, max_steps: int | None) -> Environment:
    """An environment that is simulated from its model; features [S, F] for linear networks, and a time limit."""

    def build(seeds: Sequence[int], envs: int, device: torch.device | str | None) -> Simulation:
        return TabularSimulation(mdp, seeds, envs, max_steps=max_steps, device=device)

    masks = not (mdp.available | mdp.terminal[:, None]).all()
    return Environment(
        name,
        mdp,
        mdp.n_actions,
        None,
        mdp.n_states,
        (),
        features,
        max_steps,
        build,
        masks=masks,
        game=mdp.sign is not None,
        events=tuple(mdp.events or ()),
    )
