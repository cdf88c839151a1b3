"""Exact binomial and multinomial tests of counts against known probabilities, and their power.

Pearson's χ² has its tail only in the limit: at the levels that thousands of pairs demand (10⁻⁶) it is off by orders of
magnitude where an outcome is expected five times. The same statistic's likelihood-ratio form G = 2n·KL(p̂‖p) has a
bound for every n, and a single outcome an exact law.
"""

import numpy as np

POWER = 0.9  # an error is called findable if it would be found with this probability


def outcome_levels(count: np.ndarray, probability: np.ndarray, ptr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p-values of the hypothesis that the counts of each row are draws from its probabilities.

    The smaller one of: (a) the exact two-sided binomial tests of its k outcomes, times k; (b) the χ² test of the whole
    row in likelihood-ratio form, P(G ≥ g) ≤ exp(−g/2)·(e·g/(2(k − 1)))^(k − 1) for g/2 ≥ k − 1 (Agrawal 2020,
    theorem 1.2); times 2, for they are two tests. With k = 2, (a) alone decides, and is one test.

    Args:
        count: [K] how often each outcome was seen.
        probability: [K] above 0, summing to 1 within a row.
        ptr: [R + 1]; the outcomes of row i are ptr[i]:ptr[i + 1], at least one.

    Returns:
        [R] p-values, and [K] the exact ones of the single outcomes.
    """
    size, first = np.diff(ptr), ptr[:-1]
    total = np.repeat(np.add.reduceat(count, first), size)
    single = _two_sided(count, total, probability)
    level = np.minimum.reduceat(single, first) * np.where(size > 2, 2 * size, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(count > 0, count * np.log(count / (total * probability)), 0.0)
        half = np.maximum(np.add.reduceat(parts, first), 0.0)  # g/2
        free = size - 1.0
        bound = np.where((free > 0) & (half > free), np.exp(-half + free * (1 + np.log(half / free))), 1.0)
    level = np.where(size > 2, np.minimum(level, 2 * bound), level)
    return np.where(size > 1, np.minimum(level, 1.0), 1.0), single


def _two_sided(count: np.ndarray, total: np.ndarray, probability: np.ndarray) -> np.ndarray:
    from scipy.special import bdtr, bdtrc  # the binomial law without scipy.stats, which takes long to load

    count, total = np.asarray(count, dtype=np.float64), np.asarray(total).astype(np.intp)
    lower, upper = bdtr(count, total, probability), bdtrc(count - 1, total, probability)
    return np.minimum(2 * np.minimum(lower, upper), 1.0)


def holm(levels: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values [R]: rejecting those ≤ α raises any false alarm with probability at most α.

    Holm 1979. The tests may depend on each other.
    """
    order = np.argsort(levels)
    adjusted = np.maximum.accumulate(levels[order] * np.arange(len(levels), 0, -1))
    out = np.empty(len(levels))
    out[order] = np.minimum(adjusted, 1.0)
    return out


def rough_error(total: np.ndarray, probability: np.ndarray, level: np.ndarray) -> np.ndarray:
    """`smallest_error` by the normal approximation (z_{level/2} + z_{0.1})·√(p(1 − p)/n), at once: [K].

    Of an outcome that is certain it is the probability of another one that is seen once with power 0.9.
    """
    from scipy.special import ndtri

    normal = (ndtri(POWER) - ndtri(level / 2)) * np.sqrt(probability * (1 - probability) / total)
    return np.minimum(np.where(probability == 1, 1 - (1 - POWER) ** (1 / total), normal), 1.0)


def smallest_error(total: np.ndarray, probability: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The smallest change of a probability that its exact binomial test detects with power 0.9: [K].

    Where a change that large leads out of [0, 1] in one direction, the other one counts; 1 where none is found.

    Args:
        total: [K] draws.
        probability: [K].
        level: [K] at which the test rejects.
    """
    from scipy.stats import binom

    low = binom.ppf(level / 2, total, probability)  # the largest count that the lower side rejects
    low = np.where(binom.cdf(low, total, probability) > level / 2, low - 1, low)
    high = binom.isf(level / 2, total, probability) + 1  # the smallest that the upper side rejects
    needed = np.zeros((2, len(total)))
    for row, (sign, room) in enumerate(((1, 1 - probability), (-1, probability))):
        least, most = np.zeros(len(total)), np.array(room)
        for _ in range(40):
            middle = (least + most) / 2
            shifted = np.clip(probability + sign * middle, 0.0, 1.0)
            found = binom.cdf(low, total, shifted) + binom.sf(high - 1, total, shifted) >= POWER
            least, most = np.where(found, least, middle), np.where(found, middle, most)
        needed[row] = np.where(most >= room * (1 - 1e-9), np.inf, most)
    worst = np.where(np.isinf(needed), -np.inf, needed).max(0)
    return np.where(np.isinf(needed).all(0), 1.0, worst)
