"""Evaluation: whole episodes by the learned policy, in separate environments with separate seeds.

Nothing is shared with training or between evaluations: every evaluation makes new environments, seeded by the member's
seed and the number of the evaluation. So evaluation does not change what is learned, and a resumed run evaluates as an
uninterrupted one does.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rlnet.algos.algorithm import Judged
from rlnet.algos.context import Q, V
from rlnet.compare.episodes import EVENT, predicted_beside_obtained
from rlnet.config import Config, RunFailed, require
from rlnet.config.population import constrained
from rlnet.data.rollout import Observation
from rlnet.envs import Environment, GymnasiumSimulation
from rlnet.envs.simulate import Step
from rlnet.experiment.evaluation_files import valued_policy
from rlnet.learning.contests import contests, endgames
from rlnet.learning.earlier_selves import EarlierSelves
from rlnet.learning.players import chooser, observation
from rlnet.learning.trained import Trained
from rlnet.numerics.random_streams import BlockUniform, Streams, derive_seed

_log = logging.getLogger(__name__)

SHARE = 10  # evaluations over a run by default
FINAL, FIRST = 0, 1  # numbers of the evaluations at the end and of the first before it; the others follow
LEAST = 4  # environments of each member, where they have processes of their own
KEPT = 20_000_000  # steps of all members up to which values and rewards are kept for the calibration


def cadence(config: Config, environment: Environment) -> int:
    """Steps between two evaluations; 0 where there are none: by default, where a model says all that they could."""
    every, exact = config.evaluation.every, environment.mdp is not None
    counted = ", ".join(set(environment.events) - set((environment.mdp.events if environment.mdp else None) or {}))
    allowed = f"{config.env.title()} is a game of two players with exact scores; leave it out"
    require(not (environment.game and exact and every), "evaluation.every", every, allowed)
    if every == 0 and counted and not constrained(config):
        _log.warning("evaluation.every=0: env.event=%s is counted in evaluations alone, so nothing counts it", counted)
    if every is not None:
        return every
    return 0 if exact and not counted else -(-config.steps // SHARE)


def policies(config: Config, judged: Judged) -> tuple[str, ...]:
    """The names of the policies that are evaluated, the main one first."""
    if judged is Judged.GIVEN:
        return ("given",)
    return ("greedy", "behaviour") if config.evaluation.policy == "both" else (config.evaluation.policy,)


def evaluate(trained: Trained, number: int, episodes: int, earlier: EarlierSelves | None = None) -> dict[str, Any]:
    """Play whole episodes by each policy of the config.

    Args:
        trained: of M members.
        number: of the evaluation, which decides its random numbers.
        episodes: E, of each member and policy.
        earlier: the earlier selves that it is played against at the end, of board games without a model.

    Returns:
        policy → name → [M, E], see `rlnet.compare.episodes`. At the end (`number` = `FINAL`), of the policy whose value
        is learned, also `calibration`: see `predicted_beside_obtained`; of board games without a model `contests` and
        `endgames`: see `rlnet.learning.contests`.

    Raises:
        RunFailed: the environment failed.
    """
    judged = trained.algorithm.judged
    names = policies(trained.config, judged)
    names = names if number == FINAL else names[:1]
    valued = valued_policy(judged)
    if number != FINAL or not {V, Q} & set(trained.algorithm.roles):
        valued = ""
    found: dict[str, Any] = {}
    try:
        for name in names:
            found[name], calibration = play(trained, name, number, episodes, with_values=name == valued)
            if calibration is not None:
                found["calibration"] = calibration
        if number == FINAL and earlier is not None:
            own, seeds = trained.config.evaluation, member_seeds(trained)
            found["contests"] = contests(trained, earlier, own.games, seeds)
            if own.endgame:
                found["endgames"] = endgames(trained, own.endgame, own.games, seeds)
    except RunFailed as error:
        raise RunFailed(f"while evaluating: {error}") from error
    return found


@np.errstate(over="ignore", invalid="ignore")  # values of a member that has just diverged
def play(
    trained: Trained, policy: str, number: int, episodes: int, *, with_values: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """Play E episodes of each member by one policy, each in an environment of its own.

    Where environments have processes of their own, a member has only as many as in training (or `LEAST`), which play
    equally many episodes one after the other. Exactly E episodes are counted, whatever their lengths: short ones are
    not over-represented. In a game of two players the opponent moves at random, and the policy moves first in every
    second episode; returns are the policy's.

    Args:
        trained, number, episodes: see `evaluate`.
        policy: greedy, behaviour or given.
        with_values: whether to compare predicted with obtained returns.

    Returns:
        Name → [M, E] (`event` only where one can be watched), and what `predicted_beside_obtained` gives, or None.
    """
    config, environment, device = trained.config, trained.problem.environment, trained.theta.device
    seeds = [derive_seed(seed, "evaluation", number) % 2**31 for seed in member_seeds(trained)]
    choose, gamma = chooser(trained, policy), trained.hyper["gamma"].cpu().numpy().astype(np.float64)
    envs = min(episodes, max(config.algo.envs, LEAST)) if environment.processes else episodes
    simulation: Any = environment.simulate(seeds, envs)  # of arrays
    if isinstance(simulation, GymnasiumSimulation):
        simulation.named = member_seeds(trained)
    event = trained.problem.watched or next(iter(environment.events), "")
    if event:
        simulation.watch(event)
    most = environment.max_steps or config.evaluation.max_steps
    grid = len(seeds), episodes
    uniforms = BlockUniform(Streams(seeds, "behaviour", device), (envs, *trained.context.actions.shape))
    turns = _Turns(seeds, episodes) if environment.game else None
    outcomes = _Outcomes(grid, envs, gamma, most, with_event=bool(event))
    few = turns is None and most * -(-episodes // envs) * len(seeds) * episodes <= KEPT
    predictions = _Predictions(trained, grid) if with_values and few else None
    try:
        while outcomes.begin():
            obs, mask = simulation.reset(), simulation.mask
            while outcomes.running.any():
                seen = observation(obs, mask, device)
                action = choose(seen, uniforms.next()).cpu().numpy()
                step = simulation.step(action if turns is None else turns.action(action, mask))
                played = outcomes.add(step, step.reward if turns is None else turns.reward(step))
                if predictions is not None:
                    predictions.add(seen, step, played)
                obs, mask = step.obs, step.mask
        told = number in (FIRST, FINAL) and policy == policies(config, trained.algorithm.judged)[0]
        if told and event and isinstance(simulation, GymnasiumSimulation) and (said := simulation.silent.last()):
            _log.warning("while evaluating: %s", said)
    finally:
        simulation.close()
    found = outcomes.found
    return found, None if predictions is None else predictions.beside_obtained(found["terminated"], gamma)


class _Played(NamedTuple):
    """What steps of M × N environments belong to."""

    now: np.ndarray  # bool [M, N], whether it is a step of an episode that counts
    episode: np.ndarray  # int64 [M, N], which one
    over: np.ndarray  # bool [M, N], whether that is its last


class _Outcomes:
    """Returns, lengths and ends of E episodes of each of M members.

    Environment n of N plays the episodes n, n + N, n + 2N ... of its member, one after the other.

    Args:
        grid: (M, E).
        envs: N.
        gamma: [M, 1].
        most: the steps after which an episode is cut; its environment plays on when all are reset.
        with_event: whether steps report an event.
    """

    def __init__(self, grid: tuple[int, int], envs: int, gamma: np.ndarray, most: int, with_event: bool) -> None:
        self._episode = np.tile(np.arange(envs), (grid[0], 1))
        self.running = np.zeros((grid[0], envs), bool)  # environments in an episode that counts
        self._envs, self._episodes, self._most = envs, grid[1], most
        self._gamma, self._discount = gamma[:, 0], np.ones(grid)
        self.found: dict[str, np.ndarray] = {name: np.zeros(grid) for name in ("return", "discounted", "length")}
        self.found |= {name: np.zeros(grid, bool) for name in ("terminated", "cut", *((EVENT,) if with_event else ()))}

    def begin(self) -> bool:
        """Begin what is left to play, after a reset of all environments; returns whether anything is."""
        self.running = self._episode < self._episodes
        return bool(self.running.any())

    def add(self, step: Step, reward: np.ndarray) -> _Played:
        """Add a step with the rewards [M, N] of the policy."""
        now, episode, found = self.running & step.valid, self._episode.copy(), self.found
        m, n = now.nonzero()
        at = m, episode[m, n]
        found["return"][at] += reward[m, n]
        found["discounted"][at] += self._discount[at] * reward[m, n]
        found["length"][at] += 1
        self._discount[at] *= self._gamma[m]
        found["terminated"][at] = step.terminated[m, n]
        if EVENT in found:
            found[EVENT][at] |= np.asarray(step.event)[m, n]
        ended, cut = (step.terminated | step.truncated) & now, np.zeros_like(now)
        cut[m, n] = found["cut"][at] = (found["length"][at] >= self._most) & ~ended[m, n]
        over = ended | cut
        self._episode[over] += self._envs
        self.running &= ~cut & (self._episode < self._episodes)
        return _Played(now, episode, over)


class _Predictions:
    """Values that the learner predicts along the episodes of an evaluation.

    Args:
        trained: of M members.
        grid: (M, E).
    """

    def __init__(self, trained: Trained, grid: tuple[int, int]) -> None:
        self._trained = trained
        self._steps: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []  # value, reward, now, episode
        self._rest = np.zeros(grid)  # value of the final observation where an episode did not terminate

    def add(self, seen: Observation, step: Step, played: _Played) -> None:
        """Add a step from the observations `seen`."""
        self._steps.append((_value(self._trained, seen), np.asarray(step.reward), played.now, played.episode))
        m, n = (played.over & ~np.asarray(step.terminated)).nonzero()
        if len(m):
            last = observation(step.next_obs, step.next_mask, self._trained.theta.device)
            self._rest[m, played.episode[m, n]] = _value(self._trained, last)[m, n]

    def beside_obtained(self, terminated: np.ndarray, gamma: np.ndarray) -> dict[str, np.ndarray]:
        """See `predicted_beside_obtained`."""
        value, reward, now, episode = (np.stack(x) for x in zip(*self._steps, strict=True))
        if now.shape[1:] != self._rest.shape:  # a column for each episode, not for each environment
            t, m, n = now.nonzero()
            to = t, m, episode[t, m, n]
            columns = np.zeros((3, len(now), *self._rest.shape))
            columns[0][to], columns[1][to], columns[2][to] = value[t, m, n], reward[t, m, n], 1
            value, reward, now = columns[0], columns[1], columns[2] > 0
        return predicted_beside_obtained(value, reward, now, terminated, self._rest, gamma)


class _Turns:
    """Turns in games of two players against an opponent who moves at random.

    Args:
        seeds: of M members.
        episodes: E.
    """

    def __init__(self, seeds: Sequence[int], episodes: int) -> None:
        self._seeds, self._episodes = seeds, episodes
        self._side = np.where(np.arange(episodes) % 2 == 0, 1.0, -1.0) + np.zeros((len(seeds), 1))  # 1: the policy's
        self._uniforms: BlockUniform | None = None

    def action(self, action: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The action [M, E] of the policy, or on the opponent's turn a random one of mask [M, E, A]."""
        if self._uniforms is None:
            shape = self._episodes, mask.shape[-1]
            self._uniforms = BlockUniform(Streams(self._seeds, "search"), shape, library=np)
        drawn = np.where(mask, self._uniforms.next(), -1.0).argmax(-1)
        return np.where(self._side > 0, action, drawn)

    def reward(self, step: Step) -> np.ndarray:
        """Rewards of the policy [M, E]; passes the turn."""
        reward = self._side * step.reward
        self._side = self._side * np.asarray(step.sign)
        return reward


def member_seeds(trained: Trained) -> list[int]:
    """The seeds of the members."""
    seeds = trained.config.member_seeds
    return seeds if trained.members is None else [seeds[m] for m in trained.members]


def _value(trained: Trained, seen: Observation) -> np.ndarray:
    value = trained.value(seen)
    assert value is not None  # `evaluate` asks only algorithms that learn values
    return value.double().cpu().numpy()
