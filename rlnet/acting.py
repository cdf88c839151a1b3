"""Choosing actions while data is gathered: by the algorithm's own functions, or on the CPU the same in numpy.

A call into torch costs microseconds whatever its size, and gathering is made of many small ones: for one small network
numpy acts several times faster. What it computes is what `Algorithm.act` and `Distribution.sample` say, and a test
holds them together; networks, behaviours and actions that have no twin here take the plain path.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from rlnet.algos import Algorithm, Setting
from rlnet.algos.contract import Hyper, Params, by_policy
from rlnet.distributions import Categorical
from rlnet.explore import epsilon_greedy, greedy, softmax

Choose = Callable[[Tensor, Tensor], Tensor]  # (obs [M, N, ...], uniform [M, N]) → actions [M, N]


def chooser(algorithm: Algorithm, setting: Setting, params: Params, hyper: Hyper) -> Choose:
    """How to act by these parameters until they change."""
    found = _in_numpy(algorithm, setting, params, hyper)
    return found or (lambda obs, uniform: setting.actions.sample(algorithm.act(setting, params, obs, hyper), uniform))


def _in_numpy(algorithm: Algorithm, setting: Setting, params: Params, hyper: Hyper) -> Choose | None:
    role = "pi" if algorithm.act is by_policy else "q"
    behaviour = softmax if algorithm.act is by_policy else setting.behaviour if algorithm.explores else None
    networks = [name for name in setting.networks if name.startswith(role)]
    plain = setting.available is None and isinstance(setting.actions, Categorical)
    plain = plain and setting.quantiles == 1 and not setting.dueling and networks == [role]
    if not plain or behaviour not in WEIGHTS or hyper["gamma"].device.type != "cpu":
        return None
    forward = setting.networks[role].in_numpy
    if forward is None:
        return None
    arrays = {name: value.detach().numpy() for name, value in params[role].items()}
    explore = np.ones(1, np.float32) if role == "pi" else hyper["explore"].unsqueeze(-1).numpy()
    weights = WEIGHTS[behaviour]

    def choose(obs: Tensor, uniform: Tensor) -> Tensor:
        with np.errstate(over="ignore", invalid="ignore"):  # a member that diverges is reported by the learner
            cumulative = weights(forward(arrays, obs.numpy()), explore).astype(np.float64).cumsum(-1)
            below = cumulative <= uniform.numpy()[..., None] * cumulative[..., -1:]
        return torch.from_numpy(below.sum(-1))

    return choose


def _greedy(scores: np.ndarray, explore: np.ndarray) -> np.ndarray:
    """`explore.greedy`, [M, N, A], not divided by its sum: the caller does."""
    return scores == scores.max(-1, keepdims=True)


def _epsilon_greedy(scores: np.ndarray, explore: np.ndarray) -> np.ndarray:
    """`explore.epsilon_greedy` where every action is available; `explore` is ε, [M, 1, 1]."""
    best = _greedy(scores, explore)
    return (1 - explore) * (best / best.sum(-1, keepdims=True)) + explore / scores.shape[-1]


def _softmax(scores: np.ndarray, explore: np.ndarray) -> np.ndarray:
    """`explore.softmax`, not divided by its sum; `explore` is τ, [M, 1, 1]."""
    return np.exp((scores - scores.max(-1, keepdims=True)) / explore)


WEIGHTS: Mapping[Callable, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    greedy: _greedy,
    epsilon_greedy: _epsilon_greedy,
    softmax: _softmax,
}
