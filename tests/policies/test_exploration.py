"""Behaviour policies and schedules against their closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from rlnet.config import ConfigError, ConstantConfig, EpisodesConfig, PiecewiseConfig, RampConfig, ScheduleConfig
from rlnet.policies.exploration import count_bonus, epsilon_greedy, greedy, sample, softmax
from rlnet.policies.schedules import Progress, scheduled

Q = torch.tensor([[1.0, 3.0, 3.0, -math.inf], [0.0, -1.0, -2.0, 5.0]])


def test_greedy_shares_ties_and_skips_what_is_not_available():
    assert greedy(Q).tolist() == [[0, 0.5, 0.5, 0], [0, 0, 0, 1]]


def test_epsilon_greedy_spreads_epsilon_over_the_available_actions():
    out = epsilon_greedy(Q, torch.tensor([[0.3], [0.0]]))
    torch.testing.assert_close(out[0], torch.tensor([0.1, 0.45, 0.45, 0.0]))
    assert out[1].tolist() == [0, 0, 0, 1]


def test_softmax_ratio_is_the_exponential_of_the_difference():
    out = softmax(Q, torch.tensor([[2.0], [0.5]]))
    assert out[0, 1] / out[0, 0] == pytest.approx(math.exp(2 / 2.0), rel=1e-5)
    assert out[1, 0] / out[1, 1] == pytest.approx(math.exp(1 / 0.5), rel=1e-5)
    assert out[0, 3] == 0


def test_count_bonus_is_ucb_and_never_takes_an_unavailable_action():
    counts = torch.tensor([[1, 100, 4, 0], [0, 3, 4, 2]])
    first, second = count_bonus(Q, torch.tensor([[2.0], [2.0]]), counts)
    bonus = [2 * math.sqrt(math.log(105) / n) for n in (1, 100, 4)]
    assert max(range(3), key=lambda a: Q[0, a].item() + bonus[a]) == 0
    assert first.tolist() == [1, 0, 0, 0]
    assert second.tolist() == [1, 0, 0, 0]  # never tried
    assert count_bonus(Q, torch.zeros(2, 1), counts + 1)[0].tolist() == [0, 0.5, 0.5, 0]  # c = 0: greedy
    assert count_bonus(Q, torch.ones(2, 1), torch.zeros(2, 4, dtype=torch.int64))[0].tolist() == pytest.approx(
        [1 / 3] * 3 + [0]
    )


def test_each_member_has_its_own_epsilon():
    q = torch.zeros(3, 5, 2).index_fill(2, torch.tensor([1]), 1.0)  # [M, N, A]
    out = epsilon_greedy(q, torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1))
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([0.0, 0.25, 0.5]))


def test_sample_follows_the_probabilities_and_never_takes_an_impossible_action():
    probabilities = torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    uniform = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    counts = sample(probabilities.expand(len(uniform), -1), uniform).bincount(minlength=6)
    assert counts[[0, 2, 5]].tolist() == [0, 0, 0]
    assert chisquare(counts[[1, 3, 4]].numpy(), [0.2 * 200_000, 0.5 * 200_000, 0.3 * 200_000]).pvalue > 1e-3


def test_sample_stays_inside_at_the_ends_of_the_uniform_range():
    probabilities = torch.tensor([[0.0, 0.1, 0.2, 0.7 - 1e-7, 0.0]])
    assert sample(probabilities, torch.tensor([0.0], dtype=torch.float64)).item() == 1
    assert sample(probabilities, torch.tensor([1 - 1e-12], dtype=torch.float64)).item() == 3


def test_schedules():
    done = Progress(np.array([0.0, 0.25, 0.5, 1.0], np.float32), np.array([0, 1, 2, 100]))
    assert scheduled(ConstantConfig("constant", 0.3), done).tolist() == pytest.approx([0.3] * 4)
    linear = RampConfig("linear", 1.0, 0.2, 0.5)
    assert scheduled(linear, done).tolist() == pytest.approx([1.0, 0.6, 0.2, 0.2])
    exponential = RampConfig("exponential", 1.0, 0.01, 1.0)
    assert scheduled(exponential, done).tolist() == pytest.approx([1.0, 0.01**0.25, 0.1, 0.01], rel=1e-5)
    early = RampConfig("exponential", 1.0, 0.01, 0.5)
    assert scheduled(early, done).tolist() == pytest.approx([1.0, 0.1, 0.01, 0.01], rel=1e-5)
    cosine = RampConfig("cosine", 1.0, 0.2, 0.5)
    assert scheduled(cosine, done).tolist() == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert scheduled(RampConfig("cosine", 1.0, 0.0), done)[1].item() == pytest.approx((1 + 0.5**0.5) / 2)
    pieces = PiecewiseConfig("piecewise", [0.2, 0.3, 0.5, 0.5], [1.0, 0.5, 0.1, 0.7])
    assert scheduled(pieces, done).tolist() == pytest.approx([1.0, 0.75, 0.1, 0.7])
    assert scheduled(PiecewiseConfig("piecewise", [0.5], [0.3]), done).tolist() == pytest.approx([0.3] * 4)
    episodes = EpisodesConfig("episodes", 0.8, 0.05, 0.5)
    assert scheduled(episodes, done).tolist() == pytest.approx([0.8, 0.4, 0.2, 0.05])
    with pytest.raises(ConfigError, match=r"schedule=none: allowed are constant"):
        scheduled(ScheduleConfig("none"), done)
