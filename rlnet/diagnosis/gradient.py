"""Comparison of sampled policy gradients with the exact one.

By the policy gradient theorem ∇J = Σ_s η(s)·Σ_a ∇π(a|s)·Q^π(s, a), η(s) = Σ_t γ^t·Pr(S_t = s), both from the model.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.algorithm import LossGradient, by_policy
from rlnet.algos.context import PI
from rlnet.compare.judge import evaluate_quietly
from rlnet.data.rollout import Observation
from rlnet.diagnosis.blame import discounted_visits
from rlnet.diagnosis.targets import NotDefined
from rlnet.learning.training_state import TrainingState


def exact_gradient(run: TrainingState, policies: np.ndarray, members: Sequence[int]) -> Tensor:
    """Exact policy gradient ∇J of some members, whose policies are [K, S, A]: [K, P]."""
    problem, learner = run.problem, run.learner
    mdp, chosen = problem.mdp, list(members)
    gains = np.zeros_like(policies)
    for row, (policy, m) in enumerate(zip(policies, chosen, strict=True)):
        gamma = problem.exact[m].gamma
        q = evaluate_quietly(mdp, policy, gamma).q
        gains[row] = discounted_visits(mdp, policy, gamma)[:, None] * np.where(mdp.available, q, 0.0)
    theta = learner.theta.detach().requires_grad_()
    shown, rows = problem.shown("cpu"), problem.environment.states
    mask = None if problem.available is None else problem.available.expand(len(theta), -1, -1)
    seen = Observation(shown.expand(len(theta), *shown.shape), mask)
    pi = by_policy(problem.context, learner.layout.unpack(theta), seen, run.hyper())
    pi = pi if rows is None else pi[:, rows.of_state]
    (grad,) = torch.autograd.grad((pi[chosen].double() * torch.as_tensor(gains)).sum(), theta)
    return _of_policy(run, grad)[chosen].double()


def _of_policy(run: TrainingState, grad: Tensor) -> Tensor:
    """The part of a gradient [M, P] that belongs to the policy network."""
    return torch.cat([x.flatten(1) for x in run.learner.layout.unpack(grad)[PI].values()], dim=1)


def sampled_gradients(run: TrainingState, batches: int) -> Tensor:
    """Sampled policy gradients, without entropy bonus, from so many rollouts of the same policy: [B, M, P].

    The networks stay as they are. The gradient is that of −loss, before any clipping or optimiser.
    """
    algorithm, learner, context = run.problem.algorithm, run.learner, run.problem.context
    hyper, gradients, objective = run.hyper(), [], cast(LossGradient, algorithm.objective)
    if "entropy_coefficient" in hyper:
        hyper["entropy_coefficient"] = torch.zeros_like(hyper["entropy_coefficient"])
    for _ in range(batches):
        rollout = run.collect()
        if algorithm.update.prepare is not None:
            with torch.no_grad():
                rollout = rollout.replace(extra=algorithm.update.prepare(context, learner.params, rollout, hyper))
        theta = learner.theta.detach().requires_grad_()
        params = learner.layout.unpack(theta)
        loss = objective.loss(context, params, learner.target_params, rollout, hyper)[0]
        gradients.append(_of_policy(run, -torch.autograd.grad(loss.sum(), theta)[0]).double())
    return torch.stack(gradients)


def compare_gradients(
    run: TrainingState, policies: np.ndarray, members: Sequence[int], batches: int = 50
) -> dict[str, np.ndarray]:
    """Compare sampled gradients with ∇J (cosine, noise), for K members with the policies [K, S, A]: [K] each.

    A sample g may have a scale of its own (a mean over steps, normalised advantages), which an optimiser undoes; c is
    the scale that fits best, c = ⟨ḡ, ∇J⟩/‖∇J‖² with ḡ the mean over batches.

    - `cosine`: of one batch's gradient with ∇J, the mean over batches.
    - `cosine_of_mean`: of ḡ with ∇J.
    - `bias`: ‖ḡ − c·∇J‖/‖c·∇J‖, and `bias_noise`: what sampling alone lets one expect of it with so many batches.
    - `variance`: E‖g − ḡ‖²/‖ḡ‖², the noise of one batch relative to the signal.
    - `scale`: c.

    Raises:
        NotDefined: the run has no policy network, or does not learn by the gradient of sampled rollouts.
    """
    algorithm = run.problem.algorithm
    if PI not in algorithm.roles:
        raise NotDefined(f"algo={run.config.algo.name} has no policy network")
    if algorithm.data.replay or algorithm.temperature is not None:
        raise NotDefined(f"algo={run.config.algo.name} does not follow the gradient of J from its own rollouts")
    exact = exact_gradient(run, policies, members)
    if not (exact.norm(dim=1) > 0).all():
        raise NotDefined("the exact gradient is zero")
    return gradient_scores(sampled_gradients(run, batches)[:, list(members)], exact)


def gradient_scores(samples: Tensor, exact: Tensor) -> dict[str, np.ndarray]:
    """The numbers of `compare_gradients` from samples [B, M, P] and ∇J [M, P]."""
    mean, batches = samples.mean(0), len(samples)
    spread = (samples - mean).square().sum(-1).sum(0) / (batches - 1)  # E‖g − ḡ‖² [M]
    scale = (mean * exact).sum(-1) / exact.square().sum(-1)
    signal = (scale.abs() * exact.norm(dim=-1)).clamp(min=1e-300)
    scores = {
        "cosine": torch.cosine_similarity(samples, exact.expand_as(samples), dim=-1, eps=1e-300).mean(0),
        "cosine_of_mean": torch.cosine_similarity(mean, exact, dim=-1, eps=1e-300),
        "bias": (mean - scale.unsqueeze(-1) * exact).norm(dim=-1) / signal,
        "bias_noise": (spread / batches).sqrt() / signal,
        "variance": spread / mean.square().sum(-1).clamp(min=1e-300),
        "scale": scale,
    }
    return {name: values.numpy() for name, values in scores.items()}
