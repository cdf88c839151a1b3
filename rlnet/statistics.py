"""What many seeds say together: means and interquartile means with bootstrap intervals, and how to compare methods.

The method of Agarwal et al., Deep RL at the edge of the statistical precipice (2021): 95 % percentile bootstrap
intervals, resampling the runs of each task by itself (stratified). A sample here is the runs of one task; the best run
is never singled out. SciPy is imported when it is needed: it takes most of a second.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000
LEAST = 3  # runs; from fewer, an interval would say nothing
BATCH = 4_000_000  # numbers that are resampled at a time

Statistic = Callable[..., np.ndarray]  # (*samples, axis) → numbers


def iqm(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """The interquartile mean over all runs of all samples: of what is left without the lowest and highest quarter."""
    from scipy.stats import trim_mean

    return trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)


def mean(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean over all runs of all samples."""
    return np.concatenate(samples, axis=axis).mean(axis=axis)


def improvement(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    """P(X > Y) + ½·P(X = Y) for a run X of one method and a run Y of another, averaged over the tasks.

    Args:
        samples: first the runs of X in each task, then those of Y in each task, along the last axis.
    """
    half = len(samples) // 2
    parts = []
    for x, y in zip(samples[:half], samples[half:], strict=True):
        pairs = np.moveaxis(x, axis, -1)[..., :, None], np.moveaxis(y, axis, -1)[..., None, :]
        parts.append((np.greater(*pairs) + 0.5 * np.equal(*pairs)).mean(axis=(-2, -1)))
    return np.mean(parts, axis=0)


def interval(samples: Sequence[np.ndarray], statistic: Statistic = mean) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % stratified bootstrap interval of a statistic: (low, high), each [...].

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


def aggregate(scalars: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | list[float] | None]]:
    """Each scalar [M] over members: mean and interquartile mean with their intervals, spread, least and largest.

    The standard deviation (n − 1) and the intervals are null where there are too few members or values are not finite.
    """
    if not scalars:
        return {}
    table = np.stack([np.asarray(values, dtype=np.float64) for values in scalars.values()])  # [K, M]
    members = table.shape[1]
    finite = np.isfinite(table).all(axis=1)
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        means, middles = table.mean(axis=1), iqm(table) if members >= 4 else table.mean(axis=1)
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
