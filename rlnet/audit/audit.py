"""Test of a simulator against its model: impossible outcomes, frequencies, and the power of the test."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from rlnet.audit.evidence import Evidence, gather
from rlnet.audit.sources import Source
from rlnet.compare import reachable
from rlnet.mdp import FiniteMDP
from rlnet.mdp.from_env.exact_tests import POWER, holm, outcome_levels, smallest_error
from rlnet.mdp.from_env.trial import numbered_outcomes


@dataclass(frozen=True)
class Finding:
    """One difference between simulator and model."""

    kind: str  # outcome, reward, terminated, frequency, start, autoreset, protocol or model
    expected: str
    seen: str
    count: int  # steps that show it
    state: int | None = None
    action: int | None = None
    p_value: float = 0.0  # adjusted for all tests; 0 for what the model cannot do at all


@dataclass(frozen=True)
class Audited:
    """Result of the audit of one simulator."""

    simulator: str
    steps: int
    episodes: int
    cut: int  # episodes that the time limit ended
    pairs: int  # that can be reached in the model
    tried: int  # of them
    smallest_error: (
        float  # a change of one transition probability found with 90 %: half of the pairs find a smaller one
    )
    smallest_error_worst: float  # the same of the pair that was tried least
    findings: list[Finding]
    notes: list[str]  # what was not tested


def audit(
    mdp: FiniteMDP, source: Source, limit: int | None, samples: int, *, level: float = 0.01, seed: int = 0
) -> Audited:
    """Test a simulator against its model.

    Outcomes, rewards, ends, first observations and time limit must be the model's; frequencies of successors and of
    first observations must be explained by chance. With a right simulator the probability of any finding is at most
    `level` (Holm over all tests).

    Args:
        mdp: the model that dynamic programming solves.
        source: the simulator.
        limit: the time limit that should hold, None: none.
        samples: steps to take.
        level: of false alarm.
        seed: of the actions.
    """
    evidence = gather(mdp, source, limit, samples, seed)
    expected = _Expected(mdp, source.tolerance)
    count, findings = expected.match(evidence.outcomes)
    findings += [Finding("protocol", "the Gymnasium interface", text, n) for text, n in evidence.faults.items()]
    for kind, seen in (("start", evidence.starts), ("autoreset", evidence.restarts)):
        findings += _impossible_starts(mdp, kind, seen)
    known = {(f.state, f.action) for f in findings}  # the frequencies of what is wrong already need no test
    found, errors = _frequencies(mdp, count, evidence, level, known)
    pairs = np.isin(mdp.pair_state, np.flatnonzero(reachable(mdp)))
    tried = np.add.reduceat(count, mdp.outcome_ptr[:-1]) > 0
    notes = []
    if (pairs & ~tried).any():
        notes.append(f"{int((pairs & ~tried).sum())} of {int(pairs.sum())} reachable (s, a) were never tried")
    if limit is not None and evidence.cut == 0:
        notes.append(f"no episode reached the time limit of {limit} steps")
    if evidence.episodes == 0:
        notes.append("no episode ended, so nothing is known about resets after an end")
    return Audited(
        simulator=source.name,
        steps=evidence.steps,
        episodes=evidence.episodes,
        cut=evidence.cut,
        pairs=int(pairs.sum()),
        tried=int((tried & pairs).sum()),
        smallest_error=float(np.median(errors)) if len(errors) else 1.0,
        smallest_error_worst=float(errors.max(initial=0.0)) if len(errors) else 1.0,
        findings=findings + found,
        notes=notes,
    )


class _Expected:
    """Lookup of the outcomes of a model."""

    def __init__(self, mdp: FiniteMDP, tolerance: float) -> None:
        self._mdp, self._tolerance = mdp, tolerance
        self._where = numbered_outcomes(mdp)

    def match(self, outcomes: Counter) -> tuple[np.ndarray, list[Finding]]:
        """Counts of each outcome of the model [K], and observed outcomes that the model does not have."""
        count = np.zeros(self._mdp.n_outcomes)
        reward = self._mdp.reward
        strange: Counter[tuple[int, int, float, bool]] = Counter()
        for (pair, successor, gain, end), times in outcomes.items():
            for k in self._where.get((pair, successor, end), ()):
                if abs(gain - reward[k]) <= self._tolerance * max(1.0, abs(reward[k])):
                    count[k] += times
                    break
            else:
                strange[pair, successor, gain, end] += times
        return count, [self._finding(*outcome, times=times) for outcome, times in sorted(strange.items())]

    def _finding(self, pair: int, successor: int, gain: float, end: bool, times: int) -> Finding:
        mdp = self._mdp
        rows = range(mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1])
        same = self._where.get((pair, successor, end), ())
        if same:
            kind, expected = "reward", " or ".join(f"{mdp.reward[k]:.8g}" for k in same)
            seen = f"{gain:.8g} on the way to {successor}"
        elif self._where.get((pair, successor, not end)):
            kind, expected, seen = "terminated", f"terminated={not end} on entering {successor}", f"terminated={end}"
        else:
            kind = "outcome"
            expected = "successor " + ", ".join(sorted({str(mdp.next_state[k]) for k in rows}, key=int))
            seen = f"successor {successor}, reward {gain:.8g}{', terminated' if end else ''}"
        return Finding(kind, expected, seen, times, int(mdp.pair_state[pair]), int(mdp.pair_action[pair]))


def _impossible_starts(mdp: FiniteMDP, kind: str, seen: Counter) -> list[Finding]:
    possible = np.flatnonzero(mdp.start > 0)
    names = ", ".join(map(str, possible[:5])) + (", ..." if len(possible) > 5 else "")
    return [
        Finding(kind, f"a first observation out of {names}", f"first observation {s}", times, state=s)
        for s, times in sorted(seen.items())
        if not 0 <= s < mdp.n_states or mdp.start[s] == 0
    ]


def _frequencies(
    mdp: FiniteMDP, count: np.ndarray, evidence: Evidence, level: float, known: set[tuple[int | None, int | None]]
) -> tuple[list[Finding], np.ndarray]:
    """Rows whose counts contradict their probabilities, and the smallest detectable error of each tried pair.

    The rows are the pairs (s, a), the first observations of resets, and those after ends.
    """
    begin = np.flatnonzero(mdp.start > 0)
    firsts = [np.array([seen[s] for s in begin.tolist()], float) for seen in (evidence.starts, evidence.restarts)]
    kept = mdp.probability > 0
    sizes = np.add.reduceat(kept, mdp.outcome_ptr[:-1], dtype=np.int64)
    ptr = np.cumsum([0, *sizes, len(begin), len(begin)])
    counts = np.concatenate([count[kept], *firsts])
    probability = np.concatenate([mdp.probability[kept], mdp.start[begin], mdp.start[begin]])
    what = np.concatenate([mdp.next_state[kept], begin, begin])
    levels, single = outcome_levels(counts, probability, ptr)
    total, size = np.add.reduceat(counts, ptr[:-1]), np.diff(ptr)
    nowhere = [(None, None), (None, None)]
    places = [*zip(mdp.pair_state.tolist(), mdp.pair_action.tolist(), strict=True), *nowhere]
    untested = np.array([place in known and place != (None, None) for place in places])
    family = np.flatnonzero((total > 0) & (size > 1) & ~untested)
    adjusted = holm(levels[family])
    findings = []
    for row, p in zip(family[adjusted <= level], adjusted[adjusted <= level], strict=True):
        cells = slice(ptr[row], ptr[row + 1])
        k = ptr[row] + int(single[cells].argmin())
        n, expected = int(total[row]), f"{probability[k]:.4g}"
        kind = "frequency" if row < mdp.n_pairs else ("start", "autoreset")[row - mdp.n_pairs]
        name = "successor" if row < mdp.n_pairs else "first observation"
        seen = f"{counts[k] / n:.4g} ({int(counts[k])} of {n})"
        state, action = places[row]
        expected = f"{name} {what[k]} with probability {expected}"
        findings.append(Finding(kind, expected, seen, n, state, action, float(p)))
    return findings, _findable(mdp, counts, probability, ptr, level / max(len(family), 1))


def _findable(mdp: FiniteMDP, counts: np.ndarray, probability: np.ndarray, ptr: np.ndarray, level: float) -> np.ndarray:
    """The smallest error detected with power 0.9 at `level`, for each tried pair."""
    size = np.diff(ptr)[: mdp.n_pairs]
    pair = np.arange(mdp.n_pairs).repeat(size)  # of each outcome
    total = np.bincount(pair, counts[: len(pair)], minlength=mdp.n_pairs)
    # Outcomes of one pair with one probability are alike.
    which = np.unique(np.stack([pair, probability[: len(pair)]]), axis=1, return_index=True)[1]
    which = which[(total[pair] > 0)[which] & (size[pair] > 1)[which]]
    own = pair[which]
    split = np.where(size > 2, 2 * size, 1)[own]  # see `outcome_levels`
    worst = np.zeros(mdp.n_pairs)
    np.maximum.at(worst, own, smallest_error(total[own], probability[which], level / split))
    sure = (size == 1) & (total > 0)  # a single outcome that leaves its place is found as soon as it is seen elsewhere
    worst[sure] = 1 - (1 - POWER) ** (1 / total[sure])
    return worst[total > 0]
