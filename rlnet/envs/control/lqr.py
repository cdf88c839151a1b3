"""The discounted linear-quadratic regulator, with its exact solution by Riccati and Lyapunov equations.

x' = A·x + B·u + w, R = −(xᵀQx + uᵀRu), w ~ N(0, noise²·I), x₀ ~ N(0, start²·I); episodes never terminate.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import scipy  # its parts are loaded when they are first used
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


class Quadratic(NamedTuple):
    """Quadratic value function V(x) = −(xᵀPx + 2·pᵀx + c)."""

    square: np.ndarray  # P [n, n], symmetric
    linear: np.ndarray  # p [n]
    constant: float  # c

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """V of states [..., n] → [...]."""
        return -(np.einsum("...i,ij,...j->...", x, self.square, x) + 2 * x @ self.linear + self.constant)


@dataclass(frozen=True, eq=False)
class LQR:
    """The matrices of a problem with n state and m action components, and its exact solutions.

    The solutions are those without bounds on the actions.

    Raises:
        ValueError: shapes that do not fit, or costs that are not positive (semi)definite.
    """

    a: np.ndarray  # A [n, n]
    b: np.ndarray  # B [n, m]
    state_cost: np.ndarray  # Q [n, n], symmetric, positive semidefinite
    action_cost: np.ndarray  # R [m, m], symmetric, positive definite
    noise: float  # standard deviation of each component of w
    start: float  # standard deviation of each component of x₀

    def __post_init__(self) -> None:
        for name in ("a", "b", "state_cost", "action_cost"):
            object.__setattr__(self, name, np.atleast_2d(np.asarray(getattr(self, name), dtype=np.float64)))
        n, m = self.b.shape
        wanted = {"a": (n, n), "state_cost": (n, n), "action_cost": (m, m)}
        for name, shape in wanted.items():
            matrix = getattr(self, name)
            if matrix.shape != shape:
                raise ValueError(f"{name} has shape {matrix.shape}, b of shape {(n, m)} needs {shape}")
        for name, least, kind in (("state_cost", -1e-12, "semidefinite"), ("action_cost", 1e-12, "definite")):
            matrix = getattr(self, name)
            if not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix)[0] < least:
                raise ValueError(f"{name}={matrix.tolist()}: must be symmetric and positive {kind}")
        if self.noise < 0 or self.start < 0:
            raise ValueError(f"noise={self.noise}, start={self.start}: must be at least 0")

    def optimal_gain(self, gamma: float) -> np.ndarray:
        """Optimal gain K [m, n], u = K·x: −(R + γBᵀPB)⁻¹·γBᵀPA with P of the discounted Riccati equation.

        It is the undiscounted gain of the problem with √γ·A and √γ·B.
        """
        root = gamma**0.5
        p = scipy.linalg.solve_discrete_are(root * self.a, root * self.b, self.state_cost, self.action_cost)
        return -np.linalg.solve(self.action_cost + gamma * self.b.T @ p @ self.b, gamma * self.b.T @ p @ self.a)

    def value(self, gain: np.ndarray, gamma: float, *, offset: Any = 0.0, deviation: Any = 0.0) -> Quadratic:
        """V^π of u ~ N(K·x + k, diag(σ²)), by a discounted Lyapunov equation for the state (x, 1).

        Args:
            gain: K [m, n].
            gamma: below 1.
            offset: k [m].
            deviation: σ [m].

        Raises:
            ValueError: the value is infinite: γ·|eigenvalue|² of the closed loop is not below 1.
        """
        n, m = self.b.shape
        offset, deviation = np.broadcast_to(offset, m), np.broadcast_to(deviation, m)
        closed = np.block([[self.a + self.b @ gain, (self.b @ offset)[:, None]], [np.zeros((1, n)), np.ones((1, 1))]])
        if gamma * np.abs(np.linalg.eigvals(closed)).max() ** 2 >= 1:
            raise ValueError(f"gain={np.asarray(gain).tolist()}: the discounted cost of this policy is infinite")
        wide = np.hstack([gain, offset[:, None]])
        cost = scipy.linalg.block_diag(self.state_cost, 0.0) + wide.T @ self.action_cost @ wide
        p = scipy.linalg.solve_discrete_lyapunov(gamma**0.5 * closed.T, cost)
        noise = self.noise**2 * np.eye(n) + (self.b * deviation**2) @ self.b.T
        steady = (np.diag(self.action_cost) @ deviation**2 + gamma * np.trace(p[:n, :n] @ noise)) / (1 - gamma)
        return Quadratic(p[:n, :n], p[:n, n], float(p[n, n] + steady))

    def expected_return(self, value: Quadratic) -> float:
        """J = E[V(x₀)]."""
        return -float(self.start**2 * np.trace(value.square) + value.constant)

    def first(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw first states [count, n]."""
        return self.start * rng.normal(size=(count, len(self.a)))

    def step(self, x: np.ndarray, u: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Next states [count, n] and rewards [count] of states [count, n] and actions [count, m]."""
        cost = np.einsum("ki,ij,kj->k", x, self.state_cost, x) + np.einsum("ki,ij,kj->k", u, self.action_cost, u)
        return x @ self.a.T + u @ self.b.T + self.noise * rng.normal(size=x.shape), -cost


# A cart with friction and a weak spring, that is pushed: position and speed, half a second per step.
CART = {
    "a": ((1.0, 0.5), (-0.1, 0.7)),
    "b": ((0.0,), (0.5,)),
    "state_cost": ((1.0, 0.0), (0.0, 0.1)),
    "action_cost": 0.1,
}


def _problem(noise: float, start: float, matrices: dict[str, Any]) -> LQR:
    unknown = set(matrices) - set(CART)
    if unknown:
        raise ValueError(f"{sorted(unknown)[0]}: the matrices are {', '.join(CART)}")
    return LQR(**{**CART, **matrices}, noise=noise, start=start)


def _spaces(lqr: LQR, max_action: float | None) -> tuple[spaces.Box, spaces.Box]:
    n, m = lqr.b.shape
    bound = np.inf if max_action is None else max_action
    return spaces.Box(-np.inf, np.inf, (n,), np.float32), spaces.Box(-bound, bound, (m,), np.float32)


class LqrEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """`rlnet/LQR-v0`: one regulator. The default is a cart on a spring.

    Args:
        noise, start: standard deviations; see `LQR`.
        max_action: a bound of every action component; None: none.
        matrices: a, b, state_cost, action_cost in place of those of the cart, as nested lists.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (declared so by Gymnasium)

    def __init__(
        self, noise: float = 0.1, start: float = 1.0, max_action: float | None = None, **matrices: Any
    ) -> None:
        self.lqr = _problem(noise, start, matrices)
        self.observation_space, self.action_space = _spaces(self.lqr, max_action)
        self._x: np.ndarray | None = None  # [1, n]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode. There are no `options`."""
        super().reset(seed=seed)
        self._x = self.lqr.first(self.np_random, 1)
        return self._x[0].astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one action [m]; RuntimeError when no episode is running."""
        if self._x is None:
            raise RuntimeError("no episode is running: call reset")
        u = np.asarray(action, dtype=np.float64).reshape(1, -1)
        self._x, reward = self.lqr.step(self._x, u, self.np_random)
        return self._x[0].astype(np.float32), float(reward[0]), False, False, {}


class LqrVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` regulators with one random stream. They reach the time limit together, and begin anew in that step."""

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (declared so by Gymnasium)

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        noise: float = 0.1,
        start: float = 1.0,
        max_action: float | None = None,
        **matrices: Any,
    ) -> None:
        self.lqr, self.num_envs, self._limit = _problem(noise, start, matrices), num_envs, max_episode_steps
        self.single_observation_space, self.single_action_space = _spaces(self.lqr, max_action)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._x, self._age = np.zeros((num_envs, len(self.lqr.a))), 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode everywhere. There are no `options`."""
        super().reset(seed=seed)
        self._x, self._age = self.lqr.first(self.np_random, self.num_envs), 0
        return self._x.astype(np.float32), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take actions [num_envs, m]."""
        self._x, reward = self.lqr.step(self._x, np.asarray(actions, dtype=np.float64), self.np_random)
        self._age += 1
        late, infos = self._age == self._limit, {}
        obs = self._x.astype(np.float32)
        if late:
            infos = {"final_obs": obs, "_final_obs": np.ones(self.num_envs, dtype=bool)}
            obs, _ = self.reset()
        flags = np.zeros(self.num_envs, dtype=bool)
        return obs, reward, flags, flags | late, infos
