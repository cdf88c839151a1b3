"""Exact expectation of an algorithm's update over all groups of completions.

The loss is the algorithm's own code, called on batches that are enumerated: every multiset of G completions of one
prompt, weighted by its probability under the policy that acts. Where there are too many groups, each completion is
grouped with sampled partners. The update is the first one on these batches, where π is still the policy that acted.

A method without groups (`reinforce`, `ppo`) gets batches of whole completions of all prompts; for one that draws
preferences (`dpo`) both outcomes of each are weighted by their probabilities.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.algorithm import Algorithm, LossGradient
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Role
from rlnet.algos.dpo import preference
from rlnet.compare.completions import Completions
from rlnet.data.rollout import Observation, Rollout
from rlnet.diagnosis.enumeration import Texts, multisets, probability_of
from rlnet.nets import Network
from rlnet.policies.distributions import Categorical

MOST_GROUPS = 400_000  # of a prompt; up to so many are enumerated
PARTNERS = 24  # sets of sampled partners, where there are more
GROUPS = 4000  # groups that are sampled for `deviation`
ROWS = 2_000_000  # steps of the groups in one batch


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
        self.informative, self.uninformative = 1.0, 1.0  # how often each kind of group counts: see `resampled`
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
        """Account for the option `resample`: groups in which all rewards are equal are drawn again.

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
        """How often groups of rewards [M, G] are learned from, relative to no resampling: [M]."""
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
            the update, and how many groups were evaluated.
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
