"""Audit of gradient estimators: the exact expectation of an update over all groups of completions.

The loss is the algorithm's own code, called on batches that are enumerated: every multiset of G completions of one
prompt, weighted by its probability under the policy that acts. Its derivative by the policy's logits [S, A] is carried
on to the parameters of the network, and set beside the exact gradients of what it may be meant to climb. Where there
are too many groups, each completion meets partners that are sampled, and a standard error says what that leaves open.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.algorithm import Algorithm, LossGradient
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Role
from rlnet.compare.completions import Completions
from rlnet.config import Config, ConfigError, require
from rlnet.data.rollout import Rollout
from rlnet.diagnosis.objectives import At, Match, Objectives, match
from rlnet.experiment.problem import build
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


@dataclass(frozen=True)
class Texts:
    """All Y completions of a prompt, step by step."""

    state: np.ndarray  # int64 [Y, T]; behind the end the first one
    action: np.ndarray  # int64 [Y, T]
    valid: np.ndarray  # bool [Y, T]
    reward: np.ndarray  # [Y]

    @classmethod
    def of(cls, known: Completions, prompt: int) -> "Texts":
        """Those of a prompt, from the tree."""
        first, symbols = prompt * known.each, known.symbols
        place, action = np.nonzero(known.ends[prompt])
        state = np.full((len(place), known.length), first, np.int64)
        taken, valid = np.zeros_like(state), np.zeros(state.shape, bool)
        for y, (own, last) in enumerate(zip(place.tolist(), action.tolist(), strict=True)):
            steps = [(own, last)]
            while own > 0:
                own, symbol = divmod(own - 1, symbols)
                steps.append((own, symbol))
            for t, (at, chosen) in enumerate(reversed(steps)):
                state[y, t], taken[y, t], valid[y, t] = first + at, chosen, True
        return cls(state, taken, valid, known.reward[prompt][known.ends[prompt]])

    def probability(self, policy: np.ndarray) -> np.ndarray:
        """Of every completion under a policy [S, A]: [Y], sums to 1."""
        return np.where(self.valid, policy[self.state, self.action], 1.0).prod(1)

    def rollout(self, which: np.ndarray) -> Rollout:
        """The completions which [M, N] as a rollout [T, M, N] of M members, in double precision."""

        def rows(x: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x[which], -1, 0)))

        valid = rows(self.valid)
        last = self.valid & (np.cumsum(self.valid[:, ::-1], 1)[:, ::-1] == 1)
        zeros = torch.zeros_like(valid)
        return Rollout(
            obs=rows(self.state),
            action=rows(self.action),
            reward=rows(last * self.reward[:, None]),
            next_obs=rows(self.state),
            terminated=rows(last),
            truncated=zeros,
            valid=valid,
            weight=valid.double() / which.shape[1],
            start_discount=torch.ones(valid.shape, dtype=torch.float64),
        )


class Estimator:
    """An algorithm's loss at one policy.

    Args:
        known: the task.
        policy: log π [S, A], float64.
        reference: log π_ref [S, A], float64.
        algorithm: whose loss it is.
        options: its choices.
        numbers: its own numbers and γ, by name.
    """

    def __init__(
        self,
        known: Completions,
        policy: Tensor,
        reference: Tensor,
        algorithm: Algorithm,
        options: Mapping[str, Any],
        numbers: Mapping[str, float],
    ) -> None:
        self.known, self.policy, self.reference, self.algorithm = known, policy, reference, algorithm
        self.loss, self.group = cast(LossGradient, algorithm.objective).loss, int(options.get("group", 1))
        self.context = AlgorithmContext(
            networks={role: self._network(role) for role in algorithm.roles},
            actions=Categorical(policy.shape[1]),
            reference={"table": reference},
            options=options,
        )
        self.numbers = {"gamma": 1.0, "explore": 0.0, **numbers}

    def _network(self, role: Role) -> Network:
        """A network whose outputs are given as its parameters; that of the reference policy looks them up."""

        def apply(params: Mapping[str, Tensor], obs: Tensor) -> Tensor:
            if role != PI:
                return torch.zeros(*obs.shape, 1, dtype=torch.float64)
            return params["table"][obs] if "table" in params else params["scores"]

        return Network({}, lambda streams: {}, apply)

    def hyper(self, beta: float | None) -> Hyper:
        """The numbers of the config, [1, 1] each, perhaps with another β."""
        changed = {} if beta is None else {"beta": beta}
        return {
            name: torch.full((1, 1), float(x), dtype=torch.float64) for name, x in {**self.numbers, **changed}.items()
        }

    def gradients(self, batch: Rollout, hyper: Hyper) -> Tensor:
        """Update directions: minus the derivative of each member's loss by the scores of its rows, [T, M, N, A]."""
        context, scores = self.context, self.policy[batch.obs].requires_grad_()
        params: dict[str, dict[str, Tensor]] = {role: {"scores": scores} for role in self.algorithm.roles}
        if self.algorithm.update.prepare is not None:
            with torch.no_grad():
                batch = batch.replace(extra=self.algorithm.update.prepare(context, params, batch, hyper))
        total = self.loss(context, params, params, batch, hyper)[0]
        return -torch.autograd.grad(total.sum(), scores)[0]

    def expected(self, texts: Texts, beta: float | None, seed: int) -> tuple[Tensor, int]:
        """The expected update by the logits: [K, S, A], K = 1 by enumeration, or K sets of sampled partners.

        Returns:
            it, and how many groups were looked at.
        """
        probability = texts.probability(self.policy.exp().numpy())
        hyper, each = self.hyper(beta), math.comb(len(probability) + self.group - 1, self.group)
        if each <= MOST_GROUPS:
            out = torch.zeros(1, *self.policy.shape, dtype=torch.float64)
            for which in multisets(len(probability), self.group, ROWS // (self.group * texts.state.shape[1])):
                batch, weight = texts.rollout(which), probability_of(which, probability)
                found = self.gradients(batch, hyper) * torch.from_numpy(weight).view(1, -1, 1, 1)
                out[0].view(-1, out.shape[-1]).index_add_(0, batch.obs.flatten(), found.flatten(0, 2))
            return out, each
        generator, out = np.random.default_rng(seed), torch.zeros(PARTNERS, *self.policy.shape, dtype=torch.float64)
        every = np.arange(len(probability))
        for k in range(PARTNERS):
            partners = generator.choice(len(probability), self.group - 1, p=probability / probability.sum())
            for part in np.array_split(every, max(1, len(every) * self.group * texts.state.shape[1] // ROWS)):
                which = np.concatenate([part[:, None], np.tile(partners, (len(part), 1))], 1)
                batch = texts.rollout(which)
                # All rows are alike: the expected update is N times that of the first.
                found = self.group * self.gradients(batch, hyper)[:, :, 0]
                found = found * torch.from_numpy(probability[part]).view(1, -1, 1)
                out[k].index_add_(0, batch.obs[:, :, 0].flatten(), found.flatten(0, 1))
        return out, PARTNERS * len(every)

    def deviation(self, texts: list[Texts], direction: Tensor, seed: int) -> float:
        """Standard deviation, in units of its mean, of a group's update along a direction in logits [S, A]."""
        generator, found = np.random.default_rng(seed), []
        for own in texts:
            probability = own.probability(self.policy.exp().numpy())
            size = (GROUPS // len(texts), self.group)
            batch = own.rollout(generator.choice(len(probability), size, p=probability / probability.sum()))
            found.append((self.gradients(batch, self.hyper(None)) * direction[batch.obs]).sum((0, 2, 3)))
        along = torch.cat(found)
        return float(along.std() / along.mean().abs())


def multisets(kinds: int, size: int, chunk: int) -> Iterator[np.ndarray]:
    """All multisets of `size` numbers below `kinds`, int64 [≤ chunk, size] at a time."""
    every = itertools.combinations_with_replacement(range(kinds), size)
    while part := list(itertools.islice(every, max(chunk, 1))):
        yield np.array(part, np.int64)


def probability_of(which: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """The probability of multisets [M, G] of independent draws: G!/Π k_i!·Π p."""
    count, size = which.shape
    ways, run = np.full(count, float(math.factorial(size))), np.ones(count)
    for place in range(1, size):
        run = np.where(which[:, place] == which[:, place - 1], run + 1, 1.0)
        ways /= run
    return ways * probability[which].prod(1)


def audit_estimator(config: Config) -> EstimatorAudit:
    """The expected update of the algorithm of a config, beside exact gradients.

    The policy is the reference, moved at random by `seed`: at the reference itself the divergence has no gradient.

    Raises:
        ConfigError: the algorithm is no policy gradient of whole episodes, or the task has no model.
    """
    problem = build(config)
    algorithm = problem.algorithm
    fits = isinstance(algorithm.objective, LossGradient) and algorithm.data.whole_episodes and PI in algorithm.roles
    allowed = "only policies that learn from whole episodes have such an expected update: reinforce, rloo, grpo"
    require(fits and algorithm.update.draws is None, "algo", config.algo.name, allowed)
    if problem.completions is None or problem.context.reference is None or problem.log_reference is None:
        raise ConfigError(f"{config.env.title()}: is no task of tokens with a finite model; use env=tokens_nano")
    require(algorithm.acting.by_policy, "algo", config.algo.name, "does not act by the policy that it learns")
    known, states = problem.completions, problem.mdp.n_states
    params = _moved(problem.context.reference, config)
    at = At(problem.context, params, states)
    policy, reference = at.scores.detach().double().log_softmax(-1), torch.from_numpy(problem.log_reference)
    numbers = {**config.algo.hyper, "gamma": config.gamma}
    estimator = Estimator(known, policy, reference, algorithm, config.algo.options, numbers)
    texts = [Texts.of(known, p) for p in range(known.prompts)]
    beta, groups = float(config.algo.hyper.get("beta", 0.0)), 0
    found: dict[float, Tensor] = {}
    for value in {beta, 0.0}:
        total: Tensor | None = None
        for p, own in enumerate(texts):
            part, count = estimator.expected(own, value if "beta" in config.algo.hyper else None, config.seed + p)
            total, groups = part if total is None else total + part, groups + count
        found[value] = cast(Tensor, total) / len(texts)
    objectives = Objectives(known, estimator.reference, estimator.policy)
    values = {
        REWARD: objectives.reward,
        REGULARISED: objectives.reward - beta * objectives.kl,
        FORWARD: objectives.reward - beta * objectives.forward,
    }
    if beta == 0:
        values = {REWARD: objectives.reward}
    if objectives.binary:
        values[ARCSINE] = objectives.arcsine
    by_logits = {name: objectives.gradient(value) for name, value in values.items()}
    updates = torch.stack([at.carried(own) for own in found[beta]])
    matches = {name: match(updates, at.carried(own)) for name, own in by_logits.items()}
    of_kl: dict[str, Match] = {}
    if beta > 0:
        added = torch.stack([at.carried(own) for own in (found[beta] - found[0.0]) / beta])
        wanted = {"−KL(π‖π_ref)": -objectives.kl, "−KL(π_ref‖π)": -objectives.forward}
        of_kl = {name: match(added, at.carried(objectives.gradient(own))) for name, own in wanted.items()}
    noise = estimator.deviation(texts, found[beta].mean(0), config.seed)
    exact = len(updates) == 1
    name, options = config.algo.name, dict(config.algo.options)
    return EstimatorAudit(name, options, estimator.group, beta, exact, groups, matches, of_kl, noise)


def _moved(reference: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The parameters of the reference, moved at random."""
    generator, moved = torch.Generator().manual_seed(config.seed), {}
    for name, value in reference.items():
        size = 1.0 if config.network.name == "tabular" else float(value.std(correction=0))
        moved[name] = value + AWAY * size * torch.randn(value.shape, generator=generator)
    return moved
