"""`env=jacks_car_rental`: cars between two locations (S&B Example 4.2 and Exercise 4.7), as a finite model."""

import numpy as np
import scipy  # its parts are loaded when they are first used

from rlnet.config import EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.envs.tabular.grid_map import require_finite
from rlnet.mdp import FiniteMDP

RATES = ("first_requests", "second_requests", "first_returns", "second_returns")


@register_environment("jacks_car_rental")
class CarRentalConfig(EnvConfig):
    """Two locations with up to `capacity` cars each; up to `most_moved` are moved overnight, at `move_cost` each.

    Requests and returns of a day are Poisson. Exercise 4.7 is `free_moves=1 parking_cost=4`: so many cars go to the
    second location for nothing, and more than `parking` cars overnight at a location cost.
    """

    gamma: float = 0.9
    max_episode_steps: int | None = 100  # the business itself has no end
    capacity: int = 20
    most_moved: int = 5
    first_requests: float = 3.0
    second_requests: float = 4.0
    first_returns: float = 3.0
    second_returns: float = 2.0
    rent: float = 10.0
    move_cost: float = 2.0
    free_moves: int = 0
    parking: int = 10
    parking_cost: float = 0.0

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(self.capacity >= 1, "env.capacity", self.capacity, "must be at least 1")
        allowed = f"must be in [1, env.capacity={self.capacity}]"
        require(1 <= self.most_moved <= self.capacity, "env.most_moved", self.most_moved, allowed)
        for name in RATES:
            value = getattr(self, name)
            require(0 <= value < np.inf, f"env.{name}", value, "must be a mean number of cars, at least 0 and finite")
        for name in ("rent", "move_cost", "parking_cost"):
            require_finite(f"env.{name}", getattr(self, name))
        for name in ("free_moves", "parking"):
            require(getattr(self, name) >= 0, f"env.{name}", getattr(self, name), "must be at least 0")

    def outcomes(self) -> dict[str, float]:
        """Every state leads to every state, at least by moving no car."""
        return {f"env.capacity={self.capacity}": float((self.capacity + 1) ** 4)}

    def build(self) -> Environment:
        """The business as a finite model; the shares of the two parking lots that are full are its features."""
        cars = np.stack(np.divmod(np.arange((self.capacity + 1) ** 2), self.capacity + 1), axis=1) / self.capacity
        return from_model(self.name, build_car_rental(self), cars.astype(np.float32), self.max_episode_steps)


def build_car_rental(config: CarRentalConfig) -> FiniteMDP:
    """Build the model. State i · (capacity + 1) + j: i cars at the first location and j at the second, in the evening.

    Action a moves a − `most_moved` cars from the first to the second location (below 0: the other way), as many as
    there are; what is above the capacity leaves the problem. Then a day passes: requests that find a car pay `rent`,
    and what is returned can be rented on the next day. The tails of the Poisson distributions are summed, not cut
    off: no probability is missing. The reward of an outcome is its mean, E[R | s, a, s'] (S&B eq. 3.6), over the
    numbers of cars that were rented on the way.

    Raises:
        ConfigError: a number out of range.
    """
    check_env(config)
    size = config.capacity + 1
    state, action = (x.ravel() for x in np.indices((size**2, 2 * config.most_moved + 1)))
    moved = action - config.most_moved
    first, second = np.divmod(state, size)
    there = (moved <= first) & (-moved <= second)
    state, action, moved, first, second = (x[there] for x in (state, action, moved, first, second))
    one, other = np.minimum(first - moved, config.capacity), np.minimum(second + moved, config.capacity)
    paid = np.abs(moved) - np.clip(moved, 0, config.free_moves)
    full = (one > config.parking).astype(float) + (other > config.parking)
    cost = config.move_cost * paid + config.parking_cost * full
    near, near_rented = _day(config.capacity, config.first_requests, config.first_returns)
    far, far_rented = _day(config.capacity, config.second_requests, config.second_returns)
    probability = near[one][:, :, None] * far[other][:, None, :]  # [P, cars at the first, cars at the second]
    rented = near_rented[one][:, :, None] + far_rented[other][:, None, :]
    count = size**2
    return FiniteMDP.from_coo(
        np.repeat(state, count),
        np.repeat(action, count),
        np.tile(np.arange(count), len(state)),
        probability.ravel(),
        (config.rent * rented - cost[:, None, None]).ravel(),
        n_states=count,
        n_actions=2 * config.most_moved + 1,
        labels=tuple(f"{a} and {b} cars" for a in range(size) for b in range(size)),
        shape=(size, size),
        action_labels=tuple(f"{a:+d}" for a in range(-config.most_moved, config.most_moved + 1)),
    )


def _day(capacity: int, requests: float, returns: float) -> tuple[np.ndarray, np.ndarray]:
    """Of one location: (probability, mean number rented), by cars in the morning and the evening, [C + 1, C + 1]."""
    probability = np.zeros((capacity + 1, capacity + 1))
    rented = np.zeros_like(probability)  # times probability
    for morning in range(capacity + 1):
        asked = _poisson(requests, morning)
        for rent in range(morning + 1):
            chance = asked[rent] * _poisson(returns, capacity - (morning - rent))
            probability[morning, morning - rent :] += chance
            rented[morning, morning - rent :] += chance * rent
    return probability, np.divide(rented, probability, out=np.zeros_like(rented), where=probability > 0)


def _poisson(mean: float, most: int) -> np.ndarray:
    """The distribution [most + 1] of min(N, most), N Poisson."""
    numbers = np.arange(most)
    special = scipy.special
    single = np.exp(special.xlogy(numbers, mean) - mean - special.gammaln(numbers + 1))
    return np.append(single, special.pdtrc(most - 1, mean) if most else 1.0)
