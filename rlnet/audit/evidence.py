"""Collecting counts of outcomes by walking through a simulator."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from rlnet.audit.sources import Seen, Source
from rlnet.envs.faults import EnvironmentFault
from rlnet.mdp import FiniteMDP
from rlnet.mdp.from_env.walks import directed, lasting, uniform

PIECE = 2**20  # steps that are kept before they are counted
ROUNDS = 8  # after each of them the walk is aimed anew
# What a simulator may raise at an action that the model allows: a difference like any other.
RAISED = (
    *(ValueError, TypeError, KeyError, IndexError, RuntimeError, AssertionError, ArithmeticError),
    EnvironmentFault,
)

Outcome = tuple[int, int, float, bool]  # (pair, s', r, terminated)


@dataclass
class Evidence:
    """Counts of a walk. S states, P pairs."""

    outcomes: Counter = field(default_factory=Counter)  # Outcome → times
    starts: Counter = field(default_factory=Counter)  # the first observation of a reset → times
    restarts: Counter = field(default_factory=Counter)  # the same after an end
    faults: Counter = field(default_factory=Counter)  # a sentence → times
    steps: int = 0
    episodes: int = 0  # that ended
    cut: int = 0  # of them by the time limit


def gather(mdp: FiniteMDP, source: Source, limit: int | None, samples: int, seed: int) -> Evidence:
    """Walk through a simulator for about `samples` steps.

    The first round acts at random; then half of the steps follow the model's own way to the pairs tried least, so that
    rarely visited corners are tested too. Every fourth round follows the policy of the longest episodes, to find what
    depends on time.

    Args:
        mdp: the model; it says which actions there are and where the walk is aimed.
        source: the simulator.
        limit: the time limit that should hold, None: none.
        samples: how many steps, over all its environments.
        seed: of the actions.
    """
    rng, evidence = np.random.default_rng(seed), Evidence()
    tried = np.zeros(mdp.n_pairs)
    walk = _Walk(mdp, source, limit, evidence)
    try:
        walk.begin()
        for turn in range(ROUNDS):
            long = turn % 4 == 3
            policy = lasting(mdp) if long else directed(mdp, tried) if turn else uniform(mdp)
            cumulative = np.cumsum(policy, axis=1)
            steps = -(-(samples - evidence.steps) // ((ROUNDS - turn) * source.envs))
            cumulative /= cumulative[:, -1:]
            left, piece = max(steps, 1), max(PIECE // source.envs, 1)
            while left > 0:
                walk.go(cumulative, rng.random((min(left, piece), source.envs)), tried)
                left -= piece
    except RAISED as error:
        evidence.faults[f"raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"] += 1
    evidence.faults.update(source.faults)
    return evidence


class _Walk:
    """The running episodes of a source, and the book-keeping of a step."""

    def __init__(self, mdp: FiniteMDP, source: Source, limit: int | None, evidence: Evidence) -> None:
        self._mdp, self._source, self._limit, self._evidence = mdp, source, limit, evidence
        self._age = np.zeros(source.envs, dtype=np.int64)

    def begin(self) -> None:
        self._obs = self._source.reset()
        self._evidence.starts.update(self._obs.tolist())
        self._check_states(self._obs)

    def go(self, cumulative: np.ndarray, uniform: np.ndarray, tried: np.ndarray) -> None:
        """Act by a policy, given as its cumulative sums [S, A], with uniform numbers [T, N]."""
        rows: list[tuple[np.ndarray, ...]] = []
        try:
            for u in uniform:
                obs = self._obs
                action = (cumulative[obs] <= u[:, None]).sum(1)
                seen = self._source.step(action)
                rows.append((obs, action, seen.next_obs, seen.reward, seen.terminated, seen.valid))
                self._book(seen)
        finally:
            self._tally(rows, tried)

    def _book(self, seen: Seen) -> None:
        evidence, valid, limit = self._evidence, seen.valid, self._limit
        self._age += valid
        ended = (seen.terminated | seen.truncated) & valid
        if limit is None:
            self._fault("truncates an episode although there is no time limit", seen.truncated & valid)
        else:
            early = seen.truncated & valid & (self._age < limit)
            self._fault(f"truncates an episode before its time limit of {limit} steps", early)
            self._fault(f"goes on after the time limit of {limit} steps", ~ended & valid & (self._age >= limit))
            self._fault(f"an episode ends after more steps than its limit of {limit}", ended & (self._age > limit))
        self._fault("reports a reward on a reset", ~valid & (seen.reward != 0))
        self._fault("reports an end on a reset", ~valid & (seen.terminated | seen.truncated))
        evidence.steps += int(valid.sum())
        evidence.episodes += int(ended.sum())
        evidence.cut += int((seen.truncated & ~seen.terminated & valid).sum())
        if seen.began.any():
            self._age[seen.began] = 0
            evidence.restarts.update(seen.obs[seen.began].tolist())
        self._obs = seen.obs
        self._check_states(seen.obs)

    def _fault(self, sentence: str, where: np.ndarray) -> None:
        count = int(where.sum())
        if count:
            self._evidence.faults[sentence] += count

    def _check_states(self, obs: np.ndarray) -> None:
        if not ((obs >= 0) & (obs < self._mdp.n_states)).all():
            raise IndexError(f"observation outside of the model's states 0..{self._mdp.n_states - 1}")

    def _tally(self, rows: list[tuple[np.ndarray, ...]], tried: np.ndarray) -> None:
        if not rows:
            return
        obs, action, next_obs, reward, terminated, valid = (np.concatenate(x) for x in zip(*rows, strict=True))
        pair = np.where(self._mdp.terminal[obs], -1, self._mdp.pair_index[obs, action])
        from_the_end = valid & (pair < 0)
        self._fault("goes on from a state that is terminal in the model", from_the_end)
        keep = valid & (pair >= 0)
        np.add.at(tried, pair[keep], 1)
        columns = (x[keep].tolist() for x in (pair, next_obs, reward, terminated))
        self._evidence.outcomes.update(zip(*columns, strict=True))
