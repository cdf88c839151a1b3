"""dpo and best_of_n: their expected updates over all groups of completions, against what they are meant to reach."""

import numpy as np
import pytest
import torch
from support import composed

from rlnet.diagnosis.enumeration import Texts, multisets, probability_of
from rlnet.diagnosis.estimator import Estimator
from rlnet.experiment.problem import build

TINY = ("env=tokens_nano", "network=tabular", "env.length=2", "env.prompts=['1']")


def estimator_at(log_policy: torch.Tensor, config, problem) -> Estimator:
    reference = torch.from_numpy(problem.log_reference)
    facts = problem.algorithm, config.algo.options, config.algo.hyper
    return Estimator(problem.completions, log_policy, reference, *facts)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_the_loss_of_dpo_is_least_at_the_optimum_of_the_regularised_reward(beta):
    """Over all pairs of the reference and both outcomes of the preference the gradient is 0 at π*, not elsewhere."""
    config = composed("algo=dpo", *TINY, f"algo.hyper.beta={beta}", "algo.envs=2")
    problem = build(config)
    optimum = torch.from_numpy(np.log(np.maximum(problem.solutions[0].policy, 1e-300)))
    texts = Texts.of(problem.completions, 0)
    probability = texts.probability(np.exp(problem.log_reference))
    sizes = []
    for policy in (optimum, torch.from_numpy(problem.log_reference)):
        estimator = estimator_at(policy, config, problem)
        total = torch.zeros_like(policy)
        for which in multisets(len(probability), 2, 1000):
            batch = texts.rollout(which)
            weight = torch.from_numpy(probability_of(which, probability))
            found = estimator.gradients(batch, estimator.hyper(None)) * weight.view(1, -1, 1, 1)
            total.view(-1, total.shape[-1]).index_add_(0, batch.obs.flatten(), found.flatten(0, 2))
        sizes.append(float(total.norm()))
    assert sizes[0] < 1e-12
    assert sizes[1] > 1e-3


def test_best_of_n_imitates_the_distribution_of_the_best():
    """Its expected update is Σ_y q(y)·∇log π(y), q the best of 3 of the reference, ties alike, by order statistics."""
    config = composed(
        "algo=best_of_n", *TINY, "algo.options.group=3", "algo.envs=3", "algo.options.sampler=reference",
        "algo.options.positive=false",
    )  # fmt: skip
    problem = build(config)
    log_policy = torch.from_numpy(np.random.default_rng(0).normal(size=problem.log_reference.shape)).log_softmax(-1)
    texts, estimator = Texts.of(problem.completions, 0), estimator_at(log_policy, config, problem)
    p = texts.probability(np.exp(problem.log_reference))
    total = torch.zeros_like(log_policy)
    for which in multisets(len(p), 3, 1000):
        batch = texts.rollout(which)
        found = estimator.gradients(batch, {}) * torch.from_numpy(probability_of(which, p)).view(1, -1, 1, 1)
        total.view(-1, total.shape[-1]).index_add_(0, batch.obs.flatten(), found.flatten(0, 2))
    above = np.array([p[texts.reward <= r].sum() ** 3 - p[texts.reward < r].sum() ** 3 for r in texts.reward])
    same = np.array([p[texts.reward == r].sum() for r in texts.reward])
    q = torch.from_numpy(above * p / same)
    assert float(q.sum()) == pytest.approx(1.0)
    leaf = log_policy.clone().requires_grad_()
    log_prob = (leaf.log_softmax(-1)[texts.state, texts.action] * torch.from_numpy(texts.valid)).sum(1)
    (expected,) = torch.autograd.grad((q * log_prob).sum(), leaf)
    torch.testing.assert_close(total, expected, atol=1e-12, rtol=1e-9)
