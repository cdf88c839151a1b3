"""Statistics of evaluation episodes: means with intervals, and predicted against obtained returns.

Episodes are M members × E each, by name: `return` (undiscounted), `discounted`, `length`, and whether they `terminated`
by themselves or were `cut` because they went on for too long (else a time limit of the environment's own ended them);
and where the environment names events, whether the `event` happened that is watched.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rlnet.numerics.statistics import CONFIDENCE, RESAMPLES

Sampled = Mapping[str, np.ndarray]  # name → [M, E]
QUANTITIES = ("return", "discounted", "length")
EVENT = "event"
TAIL = 0.05  # the largest weight γ^k at which the rest of an episode that was cut may be what V predicts of it
ROWS = 1_000  # of each member at most, of predicted beside obtained returns


def mean_interval(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of independent samples and half the width of its 95 % interval by Student's t: [..., E] → [...] each.

    The coverage is 95 % for many or nearly normal samples. Equal samples have an interval of width 0, which says only
    that no other outcome was seen.
    """
    from scipy.stats import t

    count = samples.shape[-1]
    deviation = samples.std(axis=-1, ddof=1) / np.sqrt(count)
    return samples.mean(axis=-1), t.ppf((1 + CONFIDENCE) / 2, count - 1) * deviation


def scalars(policies: Mapping[str, Sampled]) -> dict[str, np.ndarray]:
    """Numbers for the log, [M] each: of the first policy `evaluation/return`, of others `evaluation/NAME_return`."""
    found = {}
    for k, (name, episodes) in enumerate(policies.items()):
        prefix = "evaluation/" if k == 0 else f"evaluation/{name}_"
        for quantity in QUANTITIES:
            found[prefix + quantity], half = mean_interval(episodes[quantity].astype(np.float64))
            if quantity == "return":
                found[f"{prefix}return_half_interval"] = half
        if EVENT in episodes:
            found[f"{prefix}event_rate"] = episodes[EVENT].mean(-1)
    return found


def scalar_names(policies: tuple[str, ...], event: bool = False) -> list[str]:
    """The names of `scalars` of these policies, with an event or without."""
    some = {name: np.zeros((1, 2)) for name in (*QUANTITIES, *((EVENT,) if event else ()))}
    return list(scalars(dict.fromkeys(policies, some)))


def returns_to_go(
    reward: np.ndarray, running: np.ndarray, rest: np.ndarray, gamma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Discounted return from every step on, and the weight γ^k in it of what follows the last step.

    Args:
        reward: [T, M, E].
        running: bool [T, M, E], steps of the episode; the others come after its end.
        rest: [M, E], the value of what follows the last step; 0 where the episode terminated.
        gamma: [M, 1].

    Returns:
        Two arrays [T, M, E], 0 after the end of an episode.
    """
    returns, weights = np.zeros(reward.shape), np.zeros(reward.shape)
    following, weight = rest.astype(np.float64), np.ones(rest.shape)
    for t in reversed(range(len(reward))):
        now = running[t]
        following = np.where(now, reward[t] + gamma * following, following)
        weight = np.where(now, gamma * weight, weight)
        returns[t], weights[t] = following * now, weight * now
    return returns, weights


def predicted_beside_obtained(
    value: np.ndarray,
    reward: np.ndarray,
    running: np.ndarray,
    terminated: np.ndarray,
    rest: np.ndarray,
    gamma: np.ndarray,
) -> dict[str, np.ndarray]:
    """V(S_t) beside the discounted return from S_t on, for steps spread evenly over the episodes of each member.

    Where an episode did not terminate, the return ends with the predicted value of its last observation. Steps at which
    that has a weight above `TAIL` are left out: their return was not sampled. So are those of all other episodes that
    come as late or later in theirs: else what is kept of late steps would be the episodes that ended early, by a crash.

    Args:
        value, reward, running: [T, M, E].
        terminated: bool [M, E], whether the episode ended by itself.
        rest: [M, E], V of the observation after the last step.
        gamma: [M, 1].

    Returns:
        `predicted`, `obtained` and `episode` [M, K], K ≤ `ROWS`, filled up with NaN; `left_out` [M], the share of steps
        whose return was not sampled to its end.
    """
    returns, weight = returns_to_go(reward, running, np.where(terminated, 0.0, rest), gamma)
    age, members = running.cumsum(0), reward.shape[1]  # of the episode after the step, from 1
    unknown = running & ~terminated & (weight > TAIL)
    used = running & (age < np.where(unknown, age, len(age) + 1).min((0, 2))[:, None])
    found = {name: np.full((members, ROWS), np.nan) for name in ("predicted", "obtained", "episode")}
    for m in range(members):
        time, episode = used[:, m].nonzero()
        if len(time) > ROWS:
            kept = np.linspace(0, len(time) - 1, ROWS).astype(np.int64)
            time, episode = time[kept], episode[kept]
        for name, array in (("predicted", value), ("obtained", returns)):
            found[name][m, : len(time)] = array[time, m, episode]
        found["episode"][m, : len(time)] = episode
    return found | {"left_out": 1 - used.sum((0, 2)) / np.maximum(running.sum((0, 2)), 1)}


class Reliability(NamedTuple):
    """Mean predicted beside mean obtained returns in B bins of equally many steps, by rising prediction."""

    predicted: np.ndarray  # [B]
    obtained: np.ndarray  # [B]
    low: np.ndarray  # [B], 95 % bootstrap interval of `obtained`, resampling episodes
    high: np.ndarray  # [B]
    bias: float  # mean of predicted − obtained over all steps
    bias_interval: tuple[float, float]  # 95 % bootstrap interval, resampling episodes


def reliability(predicted: np.ndarray, obtained: np.ndarray, episode: np.ndarray, bins: int = 10) -> Reliability | None:
    """Calibration of predicted returns in bins, with 95 % bootstrap intervals.

    Episodes are resampled, not steps, since the steps of one episode are not independent.

    Args:
        predicted, obtained: [N] each; NaN where there is nothing.
        episode: [N], a number of the episode that a step belongs to.
        bins: at most.

    Returns:
        None where there are fewer than two episodes.
    """
    known = np.isfinite(predicted) & np.isfinite(obtained)
    predicted, obtained = predicted[known].astype(np.float64), obtained[known].astype(np.float64)
    _, cluster = np.unique(episode[known], return_inverse=True)
    clusters = int(cluster.max(initial=-1)) + 1
    if clusters < 2:
        return None
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1]))
    where = np.searchsorted(edges, predicted, side="right")
    used, where = np.unique(where, return_inverse=True)
    columns = {"count": np.ones_like(predicted), "predicted": predicted, "obtained": obtained}
    sums = {name: np.zeros((clusters, len(used))) for name in columns}
    for name, column in columns.items():
        np.add.at(sums[name], (cluster, where), column)
    count, total = sums["count"].sum(0), sums["predicted"].sum(0)
    weights = np.random.default_rng(0).multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = (weights @ sums["obtained"]) / (weights @ sums["count"])
    ends = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
    low, high = np.nanpercentile(resampled, ends, axis=0)
    error = (sums["predicted"] - sums["obtained"]).sum(1)
    biases = (weights @ error) / (weights @ sums["count"].sum(1))
    bias_low, bias_high = np.percentile(biases, ends)
    bias = float(error.sum() / count.sum())
    return Reliability(total / count, sums["obtained"].sum(0) / count, low, high, bias, (bias_low, bias_high))
