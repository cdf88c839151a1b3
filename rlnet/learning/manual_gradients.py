"""Hand-written gradients in numpy for small networks and losses, in place of autograd.

For one small network autograd takes several times as long as the arithmetic. A test compares these gradients with those
of autograd for every algorithm. It works on the CPU, for networks that have a numpy
twin and objectives whose derivative is known: all semi-gradient methods, and losses with a `manual_gradient`.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos import Algorithm, AlgorithmContext
from rlnet.algos.algorithm import Loss, LossGradient, ManualGradient, Target, TraceUpdate
from rlnet.algos.context import Hyper, Q, Role
from rlnet.data.rollout import Rollout
from rlnet.nets import ParameterLayout, ParameterView
from rlnet.nets.numpy.member_rows import as_steps, rows_of
from rlnet.numerics.loss_derivatives import error_by_hand, pull_by_hand
from rlnet.policies.distributions import Categorical

Array = np.ndarray


def possible(algorithm: Algorithm, context: AlgorithmContext) -> bool:
    """Whether hand-written gradients exist for this algorithm and these networks."""
    plain = context.quantiles == 1 and not context.dueling
    if isinstance(algorithm.objective, LossGradient):
        given = algorithm.objective.manual_gradient is not None
        plain = plain and given and not context.masked and isinstance(context.actions, Categorical)
    elif isinstance(algorithm.objective, TraceUpdate):
        return False
    return plain and all(context.networks[role].by_hand is not None for role in algorithm.roles)


class ManualGradients:
    """Gradients of an algorithm's loss, computed by hand.

    Args:
        algorithm, context: as in `possible`, which must hold.
        layout: of the parameters of all roles.
        buffer: [M, P], the memory that gradients are returned in.
    """

    def __init__(
        self, algorithm: Algorithm, context: AlgorithmContext, layout: ParameterLayout, buffer: Tensor
    ) -> None:
        self._algorithm, self._buffer = algorithm, buffer
        views = layout.unpack(buffer)
        self._nets: dict[str, Any] = {role: context.networks[role].by_hand for role in algorithm.roles}
        self._layers = {role: own.layers(self._nets[role]) for role, own in views.items()}

    def of(
        self,
        params: Mapping[str, ParameterView],
        batch: Rollout,
        hyper: Hyper,
        target: Target | None = None,
    ) -> tuple[Tensor, Callable[[], Loss]]:
        """The gradient of every member's own loss, and a function that computes the loss on demand.

        Args:
            params: of the networks.
            batch: [T, M, N].
            target: of a semi-gradient method.

        Returns:
            [M, P], the buffer: the next call overwrites it.
        """
        algorithm, objective = self._algorithm, self._algorithm.objective
        obs = batch.array("obs")
        outputs: dict[Role, Array] = {}
        kept: dict[Role, Any] = {}
        for role in algorithm.roles:
            net = self._nets[role]
            outputs[role], kept[role] = net.forward(params[role].layers(net), rows_of(obs, not net.of_indices))
        if isinstance(objective, LossGradient):
            by_hand = cast(ManualGradient, objective.manual_gradient)
            slopes, measure = by_hand({role: x[None] for role, x in outputs.items()}, batch, hyper)
        else:
            ((role, values),) = outputs.items()
            slope, measure = _semi_gradient(values, batch, hyper, cast(Target, target), by_action=role == Q)
            slopes = {role: slope}
        for role, values in reversed(outputs.items()):  # what is read again was written last
            net = self._nets[role]
            slope = slopes[role].reshape(values.shape)
            net.backward(params[role].layers(net), kept[role], slope, self._layers[role])
        return self._buffer, measure


def _semi_gradient(
    values: Array, batch: Rollout, hyper: Hyper, target: Target, by_action: bool
) -> tuple[Array, Callable[[], Loss]]:
    """Derivative of `semi_gradient_loss` with respect to values [M, R, O], and a function that computes that loss."""
    weights = batch.array("weight") if target.weight is None else target.weight.numpy()
    shape = weights.shape
    aims, weights = (rows_of(x, False)[None] for x in (target.value.numpy(), weights))
    huber = hyper["huber"].numpy() if "huber" in hyper else None
    if huber is not None and min(huber.ravel().tolist()) == np.inf:
        huber = None  # what follows is shorter then
    if by_action:
        flat = values.reshape(-1)
        place = np.arange(0, len(flat), values.shape[-1]) + rows_of(batch.array("action"), False).ravel()
        estimate = flat.take(place).reshape(aims.shape)
    else:
        estimate = values[None, ..., 0]
    missed = pull_by_hand(np, estimate, aims, weights, huber)
    if by_action:
        slope = np.zeros_like(flat)
        slope[place] = -missed[-1].ravel()
    else:
        slope = -missed[-1]

    def measure() -> Loss:
        total, rms = error_by_hand(*missed, weights)
        error = torch.from_numpy(as_steps(missed[0][0, ..., None], shape)[..., 0])
        return Loss(torch.from_numpy(total), {target.error: torch.from_numpy(rms), **target.metrics}, error)

    return slope, measure
