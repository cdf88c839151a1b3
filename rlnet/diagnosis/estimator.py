"""Audit of gradient estimators: the exact expectation of an update over all groups of completions.

The loss is the algorithm's own code, called on batches that are enumerated: every multiset of G completions of one
prompt, weighted by its probability under the policy that acts. Its derivative by the policy's logits [S, A] is carried
on to the parameters of the network, and set beside the exact gradients of what it may be meant to climb. Where there
are too many groups, each completion meets partners that are sampled, and a standard error says what that leaves open.

Audited is the first step on what was gathered, where π is still the policy that gathered it. A method without groups
(`reinforce`, `ppo`) gets batches of whole completions of all prompts, and exact values V^π for its critic; one that
draws preferences (`dpo`) both outcomes of each, weighted by their probabilities.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.algorithm import Algorithm, LossGradient
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Role
from rlnet.algos.dpo import preference
from rlnet.compare.completions import Completions
from rlnet.config import Config, ConfigError, require
from rlnet.data.rollout import Observation, Rollout
from rlnet.diagnosis.enumeration import Texts, multisets, probability_of
from rlnet.diagnosis.objectives import At, Match, Objectives, match
from rlnet.experiment.problem import Problem, build
from rlnet.mdp import evaluate
from rlnet.nets import Network
from rlnet.policies.distributions import Categorical

MOST_GROUPS = 400_000  # of a prompt, that are enumerated
PARTNERS = 24  # sets of partners that are sampled otherwise
GROUPS = 4000  # groups that are sampled for the variance
ROWS = 2_000_000  # steps of all groups that are looked at together
AWAY = 0.5  # how far from the reference the policy is moved, in deviations of its parameters, or in logits of a table

REWARD = "E[R]"
REGULARISED = "E[R] − β·KL(π‖π_ref)"
FORWARD = "E[R] − β·KL(π_ref‖π)"
ARCSINE = "mean of 2·arcsin √p"
PREFERENCES = "−KL(preferences of R‖those of π)"  # what dpo minimises, over pairs of the reference
IMITATION = "−KL(best of G‖π)"  # what the imitation of the best of a group minimises
AUDITED = ("reinforce", "actor_critic", "a2c", "ppo", "rloo", "grpo", "dpo", "best_of_n")
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


class Estimator:
    """An algorithm's loss at one policy.

    Args:
        known: the task.
        policy: log π [S, A], float64.
        reference: log π_ref [S, A], float64.
        algorithm: whose loss it is.
        options: its choices.
        numbers: its own numbers and γ, by name.
        value: V [S] of its critic, float64; None: 0.
        group: completions in a batch, where the options do not say it.
    """

    def __init__(
        self,
        known: Completions,
        policy: Tensor,
        reference: Tensor,
        algorithm: Algorithm,
        options: Mapping[str, Any],
        numbers: Mapping[str, float],
        value: Tensor | None = None,
        group: int = 1,
    ) -> None:
        self.known, self.policy, self.reference, self.algorithm = known, policy, reference, algorithm
        self.loss, self.group = cast(LossGradient, algorithm.objective).loss, int(options.get("group", group))
        self._value = torch.zeros(len(policy), dtype=torch.float64) if value is None else value
        self.context = AlgorithmContext(
            networks={role: self._network(role) for role in algorithm.roles},
            actions=Categorical(policy.shape[1]),
            reference={"table": reference},
            longest=known.length,
            options=options,
        )
        self.numbers = {"gamma": 1.0, "explore": 0.0, **numbers}
        every = Observation(torch.arange(len(policy)).unsqueeze(0))
        acting = algorithm.acting.act(self.context, {PI: {"table": policy}}, every, self.hyper(None))
        self.acting = acting[0].numpy()  # [S, A], the policy that gathers
        self.informative, self.uninformative = 1.0, 1.0  # so often each kind of group counts: see `resampled`
        # A loss over a window of steps is a mean over its rows, of which a completion has so many.
        self.rows = 1.0 if algorithm.data.whole_episodes else float(known.reached(self.acting).sum() / known.prompts)

    def _network(self, role: Role) -> Network:
        """A network whose outputs are given as its parameters; that of the reference policy looks them up."""

        def apply(params: Mapping[str, Tensor], obs: Tensor) -> Tensor:
            if role != PI:
                return self._value[obs].unsqueeze(-1)
            return params["table"][obs] if "table" in params else params["scores"]

        return Network({}, lambda streams: {}, apply)

    def resampled(self, texts: list[Texts]) -> list[float]:
        """Have groups in which all earn the same drawn again, as the option `resample` says.

        With q their probability, mean over prompts, and n the option, a group of different rewards is learned from
        1 + q + … + qⁿ times as often as without, and one of equal rewards qⁿ times.

        Returns:
            the probability of a group of equal rewards, of each prompt.
        """
        equal = []
        for own in texts:
            _, index = np.unique(own.reward, return_inverse=True)
            equal.append(float((np.bincount(index, own.probability(self.acting)) ** self.group).sum()))
        q, n = sum(equal) / len(equal), int(self.context.options.get("resample", 0))
        self.informative, self.uninformative = sum(q**k for k in range(n + 1)), q**n
        return equal

    def _counts(self, reward: np.ndarray) -> np.ndarray:
        """So often groups of rewards [M, G] are learned from: [M]."""
        return np.where((reward == reward[:, :1]).all(1), self.uninformative, self.informative)

    def hyper(self, beta: float | None) -> Hyper:
        """The numbers of the config, [1, 1] each, perhaps with another β."""
        changed = {} if beta is None else {"beta": beta}
        return {
            name: torch.full((1, 1), float(x), dtype=torch.float64) for name, x in {**self.numbers, **changed}.items()
        }

    def gradients(self, batch: Rollout, hyper: Hyper, generator: np.random.Generator | None = None) -> Tensor:
        """Update directions: minus the derivative of each member's loss by the scores of its rows, [T, M, N, A].

        Of preferences it is the mean over both outcomes, or with a generator that of one draw.
        """
        context, scores = self.context, self.policy[batch.obs].requires_grad_()
        params: dict[str, dict[str, Tensor]] = {role: {"scores": scores} for role in self.algorithm.roles}
        extra: dict[str, Tensor] = {}
        if self.algorithm.update.prepare is not None:
            with torch.no_grad():
                extra = self.algorithm.update.prepare(context, params, batch, hyper)
        drawn: list[tuple[Tensor, Tensor]] = [(torch.zeros(()), torch.ones(()))]  # uniform numbers, and their weight
        if self.algorithm.update.draws is not None:
            first, shape = preference(batch).squeeze(-1), (*batch.reward.shape, 1)
            ends = ((torch.zeros(shape).double(), first), (torch.ones(shape).double(), 1 - first))
            one = None if generator is None else torch.from_numpy(generator.random(shape))
            drawn = list(ends) if one is None else [(one, torch.ones(()))]
        total = torch.zeros((), dtype=torch.float64)
        for uniform, weight in drawn:
            seen = batch.replace(extra={**extra, "uniform": uniform} if uniform.dim() else extra)
            total = total + (weight * self.loss(context, params, params, seen, hyper)[0]).sum()
        return -torch.autograd.grad(total, scores)[0]

    def expected(self, texts: Texts, beta: float | None, seed: int) -> tuple[Tensor, int]:
        """The expected update by the logits: [K, S, A], K = 1 by enumeration, or K sets of sampled partners.

        Returns:
            it, and how many groups were looked at.
        """
        probability = texts.probability(self.acting)
        hyper, each = self.hyper(beta), math.comb(len(probability) + self.group - 1, self.group)
        if each <= MOST_GROUPS:
            out = torch.zeros(1, *self.policy.shape, dtype=torch.float64)
            for which in multisets(len(probability), self.group, ROWS // (self.group * texts.state.shape[1])):
                batch, weight = texts.rollout(which, self.rows), probability_of(which, probability)
                weight = weight * self._counts(texts.reward[which])
                found = self.gradients(batch, hyper) * torch.from_numpy(weight).view(1, -1, 1, 1)
                out[0].view(-1, out.shape[-1]).index_add_(0, batch.obs.flatten(), found.flatten(0, 2))
            return out, each
        generator, out = np.random.default_rng(seed), torch.zeros(PARTNERS, *self.policy.shape, dtype=torch.float64)
        every = np.arange(len(probability))
        for k in range(PARTNERS):
            partners = generator.choice(len(probability), self.group - 1, p=probability / probability.sum())
            for part in np.array_split(every, max(1, len(every) * self.group * texts.state.shape[1] // ROWS)):
                which = np.concatenate([part[:, None], np.tile(partners, (len(part), 1))], 1)
                batch = texts.rollout(which, self.rows)
                # All rows are alike: the expected update is N times that of the first.
                found = self.group * self.gradients(batch, hyper)[:, :, 0]
                weight = probability[part] * self._counts(texts.reward[which])
                found = found * torch.from_numpy(weight).view(1, -1, 1)
                out[k].index_add_(0, batch.obs[:, :, 0].flatten(), found.flatten(0, 1))
        return out, PARTNERS * len(every)

    def deviation(self, texts: list[Texts], direction: Tensor, seed: int) -> float:
        """Standard deviation, in units of its mean, of a group's update along a direction in logits [S, A]."""
        generator, found = np.random.default_rng(seed), []
        for own in texts:
            probability = own.probability(self.acting)
            size = (GROUPS // len(texts), self.group)
            drawn = generator.choice(len(probability), size, p=probability / probability.sum())
            batch = own.rollout(drawn, self.rows)
            found.append((self.gradients(batch, self.hyper(None), generator) * direction[batch.obs]).sum((0, 2, 3)))
        along = torch.cat(found)
        return float(along.std() / along.mean().abs())


def audit_estimator(config: Config) -> EstimatorAudit:
    """The expected update of the algorithm of a config, beside exact gradients.

    The policy is the reference, moved at random by `seed`: at the reference itself the divergence has no gradient.

    Raises:
        ConfigError: the algorithm learns no policy by the gradient of a loss, or the task has no model.
    """
    problem = build(config)
    algorithm, known = problem.algorithm, problem.completions
    policy_gradient = isinstance(algorithm.objective, LossGradient) and PI in algorithm.roles
    allowed = f"has no expected update over completions; use one of {', '.join(AUDITED)}"
    require(policy_gradient and not algorithm.data.replay, "algo", config.algo.name, allowed)
    if known is None or problem.context.reference is None or problem.log_reference is None:
        raise ConfigError(f"{config.env.title()}: is no task of tokens with a finite model; use env=tokens_nano")
    at = At(problem.context, _moved(problem.context.reference, config), problem.mdp.n_states)
    policy, reference = at.scores.detach().double().log_softmax(-1), torch.from_numpy(problem.log_reference)
    estimator = _estimator(config, problem, policy, reference)
    texts = [Texts.of(known, p) for p in range(known.prompts)]
    beta, groups = float(config.algo.hyper.get("beta", 0.0)), 0
    equal = estimator.resampled(texts) if "resample" in config.algo.options else []
    batches = texts if "group" in config.algo.options else [Texts.joined(texts)]
    weighs = "kl" in config.algo.options  # whether β weighs a term of the update
    found: dict[float, Tensor] = {}
    for value in {beta, 0.0} if weighs else {beta}:
        total: Tensor | None = None
        for p, own in enumerate(batches):
            part, count = estimator.expected(own, value if "beta" in config.algo.hyper else None, config.seed + p)
            total, groups = part if total is None else total + part, groups + count
        found[value] = cast(Tensor, total) / len(batches)
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
