"""`env=highway`: a road of some lanes among slower cars, as a finite model of whole cells and whole speeds."""

from dataclasses import replace
from functools import partial

import numpy as np

from rlnet.config import EnvConfig, check_env, register_environment, require
from rlnet.envs.base import Environment, from_model
from rlnet.envs.driving.drawing import RoadDrawing
from rlnet.envs.driving.traffic import Road, speed_law, stationary
from rlnet.mdp import FiniteMDP

ACTIONS = ("lane left", "idle", "lane right", "faster", "slower")  # as in highway-env
STEER, THROTTLE = np.array([-1, 0, 1, 0, 0]), np.array([0, 0, 0, 1, -1])
CRASH = "crash"


@register_environment("highway")
class HighwayConfig(EnvConfig):
    """A highway after Nagel & Schreckenberg (1992): one car to drive, in each lane the next car ahead.

    The state: own lane and speed; in each lane the free cells up to the next car and its speed. In a step the own car
    changes its lane, or its speed by one, or neither, and all cars move on by their speeds. Other cars follow the
    automaton (`rlnet.envs.driving.traffic`) with a headway drawn afresh at `density`. Cells beyond `sight` are as good
    as `sight`; a car that is passed is replaced by one at the edge of sight, of its speed. A crash ends the drive.

    Left out, since each would multiply the states (23,232 by default): a car behind in each lane (by 1,936; by 400
    where it is seen for four cells), so that who is passed is gone, and a lane may be changed right before it; the
    second car ahead in each lane, whose place a headway drawn afresh takes (by 1,936); cars that change lanes, for
    which those of both lanes would have to be known.
    """

    lanes: int = 2
    max_speed: int = 5  # of the own car, cells per step
    traffic_speed: int = 3  # of the others
    sight: int = 10  # cells
    density: float = 0.1  # of the others, cars per cell
    dawdle: float = 0.3  # probability that a car is one slower than it could be
    crash_reward: float = -5.0
    speed_reward: float = 1.0  # of a step at max_speed; in proportion below

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        for name, low, high in (("lanes", 1, 3), ("max_speed", 1, 9), ("traffic_speed", 0, 9), ("sight", 1, 50)):
            value = getattr(self, name)
            require(low <= value <= high, f"env.{name}", value, f"must be in [{low}, {high}]")
        for name in ("density", "dawdle"):
            require(0 <= getattr(self, name) <= 1, f"env.{name}", getattr(self, name), "must be in [0, 1]")
        for name in ("crash_reward", "speed_reward"):
            require(np.isfinite(getattr(self, name)), f"env.{name}", getattr(self, name), "must be a finite number")

    @property
    def shape(self) -> tuple[int, ...]:
        """(lanes, own speeds, then gaps and speeds of each lane's next car)."""
        return self.lanes, self.max_speed + 1, *(self.sight + 1, self.traffic_speed + 1) * self.lanes

    def outcomes(self) -> dict[str, float]:
        """Every car ahead may drive at any speed next."""
        names = ("lanes", "max_speed", "traffic_speed", "sight")
        count = float(np.prod([float(n) for n in self.shape])) * len(ACTIONS) * (self.traffic_speed + 1.0) ** self.lanes
        return {" ".join(f"env.{name}={getattr(self, name)}" for name in names): count}

    def build(self) -> Environment:
        """The road as a finite model; lanes, speeds and gaps are its features."""
        made = from_model(self.name, build_highway(self), highway_features(self), self.max_episode_steps)
        return replace(made, drawing=partial(RoadDrawing, Road.of(self.shape), self.sight))


def build_highway(config: HighwayConfig) -> FiniteMDP:
    """Build the model; its event `crash` is the set of outcomes that end in one.

    A drive begins in the last lane, as fast as traffic may be, with all lanes free up to the edge of sight.

    Raises:
        ConfigError: a number out of range.
    """
    check_env(config)
    law = speed_law(config.traffic_speed, config.density, config.dawdle)
    road, n_actions, speeds = Road.of(config.shape), len(ACTIONS), config.traffic_speed + 1
    n = len(road.lane)
    lane = np.clip(road.lane[:, None] + STEER, 0, config.lanes - 1)  # [S, A]
    speed = np.clip(road.speed[:, None] + THROTTLE, 0, config.max_speed)
    state = np.broadcast_to(np.arange(n)[:, None], lane.shape)
    action = np.broadcast_to(np.arange(n_actions), lane.shape)
    # One row for each pair and combination of the next speeds of all cars ahead: [S, A, K].
    combined = np.array(np.unravel_index(np.arange(speeds**config.lanes), (speeds,) * config.lanes))  # [lanes, K]
    chance = np.ones((n, 1, combined.shape[1]))
    for i in range(config.lanes):
        chance = chance * law[road.other[i]][:, None, combined[i]]
    possible = np.broadcast_to(chance > 0.0, (*lane.shape, combined.shape[1]))
    at, acts, k = np.nonzero(possible)
    next_lane, next_speed, moved = lane[at, acts], speed[at, acts], combined[:, k]
    gap = road.gap[:, at] + moved - next_speed  # [lanes, rows]
    crashed = gap[next_lane, np.arange(len(at))] < 0
    passed = gap < 0
    gap = np.where(passed, config.sight, np.minimum(gap, config.sight))
    ahead = [part for i in range(config.lanes) for part in (gap[i], moved[i])]
    successor = np.ravel_multi_index((next_lane, next_speed, *ahead), config.shape)
    reward = config.speed_reward * next_speed / config.max_speed
    mdp = FiniteMDP.from_coo(
        state[at, acts],
        action[at, acts],
        np.where(crashed, at, successor),  # all crashes of a pair are one outcome
        chance[at, 0, k],
        np.where(crashed, config.crash_reward, reward),
        crashed,
        n_states=n,
        n_actions=n_actions,
        start=_start(config, law),
        labels=_labels(road),
        action_labels=ACTIONS,
    )
    return replace(mdp, events={CRASH: mdp.terminated})


def _labels(road: Road) -> tuple[str, ...]:
    """ "lane 2 speed 3 next 10@2 4@0": the next car of each lane, 10 cells ahead at a speed of 2."""
    columns = [road.lane + 1, road.speed, *(part for pair in zip(road.gap, road.other, strict=True) for part in pair)]
    form = "lane {} speed {} next" + " {}@{}" * len(road.gap)
    return tuple(map(form.format, *(column.tolist() for column in columns)))


def _start(config: HighwayConfig, law: np.ndarray) -> np.ndarray:
    usual = stationary(law)
    start = np.zeros(config.shape)
    begin = start[-1, min(config.traffic_speed, config.max_speed)]  # gaps and speeds of all lanes
    weight = np.ones(())
    for _ in range(config.lanes):
        weight = np.multiply.outer(weight, usual)
    begin[(config.sight, slice(None)) * config.lanes] = weight
    return start.reshape(-1)


def highway_features(config: HighwayConfig) -> np.ndarray:
    """What the driver sees in each state, in [0, 1]: float32 [S, F].

    The own speed, as a number and one-hot; of the lane to the left, the own one and the one to the right: whether there
    is one, the gap and the speed of the next car as numbers, and one-hot for each pair of (gap − own speed, speed of
    the next car), on which alone it depends whether the next step can be a crash.
    """
    road = Road.of(config.shape)
    state, speeds = np.arange(len(road.lane)), np.arange(config.max_speed + 1)
    columns = [road.speed / config.max_speed, *(road.speed == k for k in speeds)]
    frees, others = np.arange(-config.max_speed, config.sight + 1), np.arange(config.traffic_speed + 1)
    for side in (-1, 0, 1):
        lane = road.lane + side
        there = (lane >= 0) & (lane < config.lanes)
        gap, other = (x[np.clip(lane, 0, config.lanes - 1), state] for x in (road.gap, road.other))
        free = gap - road.speed
        columns += [there, there * gap / config.sight, there * other / max(config.traffic_speed, 1)]
        columns += [there & (free == k) & (other == u) for k in frees for u in others]
    return np.stack(columns, axis=1).astype(np.float32)
