"""The learner: parameters, gradients and optimiser steps of all members at once."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos import Algorithm, AlgorithmContext
from rlnet.algos.algorithm import (
    LazyLoss,
    Loss,
    LossFunction,
    SemiGradient,
    TargetFunction,
    TraceFunction,
    TraceStep,
    TraceUpdate,
)
from rlnet.algos.context import PI, Hyper, Params
from rlnet.algos.eligibility_traces import Traces
from rlnet.algos.loss_terms import learned_rows, semi_gradient_loss
from rlnet.algos.returns import td_target
from rlnet.config import ConfigError, OptimizerConfig
from rlnet.data.rollout import Rollout, apart
from rlnet.learning.differentiation import Differentiated
from rlnet.learning.manual_gradients import ManualGradients, possible
from rlnet.learning.optimizers import OPTIMIZERS, gradient_norms, roomy
from rlnet.learning.trust_region import short_steps
from rlnet.nets import ParameterLayout, ParameterView
from rlnet.numerics.floating_point import QUIET
from rlnet.numerics.random_streams import Streams
from rlnet.policies.distributions import Gaussian

Result = TypeVar("Result")
KEEPING = 8  # steps between two backups of the parameters, to which a diverging member is reset


def _semi_gradient(target: TargetFunction) -> LossFunction:
    """Make the loss function of a semi-gradient method, for autograd."""

    def loss(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Loss:
        with torch.no_grad():
            aim = target(context, params, target_params, batch, hyper)
        return semi_gradient_loss(aim, context, params, learned_rows(aim, batch), hyper)

    return loss


class Learner:
    """The parameters of a population and their updates.

    Args:
        algorithm: the algorithm.
        context: its networks and action distribution.
        config: of the optimiser.
        seeds: the M member seeds; each initialises its own parameters.
        device: of the parameters.
        envs: N, environments per member, each of which has an eligibility trace where the algorithm has them.
        compiled: whether to compile the loss by torch.compile; where it cannot be done a warning is logged.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        context: AlgorithmContext,
        config: OptimizerConfig,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        envs: int = 1,
        compiled: bool = False,
    ) -> None:
        if config.name not in OPTIMIZERS:
            raise ConfigError(f"optimizer={config.name}: allowed are {', '.join(OPTIMIZERS)}")
        self.algorithm, self.context = algorithm, context
        objective = algorithm.objective
        if isinstance(objective, SemiGradient):
            differentiated: Callable[..., Any] = _semi_gradient(objective.target)
        else:
            differentiated = objective.step if isinstance(objective, TraceUpdate) else objective.loss
        self._function = Differentiated(differentiated, compiled, torch.device(device))
        self._max_norm = config.max_grad_norm
        measured = algorithm.acting.by_policy and isinstance(context.actions, Gaussian)
        self._max_kl = config.max_kl if measured else None
        self.layout = ParameterLayout({role: context.networks[role] for role in algorithm.roles})
        self.theta = roomy(self.layout.init(Streams(seeds, "network", device)))  # [M, P]; its memory stays where it is
        self._grad = roomy(torch.zeros_like(self.theta))
        self._optimizer = OPTIMIZERS[config.name](self.theta, self._grad)
        follows = algorithm.data.replay and algorithm.data.target_network
        self.target = self.theta.clone() if follows else None  # [M, P]
        # The current parameters by role and name, without gradient: views that follow every step.
        self.params = self.layout.unpack(self.theta)
        by_hand = not self._function.compiled and not self.layout.noisy and self.theta.device.type == "cpu"
        self.manual: ManualGradients | None = None  # None: autograd differentiates
        if by_hand and possible(algorithm, context):
            self.manual = ManualGradients(algorithm, context, self.layout, self._grad)
        # Those that targets bootstrap from: the target network's, or the current ones.
        self.target_params = self.params if self.target is None else self.layout.unpack(self.target, resting=True)
        self._numbers = Streams(seeds, "update", device)  # what losses draw
        self._noise = Streams(seeds, "noise", device)  # of noisy networks
        # A member whose gradient is not finite once is reset to earlier parameters, and frozen.
        self.alive = torch.ones_like(self.theta[:, :1], dtype=torch.bool)  # [M, 1]
        self.all_alive = True  # certainly; unknown (False) on a GPU, where reading it would synchronise
        self._sound = self.theta.clone()  # [M, P], parameters whose gradient was finite, at most KEEPING steps old
        self._count = 0  # steps
        shape = (len(seeds), envs, self.layout.size)
        self.traces = None if algorithm.traces is None else Traces(algorithm.traces, shape, device)

    def acting_params(self) -> dict[str, ParameterView]:
        """The parameters to act by; noisy networks draw fresh noise."""
        return self.layout.draw(self.theta, self._noise)

    def follow(self, rate: Tensor | float) -> None:
        """Update the target network by Polyak averaging; a rate of 1 copies the parameters.

        Args:
            rate: broadcastable to [M, 1], in [0, 1].
        """
        if self.target is None:
            raise ValueError("this algorithm has no target network to update")
        self.target.lerp_(self.theta, rate)
        self.target_changed()

    def target_changed(self) -> None:
        """Drop cached outputs of the target network; call after changing `target` in place."""
        for own in self.target_params.values():
            own.changed()

    @np.errstate(**QUIET)
    def step(self, batch: Rollout, hyper: Hyper, learning_rate: Tensor) -> LazyLoss:
        """One gradient step of every member on its own loss.

        Args:
            batch: a rollout [T, M, N].
            hyper: [M, 1] each.
            learning_rate: [M, 1]; 0 leaves a member's parameters as they are.

        Returns:
            The loss before the step, without gradient; among its metrics the norm of the gradient before clipping.
        """
        if self.traces is None:
            grad, measure = self._gradient(batch, hyper)
        else:
            grad, measure = self._traced(self.traces, batch, hyper, learning_rate)
        norm = gradient_norms(grad)
        if self._max_norm is not None:
            grad = torch.mul(grad, (self._max_norm / norm).clamp(max=1.0), out=self._grad)
        # NaN is not below infinity.
        self.all_alive = self.all_alive and not grad.is_cuda and norm.numpy().max() < torch.inf
        if not self.all_alive:
            self.alive &= norm < torch.inf
            grad, learning_rate = torch.where(self.alive, grad, 0.0), learning_rate * self.alive
            for theta in (self.theta, self.target):
                if theta is not None:
                    theta.copy_(torch.where(self.alive, theta, self._sound))
            self.target_changed()
        if self._count % KEEPING == 0:
            self._sound.copy_(self.theta)
        self._count += 1
        if self._max_kl is None:
            self._optimizer.step(grad, learning_rate)
        else:
            with self._short_steps(batch, grad, self._max_kl):
                self._optimizer.step(grad, learning_rate)

        def measured() -> Loss:
            with np.errstate(**QUIET):
                loss = measure()
            norms = {"loss/total": loss.total, "loss/grad_norm": norm.squeeze(1)}
            return loss._replace(metrics={**loss.metrics, **norms})

        return LazyLoss(measured)

    def _short_steps(self, batch: Rollout, grad: Tensor, most: Tensor | float) -> AbstractContextManager[None]:
        """`short_steps` of the policy, averaged over the batch."""
        policy = partial(self.context.policy, self.params, batch.state)
        own, actions = grad[:, self.layout.columns(PI)], cast(Gaussian, self.context.actions)
        return short_steps(policy, actions, self.params[PI].flat, own, batch.weight, most)

    def _gradient(self, batch: Rollout, hyper: Hyper) -> tuple[Tensor, Callable[[], Loss]]:
        """The gradient [M, P] of every member's own loss, and a function that computes the loss on demand."""
        batch, context = self._with_draws(batch), self.context
        if self.manual is not None:
            target = None
            if isinstance(self.algorithm.objective, SemiGradient):
                with torch.no_grad():
                    target = self.algorithm.objective.target(context, self.params, self.target_params, batch, hyper)
                batch = learned_rows(target, batch)
            return self.manual.of(self.params, batch, hyper, target)
        if self.layout.noisy:
            leaves = [self.theta.detach().requires_grad_()]
            params = self.layout.draw(leaves[0], self._noise)
            target_params = self.layout.draw(self.theta if self.target is None else self.target, self._noise)
        else:  # a leaf for each network
            params = {role: own.leaf() for role, own in self.params.items()}
            leaves, target_params = [own.flat for own in params.values()], self.target_params
        given: tuple[Params, Params] = params, target_params
        if self._function.compiled:  # by name: the compiler fuses what stands there, and does not see into numpy
            given = {r: dict(own) for r, own in params.items()}, {r: dict(own) for r, own in target_params.items()}

        def differentiate(function: LossFunction) -> tuple[Loss, tuple[Tensor, ...]]:
            result = Loss(*function(context, *given, batch, hyper))
            loss, members = result.total, len(self.theta)
            if loss.shape != (members,):
                raise ValueError(f"an algorithm's loss must be one number per member [{members}], not {loss.shape}")
            grads = torch.autograd.grad(loss, leaves, torch.ones_like(loss), materialize_grads=True)
            return result._replace(total=loss.detach()), grads

        result, grads = self._differentiated(differentiate)
        return torch.cat(grads, dim=1, out=self._grad), lambda: result

    def _traced(
        self, traces: Traces, batch: Rollout, hyper: Hyper, learning_rate: Tensor
    ) -> tuple[Tensor, Callable[[], Loss]]:
        """Minus the mean over environments of δ·z for the first row [M, P], and ½·δ² as the loss."""
        weight, envs = batch.weight[0], batch.weight.shape[2]
        # With every environment as a member, one backward pass gives each its own gradient.
        theta = self.theta.repeat_interleave(envs, dim=0).requires_grad_()
        wide = {name: number.repeat_interleave(envs, dim=0) for name, number in hyper.items()}

        def differentiate(function: TraceFunction) -> tuple[TraceStep, Tensor]:
            trace = function(self.context, self.layout.unpack(theta), apart(batch), wide)
            return trace, torch.autograd.grad(trace.value[0].sum(), theta)[0]

        trace, grad = self._differentiated(differentiate)
        value, next_value, discount, decay = (x[0].detach().view_as(weight) for x in trace)
        error = torch.where(weight > 0, td_target(batch.reward[0], discount, next_value) - value, 0.0)
        grad = grad.view(*weight.shape, -1)
        directions = traces.directions(value, next_value, error, grad, decay, learning_rate, weight > 0)
        if batch.sign is not None:
            traces.turn(torch.where(weight > 0, batch.sign[0], 1.0))
        traces.forget((batch.terminated | batch.truncated)[0] & (weight > 0))
        squares = (weight * error.square()).sum(1)
        metrics = {"loss/td_error": (squares / weight.sum(1)).sqrt()}
        return directions.mul_(weight.unsqueeze(-1)).sum(1).neg_(), lambda: Loss(0.5 * squares, metrics)

    def _differentiated(self, compute: Callable[[Callable[..., Any]], Result]) -> Result:
        """The result of a computation that calls the objective's function and differentiates what that returns."""
        try:
            return compute(self._function.current)
        except self._function.failures as error:
            return compute(self._function.uncompiled(error))

    def _with_draws(self, batch: Rollout) -> Rollout:
        """The batch with the random numbers that the loss asks for, each member's from its own stream."""
        if self.algorithm.update.draws is None:
            return batch
        steps, _, envs = batch.reward.shape
        uniform = self._numbers.uniform(steps, envs, self.algorithm.update.draws(self.context)).movedim(0, 1)
        return batch.replace(extra={**batch.extra, "uniform": uniform})

    def state_dict(self) -> dict[str, Any]:
        """Parameters and optimiser state."""
        return {
            "theta": self.theta,
            "optimizer": self._optimizer.state,
            "target": self.target,
            "numbers": self._numbers.state_dict(),
            "noise": self._noise.state_dict(),
            "alive": self.alive,
            "sound": self._sound,
            "count": self._count,
            "traces": None if self.traces is None else self.traces.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self.theta.copy_(state["theta"])
        self.alive.copy_(state["alive"])
        self.all_alive, self._count = bool(self.alive.all()), state["count"]
        self._sound.copy_(state["sound"])
        if self.target is not None:
            self.target.copy_(state["target"])
            self.target_changed()
        self._numbers.load_state_dict(state["numbers"])
        self._noise.load_state_dict(state["noise"])
        if self.traces is not None:
            self.traces.load_state_dict(state["traces"])
        for name, tensor in self._optimizer.state.items():
            tensor.copy_(state["optimizer"][name])
