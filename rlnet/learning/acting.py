"""Action selection while data is collected, in torch or, on the CPU, by equivalent numpy functions.

A call into torch costs microseconds whatever its size, and collecting data takes many small ones: for one small network
numpy is several times faster, and for a few environments plain Python numbers are faster still. The results are those
of `Acting.act` and `Distribution.sample`, which tests compare; networks, behaviours and action spaces without a numpy
equivalent use torch.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import accumulate
from math import exp
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos import Algorithm, AlgorithmContext
from rlnet.algos.context import PI, Hyper, Params, Q, Role
from rlnet.data.interfaces import Choose
from rlnet.data.rollout import Observation
from rlnet.nets import ParameterView
from rlnet.policies.distributions import Categorical
from rlnet.policies.exploration import Behaviour, epsilon_greedy, greedy, softmax

# Up to so many environments, actions are sampled one by one in Python numbers, with the same results.
FEW = 8


class NumpyBehaviour(NamedTuple):
    """A behaviour policy in numpy where every action is available: unnormalised float64 weights of the actions."""

    many: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (scores [A, M, N], explore [M, 1]) → [A, M, N]
    one: Callable[[list[float], float], list[float]]  # (scores [A], explore) → [A]


def actor(
    algorithm: Algorithm, context: AlgorithmContext, params: Params, device: torch.device | str = "cpu"
) -> Callable[[Hyper], Choose]:
    """Make the action selection of a behaviour policy; later in-place changes of its parameters take effect.

    Args:
        algorithm, context: the algorithm and its context.
        params: by role.
        device: cpu: observations and actions are numpy arrays; another device: tensors.

    Returns:
        A function hyperparameters → the function that chooses actions.
    """
    in_numpy = torch.device(device).type == "cpu"
    twin = twin_of(algorithm, context) if in_numpy else None
    if twin is None:
        if algorithm.data.whole_episodes and any(network.growing for network in context.networks.values()):
            context = _remembering(context)
        return lambda hyper: _with_torch(algorithm, context, params, hyper, in_numpy)
    scores, explores = _scores(algorithm, context, params), algorithm.acting.explores

    def choosing(hyper: Hyper) -> Choose:
        explore = hyper["explore"].numpy() if explores else np.ones((len(hyper["gamma"]), 1))
        return _drawing(twin, scores, explore.astype(float))

    return choosing


def _remembering(context: AlgorithmContext) -> AlgorithmContext:
    """The context with networks that sample texts with a KV cache, see `Network.growing`.

    In rollouts of whole episodes all texts begin together, and parameters stay fixed until they end.
    """
    networks = {
        role: network if network.growing is None else replace(network, apply=network.growing())
        for role, network in context.networks.items()
    }
    return replace(context, networks=networks)


def _with_torch(
    algorithm: Algorithm, context: AlgorithmContext, params: Params, hyper: Hyper, in_numpy: bool
) -> Choose:
    def choose(obs: Tensor, mask: Tensor | None, uniform: Tensor) -> Tensor:
        return context.actions.sample(algorithm.acting.act(context, params, Observation(obs, mask), hyper), uniform)

    def choose_arrays(obs: np.ndarray, mask: np.ndarray | None, uniform: np.ndarray) -> np.ndarray:
        # Copies: observations may be read-only arrays, which tensors cannot be.
        seen = torch.from_numpy(obs.copy()), None if mask is None else torch.from_numpy(mask.copy())
        return choose(*seen, torch.from_numpy(uniform)).numpy()

    return choose_arrays if in_numpy else choose


def _scores(algorithm: Algorithm, context: AlgorithmContext, params: Params) -> Callable[[np.ndarray], np.ndarray]:
    """Make the function obs [M, N, ...] → scores [M, N, A] (logits, action values or probabilities) in numpy."""
    if algorithm.acting.by_given:
        given = context.given_policy if context.given_behaviour is None else context.given_behaviour
        table = cast(Tensor, given).numpy()
        member = np.arange(len(table))[:, None]
        states_of = context.states_of
        return (lambda obs: table[member, obs]) if states_of is None else lambda obs: table[member, states_of(obs)]
    role = _acting_role(algorithm)
    prepare, own = context.networks[role].in_numpy, params[role]
    assert prepare is not None
    assert isinstance(own, ParameterView)
    return prepare(own.flat.detach().numpy())


def twin_of(algorithm: Algorithm, context: AlgorithmContext) -> NumpyBehaviour | None:
    """Look up the numpy equivalent of the behaviour policy; None where there is none."""
    if not isinstance(context.actions, Categorical):
        return None
    if algorithm.acting.by_given:
        return GIVEN
    role = _acting_role(algorithm)
    behaviour = softmax if algorithm.acting.by_policy else context.behaviour if algorithm.acting.explores else None
    networks = [name for name in context.networks if Role(name).kind == role]
    plain = not context.masked and context.quantiles == 1 and not context.dueling and networks == [role]
    there = plain and behaviour is not None and context.networks[role].in_numpy is not None
    return TWINS.get(cast(Behaviour, behaviour)) if there else None


def _acting_role(algorithm: Algorithm) -> Role:
    return PI if algorithm.acting.by_policy else Q


def _drawing(twin: NumpyBehaviour, forward: Callable[[np.ndarray], np.ndarray], explore: np.ndarray) -> Choose:
    """Make the numpy equivalent of `Categorical.sample` for scores `forward`: obs → [M, N, A]; `explore`: [M, 1]."""
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
    """The action of a single environment, [1, 1] int64, read-only."""
    array = np.full((1, 1), action)
    array.flags.writeable = False
    return array


def _one(weights: list[float], uniform: float) -> int:
    """Sample an action by inverting the cumulative weights; action 0 where they are NaN."""
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
