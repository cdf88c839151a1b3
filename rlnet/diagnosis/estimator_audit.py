"""The expected update of an algorithm over completions beside the exact gradients that it may be meant to follow.

Both are gradients by the parameters of the network. Of a sampled expectation a standard error is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from rlnet.algos.algorithm import LossGradient
from rlnet.algos.context import PI
from rlnet.compare.completions import Completions
from rlnet.config import Config, ConfigError, RunFailed, require
from rlnet.diagnosis.enumeration import Texts
from rlnet.diagnosis.estimator import Estimator
from rlnet.diagnosis.objectives import At, Match, Objectives, match
from rlnet.envs.tokens.environment import TokensConfig
from rlnet.experiment.problem import Problem, build
from rlnet.mdp import evaluate

AWAY = 0.5  # how far from the reference the policy is moved, in deviations of its parameters, or in logits of a table

REWARD = "E[R]"
REGULARISED = "E[R] − β·KL(π‖π_ref)"
FORWARD = "E[R] − β·KL(π_ref‖π)"
ARCSINE = "mean of 2·arcsin √p"
PREFERENCES = "−KL(preferences of R‖those of π)"  # minus the loss of dpo, up to a constant; pairs of π_ref
IMITATION = "−KL(best of G‖π)"  # what the imitation of the best of a group minimises
AUDITED = ("reinforce", "actor_critic", "a2c", "ppo", "rloo", "grpo", "dpo", "best_of_n", "completion_loss")
MOST_COMPLETIONS = 2000  # of a prompt, of which all pairs are looked at


@dataclass(frozen=True)
class EstimatorAudit:
    """Result of the audit of an update."""

    algo: str
    options: Mapping[str, Any]
    group: int
    beta: float
    exact: bool  # whether all groups were enumerated
    groups: int  # that were looked at
    matches: Mapping[str, Match]  # by the objective
    of_kl: Mapping[str, Match]  # what β adds to the update, beside −∇KL(π‖π_ref) and −∇KL(π_ref‖π)
    noise: float  # deviation of one group's update along its mean, in lengths of the mean
    batch: str  # what the loss was called on, as a sentence
    equal: Sequence[float]  # the probability that all of a group earn the same, of each prompt; empty where none asks


def audit_estimator(config: Config) -> EstimatorAudit:
    """The expected update of the algorithm of a config, beside exact gradients.

    The policy is the reference, moved at random by `seed`: at the reference itself the divergence has no gradient.

    Raises:
        ConfigError: the algorithm learns no policy by the gradient of a loss, or the task has no model.
        RunFailed: the update is not finite.
    """
    allowed = "is no task of tokens; an update is audited where all completions are known, as env=tokens_nano"
    require(isinstance(config.env, TokensConfig), "env", config.env.name, allowed)
    problem = build(config)
    algorithm, known = problem.algorithm, problem.completions
    policy_gradient = isinstance(algorithm.objective, LossGradient) and PI in algorithm.roles
    allowed = f"has no expected update over completions; use one of {', '.join(AUDITED)}"
    require(policy_gradient and not algorithm.data.replay, "algo", config.algo.name, allowed)
    if known is None or problem.context.reference is None or problem.log_reference is None:
        why = problem.environment.no_model
        raise ConfigError(f"{config.env.title()}: has no finite model of all completions ({why}); use env=tokens_nano")
    at = At(problem.context, _moved(problem.context.reference, config), problem.mdp.n_states)
    policy, reference = at.scores.detach().double().log_softmax(-1), torch.from_numpy(problem.log_reference)
    estimator = _estimator(config, problem, policy, reference)
    texts = [Texts.of(known, p) for p in range(known.prompts)]
    beta, groups = float(config.algo.hyper.get("beta", 0.0)), 0
    equal = estimator.resampled(texts) if "resample" in config.algo.options else []
    batches = texts if "group" in config.algo.options else [Texts.joined(texts)]
    weighs = bool({"kl", "loss"} & set(config.algo.options))  # whether β weighs a term of the update
    found: dict[float, Tensor] = {}
    for value in {beta, 0.0} if weighs else {beta}:
        total: Tensor | None = None
        for p, own in enumerate(batches):
            part, count = estimator.expected(own, value if "beta" in config.algo.hyper else None, config.seed + p)
            total, groups = part if total is None else total + part, groups + count
        found[value] = cast(Tensor, total) / len(batches)
        if not found[value].isfinite().all():
            loss = config.algo.options.get("loss")
            title = f"algo={config.algo.name}" if loss is None else f"algo.options.loss={loss}"
            raise RunFailed(f"{title}: has a gradient that is infinite or no number, for some completions at least")
    objectives = Objectives(known, estimator.reference, estimator.policy)
    by_logits = {
        name: objectives.gradient(value) for name, value in _candidates(config, estimator, objectives, texts).items()
    }
    updates = torch.stack([at.carried(own) for own in found[beta]])
    matches = {name: match(updates, at.carried(own)) for name, own in by_logits.items()}
    of_kl: dict[str, Match] = {}
    if beta > 0 and weighs:
        added = torch.stack([at.carried(own) for own in (found[beta] - found[0.0]) / beta])
        wanted = {"−KL(π‖π_ref)": -objectives.kl, "−KL(π_ref‖π)": -objectives.forward}
        of_kl = {name: match(added, at.carried(objectives.gradient(own))) for name, own in wanted.items()}
    noise = estimator.deviation(batches, found[beta].mean(0), config.seed)
    exact = len(updates) == 1
    name, options = config.algo.name, dict(config.algo.options)
    return EstimatorAudit(
        name, options, estimator.group, beta, exact, groups, matches, of_kl, noise, _batch(estimator), equal
    )


def _estimator(config: Config, problem: Problem, policy: Tensor, reference: Tensor) -> Estimator:
    """The loss of a config at a policy log π [S, A]; a critic knows V^π."""
    numbers, algo = {**config.algo.hyper, "gamma": config.gamma}, config.algo
    value = torch.from_numpy(evaluate(problem.mdp, policy.exp().numpy(), config.gamma).v)
    # What is normalised over a batch depends on its size; all else is the same for one completion at a time.
    group = algo.envs if algo.hyper.get("normalise") else 1
    known = cast(Completions, problem.completions)
    return Estimator(known, policy, reference, problem.algorithm, algo.options, numbers, value, group)


def _batch(estimator: Estimator) -> str:
    """What the loss is called on, as a sentence."""
    first = "the first step, where π is still the policy that gathered them"
    if estimator.algorithm.update.draws is not None:
        return f"Pairs of completions of π_ref, with both outcomes of each preference; {first}."
    if "group" in estimator.context.options:
        return f"Groups of {estimator.group} completions of one prompt; {first}."
    count, weighed = estimator.group, "" if estimator.rows == 1 else ", every row with the same weight"
    what = f"Batches of {count} whole completions" if count > 1 else "Whole completions"
    return f"{what} of all prompts{weighed}, and an exact critic V^π; {first}."


def _candidates(config: Config, estimator: Estimator, objectives: Objectives, texts: list[Texts]) -> dict[str, Tensor]:
    """The objectives whose gradients an update is set beside, by name."""
    beta, options = float(config.algo.hyper.get("beta", 0.0)), config.algo.options
    values = {REWARD: objectives.reward}
    if beta > 0:
        values[REGULARISED] = objectives.reward - beta * objectives.kl
        values[FORWARD] = objectives.reward - beta * objectives.forward
    if objectives.binary:
        values[ARCSINE] = objectives.arcsine
    if config.algo.name == "dpo" and max(len(own.reward) for own in texts) <= MOST_COMPLETIONS:
        values[PREFERENCES] = -objectives.preferences(texts, beta)
    if config.algo.name == "best_of_n":
        values[IMITATION] = objectives.imitation(texts, estimator.acting, options["group"], options["positive"])
    return values


def _moved(reference: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The parameters of the reference, moved at random."""
    generator, moved = torch.Generator().manual_seed(config.seed), {}
    for name, value in reference.items():
        size = 1.0 if config.network.name == "tabular" else float(value.std(correction=0))
        moved[name] = value + AWAY * size * torch.randn(value.shape, generator=generator)
    return moved
