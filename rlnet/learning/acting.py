"""Action selection while data is collected, in torch or, on the CPU, by equivalent numpy functions.

A call into torch costs microseconds whatever its size, and gathering is made of many small ones: for one small network
numpy acts several times faster, and for a handful of environments plain numbers of Python draw the action faster still.
What they compute is what `Algorithm.act` and `Distribution.sample` say, and tests hold them together; networks,
behaviours and actions that have no twin here take the plain path.
"""

from collections.abc import Callable
from functools import cache
from itertools import accumulate
from math import exp
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos import Algorithm, AlgorithmContext
from rlnet.algos.algorithm import by_given, by_policy
from rlnet.algos.context import PI, Hyper, Params, Q, Role
from rlnet.data.collector import Choose
from rlnet.data.rollout import Observation
from rlnet.nets import ParameterView
from rlnet.policies.distributions import Categorical
from rlnet.policies.exploration import Behaviour, epsilon_greedy, greedy, softmax

# For so many environments and fewer, actions are drawn one by one in numbers of Python, with the same results.
FEW = 8


class NumpyBehaviour(NamedTuple):
    """A behaviour policy in numpy where every action is available: unnormalised float64 weights of the actions."""

    many: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (scores [A, M, N], explore [M, 1]) → [A, M, N]
    one: Callable[[list[float], float], list[float]]  # (scores [A], explore) → [A]


class Acting:
    """Action selection of an algorithm.

    Args:
        algorithm: which one.
        context: what it acts in.
        device: of the parameters; on the CPU observations and actions are arrays of numpy, elsewhere tensors.
    """

    def __init__(self, algorithm: Algorithm, context: AlgorithmContext, device: torch.device | str = "cpu") -> None:
        self._algorithm, self._context, self._arrays = algorithm, context, torch.device(device).type == "cpu"
        self._twin = _twin(algorithm, context) if self._arrays else None
        self._params: Params | None = None  # those that `_forward` is of
        self._forward: Callable[[np.ndarray], np.ndarray]
        self._explore: Tensor | None = None  # that `_choose` is of
        self._choose: Choose

    @property
    def in_numpy(self) -> bool:
        """Whether actions are chosen in numpy alone."""
        return self._twin is not None

    def by(self, params: Params, hyper: Hyper) -> Choose:
        """The action function for these parameters; it follows later in-place changes of theirs."""
        if self._twin is None:
            return self._with_torch(params, hyper)
        if self._params is params and self._explore is hyper["explore"]:
            return self._choose
        if self._params is not params:
            self._params, self._forward = params, self._prepared(params)
        self._explore = hyper["explore"]
        explore = hyper["explore"].numpy() if self._algorithm.acting.explores else np.ones((len(hyper["gamma"]), 1))
        self._choose = _drawing(self._twin, self._forward, explore.astype(float))
        return self._choose

    def _with_torch(self, params: Params, hyper: Hyper) -> Choose:
        act, context = self._algorithm.acting.act, self._context

        def choose(obs: Tensor, mask: Tensor | None, uniform: Tensor) -> Tensor:
            return context.actions.sample(act(context, params, Observation(obs, mask), hyper), uniform)

        def choose_arrays(obs: np.ndarray, mask: np.ndarray | None, uniform: np.ndarray) -> np.ndarray:
            # Copies: what one environment shows is read-only, which a tensor cannot be.
            seen = torch.from_numpy(obs.copy()), None if mask is None else torch.from_numpy(mask.copy())
            return choose(*seen, torch.from_numpy(uniform)).numpy()

        return choose_arrays if self._arrays else choose

    def _prepared(self, params: Params) -> Callable[[np.ndarray], np.ndarray]:
        """obs [M, N, ...] → scores [M, N, A]: the numbers that the twin makes weights of."""
        context = self._context
        if self._twin is GIVEN:
            given = context.given_policy if context.given_behaviour is None else context.given_behaviour
            table = cast(Tensor, given).numpy()
            member = np.arange(len(table))[:, None]
            return lambda obs: table[member, obs]
        role = _acting_role(self._algorithm)
        prepare, own = context.networks[role].in_numpy, params[role]
        assert prepare is not None
        assert isinstance(own, ParameterView)
        return prepare(own.flat.detach().numpy())


def _twin(algorithm: Algorithm, context: AlgorithmContext) -> NumpyBehaviour | None:
    """The behaviour in numpy; None where there is no equivalent."""
    if not isinstance(context.actions, Categorical):
        return None
    act = algorithm.acting.act
    if act is by_given:
        return GIVEN
    role = _acting_role(algorithm)
    behaviour = softmax if act is by_policy else context.behaviour if algorithm.acting.explores else None
    networks = [name for name in context.networks if Role(name).kind == role]
    plain = not context.masked and context.quantiles == 1 and not context.dueling and networks == [role]
    there = plain and behaviour is not None and context.networks[role].in_numpy is not None
    return TWINS.get(cast(Behaviour, behaviour)) if there else None


def _acting_role(algorithm: Algorithm) -> Role:
    return PI if algorithm.acting.act is by_policy else Q


def _drawing(twin: NumpyBehaviour, forward: Callable[[np.ndarray], np.ndarray], explore: np.ndarray) -> Choose:
    """`Categorical.sample` of what the twin makes of `forward`, obs [M, N, ...] → [M, N, A]; `explore` is [M, 1]."""
    numbers = explore[:, 0].tolist()

    def choose(obs: np.ndarray, mask: None, uniform: np.ndarray) -> np.ndarray:
        scores = forward(obs)
        if uniform.size == 1:
            return _alone(_one(twin.one(scores.tolist()[0][0], numbers[0]), uniform.item()))
        if uniform.size <= FEW:
            rows = zip(scores.tolist(), uniform.tolist(), numbers, strict=True)
            return np.array([[_one(twin.one(x, e), u) for x, u in zip(xs, us, strict=True)] for xs, us, e in rows])
        # Actions first: numpy reduces a short last axis slowly.
        cumulative = twin.many(scores.transpose(2, 0, 1).astype(float, order="C"), explore).cumsum(0)
        return (cumulative[:-1] <= uniform * cumulative[-1]).sum(0)

    return choose


@cache
def _alone(action: int) -> np.ndarray:
    """The action of the only environment there is, [1, 1] int64, read-only."""
    array = np.full((1, 1), action)
    array.flags.writeable = False
    return array


def _one(weights: list[float], uniform: float) -> int:
    """The first action whose cumulative weight exceeds its share; the first of all where there is no number."""
    cumulative = list(accumulate(weights))
    edge = uniform * cumulative[-1]
    for action, upto in enumerate(cumulative):
        if not upto <= edge:
            return action
    return 0


def _greedy(scores: np.ndarray, explore: np.ndarray) -> np.ndarray:
    best = scores == scores.max(0)
    return best / best.sum(0)


def _greedy_one(scores: list[float], explore: float) -> list[float]:
    best = max(scores)
    share = 1 / scores.count(best)
    return [share if score == best else 0.0 for score in scores]


def _epsilon_greedy(scores: np.ndarray, explore: np.ndarray) -> np.ndarray:
    return (1 - explore) * _greedy(scores, explore) + explore / len(scores)


def _epsilon_greedy_one(scores: list[float], explore: float) -> list[float]:
    best, other = max(scores), explore / len(scores)
    share = (1 - explore) * (1 / scores.count(best)) + other
    return [share if score == best else other for score in scores]


def _softmax(scores: np.ndarray, explore: np.ndarray) -> np.ndarray:
    return np.exp((scores - scores.max(0)) / explore)


def _softmax_one(scores: list[float], explore: float) -> list[float]:
    best = max(scores)
    return [exp((score - best) / explore) for score in scores]


GIVEN = NumpyBehaviour(lambda scores, explore: scores, lambda scores, explore: scores)
TWINS = {
    greedy: NumpyBehaviour(_greedy, _greedy_one),
    epsilon_greedy: NumpyBehaviour(_epsilon_greedy, _epsilon_greedy_one),
    softmax: NumpyBehaviour(_softmax, _softmax_one),
}
