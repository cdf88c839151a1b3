"""Choosing actions while data is gathered: by the algorithm's own functions, or on the CPU the same in numpy.

A call into torch costs microseconds whatever its size, and gathering is made of many small ones: for one small network
numpy acts several times faster, and for a handful of environments plain numbers of Python draw the action faster still.
What they compute is what `Algorithm.act` and `Distribution.sample` say, and tests hold them together; networks,
behaviours and actions that have no twin here take the plain path.
"""

import math
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch

from rlnet.algos import Algorithm, Setting
from rlnet.algos.contract import Hyper, Params, by_given, by_policy
from rlnet.distributions import Categorical
from rlnet.explore import epsilon_greedy, greedy, softmax
from rlnet.rng import Array

Choose = Callable[[Array, Array], Array]  # (obs [M, N, ...], uniform [M, N]) → actions [M, N]
# For so many environments and fewer, actions are drawn one by one in numbers of Python, with the same results.
FEW = 8


def chooser(algorithm: Algorithm, setting: Setting, params: Params, hyper: Hyper) -> Choose:
    """How to act by these parameters until they change: with arrays of numpy on the CPU, elsewhere with tensors."""

    def plain(obs: Array, uniform: Array) -> Array:
        return setting.actions.sample(algorithm.act(setting, params, obs, hyper), uniform)

    if hyper["gamma"].device.type != "cpu":
        return plain
    found = in_numpy(algorithm, setting, params, hyper)
    return found or (lambda obs, uniform: plain(torch.from_numpy(obs), torch.from_numpy(uniform)).numpy())


def in_numpy(algorithm: Algorithm, setting: Setting, params: Params, hyper: Hyper) -> Choose | None:
    """`chooser` in numpy alone; None where something has no twin in it."""
    if not isinstance(setting.actions, Categorical):
        return None
    if algorithm.act is by_given:
        table = (setting.given_policy if setting.given_behaviour is None else setting.given_behaviour).numpy()
        member = np.arange(len(table))[:, None]
        return _drawing(GIVEN, lambda obs: table[member, obs], np.ones((len(table), 1)))
    role = "pi" if algorithm.act is by_policy else "q"
    behaviour = softmax if algorithm.act is by_policy else setting.behaviour if algorithm.explores else None
    networks = [name for name in setting.networks if name.startswith(role)]
    plain = setting.available is None and setting.quantiles == 1 and not setting.dueling and networks == [role]
    forward = setting.networks[role].in_numpy
    if not plain or behaviour not in TWINS or forward is None:
        return None
    arrays = {name: value.detach().numpy() for name, value in params[role].items()}
    explore = np.ones((len(hyper["gamma"]), 1)) if role == "pi" else hyper["explore"].numpy().astype(float)
    return _drawing(TWINS[behaviour], lambda obs: forward(arrays, obs), explore)


class Twin(NamedTuple):
    """A behaviour of `explore` where every action is available, in float64: weights of the actions, up to a factor."""

    many: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (scores [M, N, A], explore [M, 1, 1]) → [M, N, A]
    one: Callable[[list[float], float], list[float]]  # (scores [A], explore) → [A]


def _drawing(twin: Twin, forward: Callable[[np.ndarray], np.ndarray], explore: np.ndarray) -> Choose:
    """`Categorical.sample` of what the twin makes of `forward`, obs [M, N, ...] → [M, N, A]; `explore` is [M, 1]."""
    column, numbers = explore[..., None], explore[:, 0].tolist()

    def choose(obs: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        if uniform.size <= FEW:
            rows = zip(forward(obs).tolist(), uniform.tolist(), numbers, strict=True)
            return np.array([[_one(twin.one(x, e), u) for x, u in zip(xs, us, strict=True)] for xs, us, e in rows])
        with np.errstate(over="ignore", invalid="ignore"):  # a member that diverges is reported by the learner
            cumulative = twin.many(forward(obs).astype(float), column).cumsum(-1)
            below = cumulative <= uniform[..., None] * cumulative[..., -1:]
        return below.sum(-1)

    return choose


def _one(weights: list[float], uniform: float) -> int:
    """The first action whose cumulative weight exceeds its share; the first of all where there is no number."""
    cumulative = list(accumulate(weights))
    edge = uniform * cumulative[-1]
    return next((action for action, upto in enumerate(cumulative) if not upto <= edge), 0)


def _greedy(scores: np.ndarray, explore: np.ndarray) -> np.ndarray:
    best = scores == scores.max(-1, keepdims=True)
    return best / best.sum(-1, keepdims=True)


def _greedy_one(scores: list[float], explore: float) -> list[float]:
    best = max(scores)
    share = 1 / scores.count(best)
    return [share if score == best else 0.0 for score in scores]


def _epsilon_greedy(scores: np.ndarray, explore: np.ndarray) -> np.ndarray:
    return (1 - explore) * _greedy(scores, explore) + explore / scores.shape[-1]


def _epsilon_greedy_one(scores: list[float], explore: float) -> list[float]:
    return [(1 - explore) * share + explore / len(scores) for share in _greedy_one(scores, explore)]


def _softmax(scores: np.ndarray, explore: np.ndarray) -> np.ndarray:
    return np.exp((scores - scores.max(-1, keepdims=True)) / explore)


def _softmax_one(scores: list[float], explore: float) -> list[float]:
    best = max(scores)
    return [math.exp((score - best) / explore) for score in scores]


GIVEN = Twin(lambda scores, explore: scores, lambda scores, explore: scores)
TWINS = {
    greedy: Twin(_greedy, _greedy_one),
    epsilon_greedy: Twin(_epsilon_greedy, _epsilon_greedy_one),
    softmax: Twin(_softmax, _softmax_one),
}
