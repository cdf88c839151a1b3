"""Statistics over seeds: means and interquartile means with bootstrap intervals, and comparison of methods.

The method of Agarwal et al., Deep RL at the edge of the statistical precipice (2021): 95 % percentile bootstrap
intervals, resampling the runs of each task by itself (stratified). A sample here is the runs of one task; the best run
is never singled out. SciPy is imported when it is needed: it takes most of a second.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
EXCHANGES = 4000  # at most, of a permutation test
NORMAL = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution
INTERQUARTILE = 4  # runs; of fewer, the interquartile mean is the mean
LEAST = 3  # runs; from fewer, an interval would say nothing
SAME = 1e-9  # of the size of two numbers, at least of 1: how far apart rounding alone may leave them
MANY = 2000  # runs, from which on intervals of means come from the normal approximation and not from resampling
BATCH = 4_000_000  # numbers that are resampled at a time

Statistic = Callable[..., np.ndarray]  # (*samples, axis) → numbers


def iqm(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean over all runs of all samples: the mean without the lowest and the highest quarter."""
    from scipy.stats import trim_mean

    return trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)


def mean(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean over all runs of all samples."""
    return np.concatenate(samples, axis=axis).mean(axis=axis)


def improvement(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """Probability of improvement, P(X > Y) + ½·P(X = Y) for runs X and Y of two methods, averaged over tasks.

    Args:
        samples: first the runs of X in each task, then those of Y in each task, along the last axis.
    """
    half = len(samples) // 2
    parts = []
    for x, y in zip(samples[:half], samples[half:], strict=True):
        pairs = np.moveaxis(x, axis, -1)[..., :, None], np.moveaxis(y, axis, -1)[..., None, :]
        parts.append((np.greater(*pairs) + 0.5 * np.equal(*pairs)).mean(axis=(-2, -1)))
    return np.mean(parts, axis=0)


@dataclass(frozen=True)
class Ranking:
    """Ranking of methods: which is best, as far as their runs can show."""

    order: list[int]  # of the methods, the highest interquartile mean first
    ties: list[int]  # of the others: those from which the first differs by no more than chance may explain
    beaten: list[int]  # of the others: those that are worse, beyond chance


def ranking(methods: Sequence[np.ndarray]) -> Ranking:
    """Rank methods by their interquartile mean, and test which of them the first one beats.

    The first beats another where a permutation test of P(X > Y) + ½·P(X = Y), which exchanges the runs of both, has
    p ≤ 5 % divided by the number of pairs of methods (Bonferroni), because the first is the best of them all: see
    `runs_needed`. Numbers that differ by no more than rounding are equal.

    Args:
        methods: the runs of each method on one task, [n]; more is better, and what is no number is worst.
    """
    if len(methods) == 1:
        return Ranking([0], [], [])
    samples = [np.nan_to_num(np.asarray(runs, dtype=np.float64), nan=-np.inf) for runs in methods]
    with np.errstate(over="ignore", invalid="ignore"):  # numbers as large as −inf stands for here, or of both signs
        middle = [float(iqm(runs)) for runs in samples]
    order = sorted(range(len(samples)), key=lambda k: -np.nan_to_num(middle[k], nan=-np.inf))
    first, others = order[0], order[1:]
    beaten = [k for k in others if _exchange_test(samples[first], samples[k]) <= _level(len(samples))]
    return Ranking(order, [k for k in others if k not in beaten], beaten)


def runs_needed(methods: int) -> int:
    """The fewest runs of each of so many methods from which `ranking` can show that the first beats another."""
    runs = 1
    while 2 / comb(2 * runs, runs) > _level(methods):
        runs += 1
    return runs


def _level(methods: int) -> float:
    """The largest p at which one of so many methods beats another."""
    return (1 - CONFIDENCE) / comb(methods, 2)


def _exchange_test(x: np.ndarray, y: np.ndarray) -> float:
    """p of the two-sided permutation test of `improvement`: exact for few runs, else by random exchanges.

    P(X > Y) + ½·P(X = Y) grows with the sum of the ranks of X among all runs, which is what is exchanged.
    """
    from scipy.stats import rankdata

    ranks, first = rankdata(_levels(np.concatenate([x, y]))), len(x)
    exact = comb(len(ranks), first) <= EXCHANGES
    if exact:
        sums = ranks[_choices(len(ranks), first)].sum(axis=1)
    else:
        rng = np.random.default_rng(0)
        sums = np.array([rng.permutation(ranks)[:first].sum() for _ in range(EXCHANGES)])
    middle = first * (len(ranks) + 1) / 2
    as_far = int((np.abs(sums - middle) >= abs(ranks[:first].sum() - middle) - 1e-9).sum())
    return as_far / len(sums) if exact else (1 + as_far) / (1 + len(sums))


@lru_cache(maxsize=8)
def _choices(count: int, chosen: int) -> np.ndarray:
    """All ways to choose some of so many: indices [ways, chosen]."""
    return np.array(list(combinations(range(count), chosen)))


def _levels(numbers: np.ndarray) -> np.ndarray:
    """The same order as integers; what is equal up to rounding has the same one."""
    order = np.argsort(numbers, kind="stable")
    ranked = np.nan_to_num(numbers[order])  # infinities are the largest numbers
    size = np.maximum(np.abs(ranked[1:]), np.abs(ranked[:-1]))
    with np.errstate(over="ignore"):
        apart = np.diff(ranked) > SAME * np.maximum(size, 1.0)
    levels = np.empty(len(numbers), dtype=np.int64)
    levels[order] = np.concatenate([[0], np.cumsum(apart)])
    return levels


def interval(samples: Sequence[np.ndarray], statistic: Statistic = mean) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % stratified bootstrap interval of a statistic: (low, high), each [...].

    Of the mean or interquartile mean of `MANY` runs or more of one task: its normal approximation.

    Args:
        samples: one array of runs for each task, [..., n]; nan where a task has too few runs or a value is not finite.
        statistic: of (*samples, axis).
    """
    from scipy.stats import bootstrap

    samples = [np.asarray(sample, dtype=np.float64) for sample in samples]
    usable = np.all([np.isfinite(sample).all(axis=-1) for sample in samples], axis=0)
    low, high = (np.full(usable.shape, np.nan) for _ in range(2))
    if min(sample.shape[-1] for sample in samples) < LEAST or not usable.any():
        return low, high
    if len(samples) == 1 and samples[0].shape[-1] >= MANY and statistic in (mean, iqm):
        middle, error = _standard_error(samples[0][usable], 0.0 if statistic is mean else 0.25)
        low[usable], high[usable] = middle - NORMAL * error, middle + NORMAL * error
        return low, high
    size = max(1, max(sample[usable].size * sample.shape[-1] for sample in samples))  # `improvement` compares pairs
    found = bootstrap(
        [sample[usable] for sample in samples],
        statistic,
        axis=-1,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH // size),
        rng=np.random.default_rng(0),
    ).confidence_interval
    low[usable], high[usable] = found.low, found.high
    return low, high


def _standard_error(sample: np.ndarray, cut: float) -> tuple[np.ndarray, np.ndarray]:
    """The trimmed mean of runs [..., n] and its standard error s_w/((1 − 2·cut)·√n), with the winsorised deviation s_w.

    Tukey & McLaughlin (1963). Without a cut: the mean and s/√n. For many runs the bootstrap tends to the same.
    """
    n = sample.shape[-1]
    out = int(cut * n)
    ranked = np.sort(sample, axis=-1)
    middle = ranked[..., out : n - out].mean(axis=-1)
    winsorised = np.clip(ranked, ranked[..., out : out + 1], ranked[..., n - out - 1 : n - out])
    return middle, winsorised.std(axis=-1, ddof=1) / ((1 - 2 * cut) * np.sqrt(n))


def aggregate(scalars: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | list[float] | None]]:
    """Aggregate each scalar [M] over members: mean and interquartile mean with intervals, spread, least, largest.

    The standard deviation (n − 1) and the intervals are null where there are too few members or values are not finite.
    """
    if not scalars:
        return {}
    table = np.stack([np.asarray(values, dtype=np.float64) for values in scalars.values()])  # [K, M]
    members = table.shape[1]
    finite = np.asarray(np.isfinite(table).all(axis=1))
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        means, middles = table.mean(axis=1), iqm(table) if members >= INTERQUARTILE else table.mean(axis=1)
    of_mean, of_middle = (
        (low.tolist(), high.tolist()) for low, high in (_interval(table, mean), _interval(table, iqm))
    )

    def pair(ends: tuple[list[float], list[float]], k: int) -> list[float] | None:
        return [ends[0][k], ends[1][k]] if np.isfinite(ends[0][k]) else None

    return {
        name: {
            "mean": float(means[k]),
            "mean_interval": pair(of_mean, k),
            "iqm": float(middles[k]),
            "iqm_interval": pair(of_middle, k),
            "std": float(np.std(table[k], ddof=1)) if members > 1 and finite[k] else None,
            "min": float(table[k].min()),
            "max": float(table[k].max()),
        }
        for k, name in enumerate(scalars)
    }


def _interval(table: np.ndarray, statistic: Statistic) -> tuple[np.ndarray, np.ndarray]:
    if table.shape[1] < LEAST:
        return np.full(len(table), np.nan), np.full(len(table), np.nan)
    return interval([table], statistic)


def profile(samples: Sequence[np.ndarray], thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The performance profile: (share of the runs above each threshold, low, high), each [K].

    Args:
        samples: the runs of each task [n].
        thresholds: [K].
    """
    above = [(np.asarray(sample)[None, :] > thresholds[:, None]).astype(np.float64) for sample in samples]
    return mean(*above), *interval(above, mean)


def wilson(passes: np.ndarray | float, samples: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % score interval of a binomial probability: (low, high).

    Args:
        passes, samples: samples above 0; not necessarily whole, as with a weighted mean.
    """
    from scipy.special import ndtri

    z2 = float(ndtri(0.975)) ** 2
    n, p = np.asarray(samples, dtype=np.float64), np.asarray(passes, dtype=np.float64) / samples
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return np.where(p == 0, 0.0, middle - half), np.where(p == 1, 1.0, middle + half)
