"""Function classes: projections of values (closed form or training to convergence) and TD fixed points."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rlnet.config import Config, LinearConfig, TabularConfig
from rlnet.data.rollout import Observation
from rlnet.diagnosis.targets import NotDefined, Operator, Target, Units, floored
from rlnet.experiment.problem import Problem
from rlnet.learning.learner import Learner
from rlnet.learning.optimizers import OPTIMIZERS
from rlnet.nets import ParameterLayout
from rlnet.nets.network import Params
from rlnet.numerics.random_streams import Streams

SWEEPS = 50_000  # of expected updates in closed form before they count as not settling
ROUND, ROUNDS, RATE = 1_500, 8, 3e-3  # of training: steps of a round (rate from RATE to 0), most rounds
MOST_UNITS = 20_000  # that networks are trained on, all of them in each step
FOLLOW = 0.1  # share of the way that the values in a bootstrap follow the current ones in a step, as a target network
TRACE = 1e-3  # of all weight goes evenly to all units in training: what is never weighted is never learned
SETTLED, STILL = 5e-4, 2e-3  # of the spread of the exact values: an error that is 0, a movement that is none


def settle(apply: Operator, project: Operator, x: np.ndarray) -> np.ndarray:
    """Iterate x ← ½·x + ½·Π T x to its fixed point.

    Raises:
        NotDefined: it does not settle.
    """
    for _ in range(SWEEPS):
        after = project(apply(x))
        if not np.isfinite(after).all():
            break
        if np.abs(after - x).max() <= 1e-10 * max(1.0, np.abs(after).max()):
            return after
        x = 0.5 * (x + after)
    raise NotDefined("the expected updates do not converge: they diverge or oscillate with this function class")


@dataclass(frozen=True)
class Tabular:
    """Tabular function class: every function, so that a projection changes nothing."""

    def fit(self, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The projection, which is the target itself: [M, n]."""
        return target.copy()

    def fixed_points(self, targets: list[Target], weights: np.ndarray, exact: np.ndarray) -> np.ndarray:
        """Where expected updates of the whole table end: [M, n]."""
        return np.stack(
            [settle(target.apply, lambda x: x, np.zeros_like(w)) for target, w in zip(targets, weights, strict=True)]
        )


@dataclass(frozen=True)
class Linear:
    """Linear function class x = Φ·θ, Φ [n, k]."""

    features: np.ndarray

    def fit(self, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Weighted least-squares projections in the norms of `weights` (S&B eq. 11.14): [M, n] both."""
        return np.stack([self._projector(w)(y) for y, w in zip(target, weights, strict=True)])

    def fixed_points(self, targets: list[Target], weights: np.ndarray, exact: np.ndarray) -> np.ndarray:
        """TD fixed points x = Π T x, [M, n]; in closed form where T is affine."""
        return np.stack(
            [
                self._solved(one.apply, w) if one.affine else settle(one.apply, self._projector(w), np.zeros_like(w))
                for one, w in zip(targets, weights, strict=True)
            ]
        )

    def _solved(self, apply: Operator, weights: np.ndarray) -> np.ndarray:
        """A·θ = b with A = Φᵀ·D·(Φ − K·Φ), b = Φᵀ·D·c for T x = c + K x (S&B eq. 9.12): Φ·θ [n]."""
        phi, d = self.features, floored(weights)
        c = apply(np.zeros(len(d)))
        mapped = apply(phi) - c[:, None]
        matrix, b = phi.T @ (d[:, None] * (phi - mapped)), phi.T @ (d * c)
        theta = np.linalg.lstsq(matrix, b, rcond=None)[0]
        if np.abs(matrix @ theta - b).max() > 1e-8 * max(1.0, np.abs(b).max()):
            raise NotDefined("A·θ = b of the expected updates has no solution")
        return phi @ theta

    def _projector(self, weights: np.ndarray) -> Operator:
        root = np.sqrt(floored(weights))
        inverse = np.linalg.pinv(root[:, None] * self.features, rcond=1e-12)
        return lambda y: self.features @ (inverse @ (root * y))


class Neural:
    """Neural function class: the networks of M members, started from their initial and their learned parameters."""

    def __init__(
        self, config: Config, problem: Problem, learner: Learner, units: Units, members: Sequence[int]
    ) -> None:
        if problem.algorithm.values is not None:
            raise NotDefined(f"algo={config.algo.name} has values that are not the output of one network")
        if len(units.state) > MOST_UNITS:
            raise NotDefined(
                f"a network is trained to convergence on at most {MOST_UNITS} values, not {len(units.state)}"
            )
        self._context, self._units, self._mask = problem.context, units, problem.available
        roles = [role for role in problem.algorithm.roles if role.kind == units.kind.lower()]
        # What noise is drawn around is the same function class without it.
        self._layout = ParameterLayout({role: replace(problem.context.networks[role], sigma=0.0) for role in roles})
        first = learner.layout.unpack(learner.layout.init(Streams(config.member_seeds, "network")))
        self._first, self._learned = (self._pack(params)[list(members)] for params in (first, learner.params))
        self._states, place = np.unique(units.state, return_inverse=True)
        width = 1 if units.action is None else problem.mdp.n_actions
        self._index = torch.as_tensor(place * width + (0 if units.action is None else units.action))
        rows, numbers = problem.environment.states, np.arange(problem.mdp.n_states)
        row = numbers if rows is None else numbers[rows.of_state]
        self._shown = problem.shown("cpu")[row[self._states]]  # [U], or [U, F]

    def _pack(self, params: Mapping[str, Params]) -> Tensor:
        """Theta [M, P] of the value networks alone."""
        return torch.cat([x.flatten(1) for role in self._layout.networks for x in params[role].values()], dim=1)

    def _values(self, theta: Tensor) -> Tensor:
        """The values of the units by theta: [M, n]."""
        params, of = self._layout.unpack(theta), self._context.v if self._units.action is None else self._context.q
        shown = self._shown.expand(len(theta), *self._shown.shape)
        mask = None if self._mask is None else self._mask[self._states].expand(len(theta), -1, -1)
        return of(params, Observation(shown, mask)).flatten(1)[:, self._index]

    def fit(self, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Supervised training to convergence, the better one of both starts for each member: [M, n] all."""
        twice = np.concatenate([target, target]), np.concatenate([weights, weights])
        _, x, _ = self._train(torch.cat([self._first, self._learned]), lambda x: twice[0], twice[1], twice[0])
        size = np.array([_rms(x[m] - twice[0][m], twice[1][m]) for m in range(len(x))]).reshape(2, -1)
        best = size.argmin(0)
        return x.reshape(2, *target.shape)[best, np.arange(len(target))]

    def fixed_points(self, targets: list[Target], weights: np.ndarray, exact: np.ndarray) -> np.ndarray:
        """Expected semi-gradient updates from the learned parameters until they settle: [M, n].

        Raises:
            NotDefined: they do not.
        """

        def target(x: np.ndarray) -> np.ndarray:
            return np.stack([one.apply(row) for one, row in zip(targets, x, strict=True)])

        _, x, settled = self._train(self._learned.clone(), target, weights, exact)
        if not settled:
            raise NotDefined(f"the expected updates do not converge within {ROUND * ROUNDS} steps")
        return x

    def _train(
        self, theta: Tensor, target: Callable[[np.ndarray], np.ndarray], weights: np.ndarray, exact: np.ndarray
    ) -> tuple[Tensor, np.ndarray, bool]:
        """Full-batch Adam on ½·Σ w·(T(x̄) − x)², in rounds of a rate that falls to 0, until a round changes nothing.

        x̄ follows x as a target network does: bootstrapped updates may not settle without it, and the fixed points are
        the same.
        """
        weights = np.stack([floored(w, TRACE) for w in weights])
        spread = np.array([max(_spread(e, w), 1e-8) for e, w in zip(exact, weights, strict=True)])
        size = torch.as_tensor(weights / spread[:, None] ** 2, dtype=torch.float32)
        before: np.ndarray = np.full(weights.shape, np.inf)
        slow: np.ndarray | None = None
        for _ in range(ROUNDS):
            optimizer = OPTIMIZERS["adam"](theta, None)
            for step in range(ROUND):
                free = theta.detach().requires_grad_()
                x = self._values(free)
                now = x.detach().double().numpy()
                slow = now if slow is None else slow + FOLLOW * (now - slow)
                y = torch.as_tensor(target(slow), dtype=torch.float32)
                (grad,) = torch.autograd.grad(0.5 * (size * (y - x).square()).sum(), free)
                rate = torch.full((len(theta), 1), RATE * 0.5 * (1 + np.cos(np.pi * step / ROUND)))
                optimizer.step(grad, rate)
            after = self._values(theta).detach().double().numpy()
            if not np.isfinite(after).all():
                raise NotDefined("the expected updates diverge")
            left = np.array([_rms(row, w) for row, w in zip(target(after) - after, weights, strict=True)])
            moved = np.array([_rms(row, w) for row, w in zip(after - before, weights, strict=True)])
            if ((left <= SETTLED * spread) | (moved <= STILL * spread)).all():
                return theta, after, True
            before = after
        return theta, before, False


def _rms(x: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sqrt(weights @ x**2))


def _spread(x: np.ndarray, weights: np.ndarray) -> float:
    """The weighted standard deviation, or the size where there is none."""
    deviation = _rms(x - weights @ x, weights)
    return deviation if deviation > 1e-6 * np.abs(x).max(initial=0.0) else float(np.abs(x).max(initial=0.0))


def _features(problem: Problem) -> np.ndarray:
    """What a linear network sees in each state: float64 [S, F]."""
    rows, layout = problem.environment.states, problem.environment.layout
    if rows is None or layout is None:
        return np.asarray(problem.environment.features, np.float64)
    return layout.floats(problem.shown("cpu")).double().numpy()[rows.of_state]


def class_of(
    config: Config, problem: Problem, learner: Learner, units: Units, members: Sequence[int]
) -> Tabular | Linear | Neural:
    """The function class of a run, for the given members."""
    if isinstance(config.network, TabularConfig):
        return Tabular()
    if not isinstance(config.network, LinearConfig):
        return Neural(config, problem, learner, units, members)
    phi = _features(problem)[units.state]
    phi = np.hstack([phi, np.ones((len(phi), 1))]) if config.network.bias else phi
    if units.action is None:
        return Linear(phi)
    own = np.eye(problem.mdp.n_actions)[units.action]  # each action has its own weights
    return Linear((own[:, :, None] * phi[:, None, :]).reshape(len(phi), -1))
