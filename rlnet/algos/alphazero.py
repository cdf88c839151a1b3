"""AlphaZero: a tree search guided by π and V acts, and π and V learn from it (Silver et al. 2018).

The target of π is the visit distribution of the search; that of V is the outcome of the game for the player who moves,
or a mixture of it with the value of the search. With `search=gumbel` the target of π is the improved policy of
Danihelka et al. 2022. It needs a deterministic model to search in: board games, and finite models of one player.
"""

import math
from typing import cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.algorithm import (
    Acting,
    Algorithm,
    Data,
    Judged,
    LossGradient,
    Plan,
    Update,
    by_policy,
)
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Metrics, Params, V
from rlnet.algos.loss_terms import ends, mean, regression, total
from rlnet.algos.returns import lambda_return
from rlnet.data.rollout import Observation, Rollout
from rlnet.planning import Dynamics, Evaluated, Gumbel, Puct, TableDynamics, gumbel_noise, priors, root_noise, search

TABLE = 2**18  # states up to which the networks are evaluated in all of them, once for each rollout
ROWS = 2048  # states that networks are given at once


class Planner:
    """Tree search by π and V with fixed parameters; implements `rlnet.algos.algorithm.Planner`."""

    threads = 1

    def __init__(self, context: AlgorithmContext, params: Params, hyper: Hyper) -> None:
        self._context, self._params, self._dynamics = context, params, cast(Dynamics, context.dynamics)
        self._hyper = {name: number.cpu().numpy().astype(np.float64) for name, number in hyper.items()}  # [M, 1]
        self._known: Evaluated | None = None  # the networks in all states, once somebody needs them

    def __call__(
        self, obs: np.ndarray, move: int, uniform: np.ndarray | None, active: np.ndarray | None = None
    ) -> Plan:
        """See `rlnet.algos.algorithm.Planner`."""
        if self._known is None and isinstance(self._dynamics, TableDynamics) and len(self._dynamics.pair) <= TABLE:
            self._known = self._everywhere(self._dynamics)
        state = self._dynamics.states(obs)
        (members, envs), kind = obs.shape[:2], state.shape[2:]
        root, member = state.reshape(-1, *kind), np.repeat(np.arange(members), envs)
        legal = self._dynamics.available(root)
        policy, value = legal / legal.sum(-1, keepdims=True), np.zeros(len(root))
        target = policy.copy()
        # Leaves are evaluated for all environments together, or what a network gives would depend on their number.
        needed = np.arange(len(root)) if active is None else np.flatnonzero(active)
        rows = needed if self._known is not None else np.arange(len(root))
        if len(needed):
            noise = None if uniform is None else uniform.reshape(len(root), -1)[rows]
            policy[rows], target[rows], value[rows] = self._found(root[rows], member[rows], legal[rows], move, noise)
        shape = (members, envs, -1)
        return Plan(policy.reshape(shape), target.reshape(shape), value.reshape(members, envs))

    def know(self, policy: np.ndarray, value: np.ndarray) -> None:
        """See `rlnet.algos.algorithm.Planner`."""
        prior = np.where(cast(TableDynamics, self._dynamics).pair >= 0, policy, -1.0)
        self._known = Evaluated(
            np.ascontiguousarray(prior, np.float32), np.ascontiguousarray(value, np.float64), np.zeros(0, np.int64)
        )

    def states(self, member: np.ndarray, state: np.ndarray) -> np.ndarray:
        """See `rlnet.algos.algorithm.Planner`."""
        dynamics = cast(TableDynamics, self._dynamics)
        if self._known is None:
            self._known = self._everywhere(dynamics)
        return self._found(state, member, dynamics.available(state), 0, None)[0]

    def _found(
        self, root: np.ndarray, member: np.ndarray, legal: np.ndarray, move: int, uniform: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Search from states: the policies to act by and to learn, [B, A] each, and the values [B]."""
        number = {name: x[member, 0] for name, x in self._hyper.items() if x.shape[1:] == (1,)}
        explores = uniform is not None and move < self._hyper["sampled_moves"].max()
        sampled = (move < number["sampled_moves"])[:, None]
        count, gumbel = self._context.options["simulations"], self._context.options["search"] == "gumbel"
        noise = None
        if gumbel:
            method: Puct | Gumbel = Gumbel(count, considered=self._context.options["considered"])
            if explores:
                noise = np.where(sampled, gumbel_noise(cast(np.ndarray, uniform)), 0.0)
        else:
            method = Puct(count, number["exploration"], number["value_scale"], number["noise"])
            if uniform is not None:
                noise = root_noise(uniform, legal, number["concentration"][:, None])
        evaluate = self._leaves if self._known is None else self._known._replace(table=member)
        found = search(self._dynamics, evaluate, root, number["gamma"], method, noise, self.threads)
        if found.best is not None:
            acting = np.zeros(legal.shape)
            acting[np.arange(len(root)), found.best] = 1.0
        else:
            share = found.visits / found.visits.max(-1, keepdims=True)
            acting = (share == 1.0).astype(np.float64)
            if explores:
                acting = np.where(sampled, share ** (1.0 / number["temperature"][:, None]), acting)
            acting /= acting.sum(-1, keepdims=True)
        return acting, found.policy, found.value

    @torch.no_grad()
    def _networks(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Preferences [M, N, A] and values [M, N] of observations [M, N, ...]."""
        device = next(iter(self._params[V].values())).device
        state = Observation(torch.from_numpy(np.ascontiguousarray(obs)).to(device))
        preferences = self._context.policy(self._params, state).nan_to_num()
        return preferences.cpu().numpy(), self._context.v(self._params, state).nan_to_num().cpu().numpy()

    def _leaves(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The networks at states [M·N, ...]."""
        members = len(self._hyper["gamma"])
        obs = self._dynamics.observations(state)
        preferences, value = self._networks(obs.reshape(members, -1, *obs.shape[1:]))
        return preferences.reshape(len(state), -1), value.reshape(-1)

    def _everywhere(self, dynamics: TableDynamics) -> Evaluated:
        """The networks in all states of a finite model."""
        members, (states, actions) = len(self._hyper["gamma"]), dynamics.pair.shape
        prior, value = np.empty((members, states, actions), np.float32), np.empty((members, states))
        for start in range(0, states, ROWS):
            own = slice(start, min(start + ROWS, states))
            obs = dynamics.observations(np.arange(own.start, own.stop))
            preferences, value[:, own] = self._networks(np.tile(obs, (members, *[1] * obs.ndim)))
            prior[:, own] = priors(preferences, dynamics.pair[own] >= 0)
        return Evaluated(prior, value, np.zeros(0, np.int64))


def prepare(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> dict[str, Tensor]:
    """Outcome of the game for the player who moves, bootstrapped from V where the game was truncated: [T, M, N]."""
    discount, trace = ends(batch, hyper, lambda_=1.0)
    cut = batch.truncated & batch.valid
    next_value = context.v(params, batch.next_state) if cut.any() else torch.zeros_like(batch.reward)
    return {"outcome": lambda_return(batch.reward, discount, trace, next_value)}


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−Σ_a p(a)·log π(a|S) + c·½·(z − V(S))², p the policy of the search, z the outcome mixed with its value."""
    state, target = batch.state, batch.tensor("search_policy")
    if context.symmetries is not None:  # each row in an image of its own
        which = (batch.extra["uniform"][..., 0] * context.symmetries.count).long()
        mask = None if state.mask is None else context.symmetries.policy(which, state.mask)
        state = Observation(context.symmetries.obs(which, state.obs), mask)
        target = context.symmetries.policy(which, target)
    log_pi = context.policy(params, state)
    some = target > 0
    cross = -(target * log_pi.masked_fill(~some, 0.0)).sum(-1)
    entropy = -(target * target.masked_fill(~some, 1.0).log()).sum(-1)
    aim = torch.lerp(batch.extra["outcome"], batch.tensor("search_value"), hyper["root_share"])
    value_loss, error = regression(aim, context.v(params, state), batch.weight)
    metrics = {"loss/value_error": error, "loss/policy_kl": mean(cross.detach() - entropy, batch.weight)}
    return total(cross, batch.weight) + hyper["value_coefficient"].squeeze(-1) * value_loss, metrics


def draws(context: AlgorithmContext) -> int:
    """Random numbers for each row: one, which chooses its symmetry, or none."""
    return 0 if context.symmetries is None else 1


ALGORITHM = Algorithm(
    roles=(PI, V),
    acting=Acting(by_policy, planner=Planner),
    objective=LossGradient(loss),
    data=Data(replay=True, target_network=False, whole_episodes=True),
    update=Update(prepare=prepare, draws=draws),
    judged=Judged.ACTOR,
    hyper={
        "exploration": (0.0, 1e6),  # c(0) of PUCT
        "value_scale": (1e-6, 1e9),  # Q/value_scale meets the exploration bonus; 1 for games
        "noise": (0.0, 1.0),  # share of the Dirichlet noise in the root's prior
        "concentration": (1e-3, 1e3),  # α of that noise
        "temperature": (1e-2, 1e2),  # τ: moves are drawn ∝ visits^(1/τ)
        "sampled_moves": (0.0, math.inf),  # so many of each episode; later ones are the most visited
        "root_share": (0.0, 1.0),  # of the search's value in the target of V; the rest is the outcome
        "value_coefficient": (0.0, 1e6),
    },
    options={
        "search": ("puct", "gumbel"),
        "simulations": range(1, 2**16),
        "considered": range(1, 2**16),  # actions at the root of a Gumbel search
        "symmetries": (False, True),  # learn from random images of positions
    },
    source="Silver et al. 2018",
)
