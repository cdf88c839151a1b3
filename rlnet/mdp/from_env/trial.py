"""The test of a model against the environment that is stepped: a walk through a copy, with exact tests.

What the model cannot do at all is found at once; how often things happen is tested exactly (`exact_tests`);
what hides from a walk (time, chance, variables that no observation shows) is looked for in `hidden_variables`.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlnet.mdp.errors import NoModelError
from rlnet.mdp.from_env.exact_tests import holm, outcome_levels, rough_error
from rlnet.mdp.from_env.hidden_variables import Hidden
from rlnet.mdp.from_env.tested_env import Result, Subject
from rlnet.mdp.from_env.walks import directed, lasting, uniform
from rlnet.mdp.model.finite_mdp import FiniteMDP

LEVEL = 1e-3  # the probability that a right model is refused, at most
ROUNDS = 8  # after each of them the walk is aimed anew


@dataclass(frozen=True)
class Effort:
    """Budget of a test: steps, episodes, level."""

    steps: int
    resets: int
    seconds: float  # of the processor
    probes: int  # places where copies are compared


def usual(mdp: FiniteMDP) -> Effort:
    """The budget for an environment whose own code is known to step its table: a quarter of a second on most machines,
    and the same steps on slow ones."""
    return Effort(min(max(400, 2 * mdp.n_pairs), 2_500), 300, 3.0, 10)


def thorough(mdp: FiniteMDP) -> Effort:
    """The budget for any other environment."""
    return Effort(min(max(4_000, 20 * mdp.n_pairs), 30_000), 400, 2.0, 40)


@dataclass
class Record:
    """Counts of a walk: outcomes [K], pairs [P] and first states [S]."""

    outcomes: np.ndarray
    tried: np.ndarray
    starts: np.ndarray
    steps: int = 0
    truncates: bool = False  # the environment's own code truncates episodes
    since: float = field(default_factory=time.process_time)


def told(mdp: FiniteMDP, record: Record) -> str:
    """How closely a model was tried, in half a sentence."""
    tried, size = record.tried, np.diff(mdp.outcome_ptr)
    seen = np.repeat(tried, size) > 0
    several = max(int((size > 1).sum()), 1)
    level = LEVEL / several / np.repeat(np.where(size > 2, 2 * size, 1), size)  # as in `outcome_levels`
    error = np.zeros(mdp.n_outcomes)
    error[seen] = rough_error(np.repeat(tried, size)[seen], mdp.probability[seen], level[seen])
    worst = np.maximum.reduceat(error, mdp.outcome_ptr[:-1])[tried > 0]
    missed = f"{int((tried == 0).sum())} of its {mdp.n_pairs} state-action pairs were not tried"
    found = f"in half of the others a probability that is off by {np.median(worst):.2g} would have been found"
    return f"{record.steps} steps of the environment's own code agree with the model; {missed}, {found}"


def numbered_outcomes(mdp: FiniteMDP) -> dict[tuple[int, int, bool], list[int]]:
    """The numbers of a model's possible outcomes, by (pair, successor, terminated); [] for any other."""
    found: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    pair = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))
    columns = (x.tolist() for x in (pair, mdp.next_state, mdp.terminated, mdp.probability))
    for k, (i, successor, end, p) in enumerate(zip(*columns, strict=True)):
        if p > 0:
            found[i, successor, end].append(k)
    return found


class Trial:
    """Test of a model against an environment.

    Args:
        mdp: the model.
        subject: the environment.
        state_of: the state that an observation is; NoModelError where it is none.
        effort: what it may cost.
        claim: what the model is, in the sentences: "its `P`".
        exact_start: whether the model's start distribution is to be tested, too.
        hidden: what looks for hidden variables at some of the steps.
    """

    def __init__(
        self,
        mdp: FiniteMDP,
        subject: Subject,
        state_of: Callable[[Any], int],
        effort: Effort,
        claim: str,
        exact_start: bool = True,
        hidden: Hidden | None = None,
    ) -> None:
        self._mdp, self._subject, self._state_of, self._effort = mdp, subject, state_of, effort
        self._claim, self._exact_start, self._hidden = claim, exact_start, hidden
        self._known = numbered_outcomes(mdp)
        self._pairs, self._rewards = mdp.pair_index.tolist(), mdp.reward.tolist()
        self._possible = (mdp.start > 0).tolist()
        self.record = Record(np.zeros(mdp.n_outcomes), np.zeros(mdp.n_pairs), np.zeros(mdp.n_states))

    def run(self) -> Record:
        """Walk through the environment and test the counts.

        Raises:
            NoModelError: the environment did what the model cannot do, or what chance does not explain.
        """
        subject = self._subject
        with subject.undisturbed():
            env = subject.fresh()
            for seed in range(self._effort.resets):
                self._reset(env, seed if seed % 2 else None)
                if self._late(0.3):
                    break
            self._walk(env)
            self._walk_disturbed(env)
        self._test_frequencies()
        return self.record

    def _late(self, share: float = 1.0) -> bool:
        return time.process_time() - self.record.since > share * self._effort.seconds

    def _reset(self, env: Any, seed: int | None = None) -> int:
        observation = self._subject.reset(env, seed)
        state = self._state_of(observation)
        self.record.starts[state] += 1
        if self._hidden is not None:
            self._hidden.begin(env, state)
        if self._exact_start and not self._possible[state]:
            raise self._doubt(f"an episode begins in state {state}, which the model does not start in")
        return state

    def _walk(self, env: Any) -> None:
        mdp, record, effort = self._mdp, self.record, self._effort
        rng = np.random.default_rng(0)
        every = max(effort.steps // max(effort.probes, 1), 1)
        for turn in range(ROUNDS):
            long = turn % 4 == 3
            policy = lasting(mdp) if long else directed(mdp, record.tried) if turn else uniform(mdp)
            rows = np.cumsum(policy, axis=1)
            rows = (rows / rows[:, -1:]).tolist()
            begun = len(range(turn, ROUNDS))
            steps = -(-(effort.steps - record.steps) // begun)
            longest = steps if long else max(steps // 4, 100)
            walk = self._episodes(env, rows, rng.random(steps), longest)
            for state, action, _ in walk:
                if self._hidden is not None and record.steps % every == 0:
                    self._hidden.probe(env, state, action)
                    record.truncates |= self._hidden.truncates
                if record.steps % 64 == 0 and self._late(0.7):
                    return

    def _episodes(self, env: Any, rows: list, uniforms: np.ndarray, longest: int) -> Iterator[tuple[int, int, int]]:
        """Act by a policy; yields (state, action, age) before each step."""
        record, subject = self.record, self._subject
        state, age = self._reset(env), 0
        for u in uniforms.tolist():
            action = bisect_right(rows[state], u)
            yield state, action, age
            result = subject.step(env, action)
            record.steps += 1
            age += 1
            after = self._check(state, action, result)
            if result.terminated or result.truncated or age >= longest:
                record.truncates |= result.truncated and not result.terminated
                state, age = self._reset(env), 0
            else:
                state = after

    def _walk_disturbed(self, env: Any) -> None:
        """Continue while hidden variables are changed: an outcome outside of the model shows that they matter."""
        hidden, record, rng = self._hidden, self.record, np.random.default_rng(1)
        if hidden is None or not hidden.pool:
            return
        rows = np.cumsum(directed(self._mdp, record.tried), axis=1)
        rows = (rows / rows[:, -1:]).tolist()
        state, age = self._reset(env), 0
        for step, u in enumerate(rng.random(self._effort.steps // 2).tolist()):
            action, changed = bisect_right(rows[state], u), hidden.disturb(env) if step % 2 else None
            try:
                result = self._subject.step(env, action)
            except NoModelError:
                if changed is None:
                    raise
                env = self._subject.fresh()  # a value that the code cannot stand says nothing
                state, age = self._reset(env), 0
                continue
            if self._outcome(state, action, result) is None:
                what = self._difference(state, action, result)
                raise self._doubt(what) if changed is None else hidden.decides(*changed, state, action, what)
            record.truncates |= result.truncated and not result.terminated
            state, age = self._state_of(result.observation), age + 1
            if result.terminated or result.truncated or age >= 300:
                state, age = self._reset(env), 0
            if step % 64 == 0 and self._late():
                return

    def _outcome(self, state: int, action: int, result: Result) -> int | None:
        """The matching outcome of the model; None where it has none."""
        pair, after = self._pairs[state][action], self._state_of(result.observation)
        for k in self._known.get((pair, after, result.terminated), ()):
            reward = self._rewards[k]
            if abs(reward - result.reward) <= max(1e-12, result.precision) * max(1.0, abs(reward)):
                return k
        return None

    def _check(self, state: int, action: int, result: Result) -> int:
        """Count an outcome; the state that it leads to."""
        k = self._outcome(state, action, result)
        if k is None:
            raise self._doubt(self._difference(state, action, result))
        self.record.outcomes[k] += 1
        self.record.tried[self._pairs[state][action]] += 1
        return self._state_of(result.observation)

    def _difference(self, state: int, action: int, result: Result) -> str:
        """The sentence about an outcome that the model does not have."""
        pair, after = self._pairs[state][action], self._state_of(result.observation)
        mdp, place = self._mdp, f"in state {state} action {action}"
        rewards = [f"{self._rewards[k]:.8g}" for k in self._known.get((pair, after, result.terminated), ())]
        if rewards:
            return f"{place} paid {result.reward:.8g} on the way to {after}, not {' or '.join(rewards)}"
        if self._known.get((pair, after, not result.terminated)):
            ends = ("goes on", "ends the episode")
            return (
                f"{place} {ends[result.terminated]} on entering {after}, where the model {ends[not result.terminated]}"
            )
        rows = slice(mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1])
        possible = sorted(set(mdp.next_state[rows].tolist()))
        shown = ", ".join(map(str, possible[:5])) + (", ..." if len(possible) > 5 else "")
        return f"{place} led to {after}, not to {shown}"

    def _doubt(self, what: str) -> NoModelError:
        return NoModelError(f"{self._subject.name}: {self._claim}: {what}")

    def _test_frequencies(self) -> None:
        mdp, record = self._mdp, self.record
        kept = mdp.probability > 0
        begin = np.flatnonzero(mdp.start > 0)
        sizes = np.add.reduceat(kept, mdp.outcome_ptr[:-1], dtype=np.int64) if mdp.n_pairs else np.zeros(0, np.int64)
        ptr = np.cumsum([0, *sizes, len(begin)])
        counts = np.concatenate([record.outcomes[kept], record.starts[begin]])
        probability = np.concatenate([mdp.probability[kept], mdp.start[begin]])
        levels, _ = outcome_levels(counts, probability, ptr)
        total = np.add.reduceat(counts, ptr[:-1])
        tested = (total > 0) & (np.diff(ptr) > 1)
        tested[-1] &= self._exact_start
        family = np.flatnonzero(tested)
        adjusted = holm(levels[family])
        if len(family) == 0 or adjusted.min() > LEVEL:
            return
        row = int(family[adjusted.argmin()])
        cells = slice(ptr[row], ptr[row + 1])
        shares = ", ".join(f"{c / total[row]:.3f}" for c in counts[cells][:6])
        stated = ", ".join(f"{p:.3f}" for p in probability[cells][:6])
        if row == mdp.n_pairs:
            raise self._doubt(f"episodes begin in states {begin[:6].tolist()} with shares {shares}, not {stated}")
        place = f"in state {mdp.pair_state[row]} action {mdp.pair_action[row]}"
        raise self._doubt(f"{place} has outcomes with shares {shares} in {int(total[row])} steps, not {stated}")
