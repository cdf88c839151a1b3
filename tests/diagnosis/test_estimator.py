"""Expected updates over all groups of completions: equalities that theory gives, and what breaks them."""

import math

import numpy as np
import pytest
import torch
from support import composed

from rlnet.algos import grpo
from rlnet.config import ConfigError
from rlnet.diagnosis import enumeration, estimator, estimator_audit
from rlnet.diagnosis.enumeration import Texts
from rlnet.diagnosis.estimator import Estimator
from rlnet.diagnosis.estimator_audit import (
    ARCSINE,
    FORWARD,
    IMITATION,
    PREFERENCES,
    REGULARISED,
    REWARD,
    audit_estimator,
)
from rlnet.experiment.problem import build

BASE = ("env=tokens_nano", "network=tabular")
PLAIN = ("algo.options.advantage=loo", "algo.options.length=sum")
KL, FORWARD_KL = "−KL(π‖π_ref)", "−KL(π_ref‖π)"


def audited(algo: str, *options: str, group: int = 3):
    sizes = () if algo in ("reinforce", "a2c", "ppo") else (f"algo.options.group={group}", f"algo.envs={group}")
    return audit_estimator(composed(f"algo={algo}", *BASE, *sizes, *options))


def is_gradient(match, scale=1.0):
    assert match.cosine == pytest.approx(1.0, abs=1e-10)
    assert match.scale == pytest.approx(scale, rel=1e-6)  # logits are float32


def test_reinforce_is_the_gradient_of_the_reward():
    is_gradient(audited("reinforce", "algo.hyper.entropy_coefficient=0").matches[REWARD])


@pytest.mark.parametrize(("algo", "lambda_"), [("a2c", 0.0), ("a2c", 1.0), ("ppo", 0.0), ("ppo", 0.5), ("ppo", 1.0)])
def test_methods_with_an_exact_critic_have_the_gradient_of_the_reward_over_the_mean_length(algo, lambda_):
    """GAE with V = V^π is unbiased for every λ; the loss is a mean over rows, of which a completion has its length."""
    plain = ("algo.hyper.entropy_coefficient=0", f"algo.hyper.lambda_={lambda_}")
    config = composed(f"algo={algo}", *BASE, *plain, *(["algo.hyper.normalise=0"] if algo == "ppo" else []))
    found, problem = audit_estimator(config), build(config)
    moved = estimator_audit._moved(problem.context.reference, config)
    logits = problem.context.networks["pi"].apply(moved, torch.arange(problem.mdp.n_states).unsqueeze(0))[0]
    steps = problem.completions.reached(logits.double().softmax(-1).numpy()).sum() / problem.completions.prompts
    is_gradient(found.matches[REWARD], 1 / steps)


def test_a_critic_that_is_wrong_biases_ppo(monkeypatch):
    own = estimator_audit.evaluate

    class Zero:
        def __init__(self, *args):
            self.v = 0 * own(*args).v

    monkeypatch.setattr(estimator_audit, "evaluate", Zero)
    options = ("algo.hyper.entropy_coefficient=0", "algo.hyper.normalise=0", "algo.hyper.lambda_=0.5")
    assert audited("ppo", *options).matches[REWARD].cosine < 1 - 1e-4


def test_normalised_advantages_change_the_direction_of_ppo():
    options = ("algo.hyper.entropy_coefficient=0", "algo.hyper.lambda_=1", "algo.envs=2")
    match = audited("ppo", *options).matches[REWARD]
    assert 0.8 < match.cosine < 1 - 1e-5


@pytest.mark.parametrize("again", [1, 3])
def test_drawing_equal_groups_again_makes_the_update_longer_and_leaves_its_direction(again):
    """Prompts are drawn anew, so each group of different rewards counts 1 + q + … + qⁿ times, whatever its prompt."""
    alone = audited("dapo", "algo.options.resample=0")
    found = audited("dapo", f"algo.options.resample={again}")
    q = sum(found.equal) / 2
    assert found.equal[0] != pytest.approx(found.equal[1], rel=1e-3)
    times = sum(q**k for k in range(again + 1))
    for name, match in found.matches.items():
        assert match.cosine == pytest.approx(alone.matches[name].cosine, abs=1e-7)
        assert match.scale == pytest.approx(times * alone.matches[name].scale, rel=1e-6)


def test_with_a_divergence_in_the_loss_drawing_again_changes_the_direction():
    options = ("algo.hyper.beta=1", "algo.options.advantage=mean")
    alone, found = (audited("grpo", *options, f"algo.options.resample={again}") for again in (0, 3))
    assert abs(found.matches[REWARD].cosine - alone.matches[REWARD].cosine) > 1e-4


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_dpo_brings_the_preferences_of_the_policy_to_those_of_the_reward(beta):
    found = audited("dpo", f"algo.hyper.beta={beta}", group=2)
    is_gradient(found.matches[PREFERENCES])
    assert found.matches[REGULARISED].cosine < 1 - 1e-4
    assert found.exact
    assert not found.of_kl


@pytest.mark.parametrize("sampler", ["policy", "reference"])
@pytest.mark.parametrize("positive", ["true", "false"])
def test_imitating_the_best_of_a_group_is_the_gradient_to_its_law(sampler, positive):
    found = audited("best_of_n", f"algo.options.sampler={sampler}", f"algo.options.positive={positive}")
    is_gradient(found.matches[IMITATION])


@pytest.mark.parametrize("network", ["tabular", "mlp"])
def test_rloo_is_the_gradient_of_the_regularised_reward(network):
    found = audited("rloo", f"network={network}")
    assert found.exact
    assert found.matches[REGULARISED].cosine == pytest.approx(1.0, abs=1e-6)  # networks are in single precision
    assert found.matches[REGULARISED].scale == pytest.approx(1.0, abs=1e-5)
    assert found.matches[REWARD].cosine < 0.99999


@pytest.mark.parametrize("group", [2, 4])
def test_dr_grpo_is_the_gradient_of_the_reward_times_g_minus_1_over_g(group):
    """And times 1/L of the constant length: L = 3."""
    is_gradient(audited("dr_grpo", group=group).matches[REWARD], (group - 1) / group / 3)


def test_the_ratio_of_whole_completions_has_the_same_gradient_at_one():
    found = audited("rloo_trl", group=4)
    is_gradient(found.matches[REGULARISED])
    with pytest.raises(ConfigError, match=r"must be sum with algo\.options\.ratio=sequence"):
        audited("grpo", "algo.options.ratio=sequence")


def test_k1_in_the_loss_does_nothing():
    found = audited("grpo", *PLAIN, "algo.options.kl=k1")
    is_gradient(found.matches[REWARD])
    assert all(match.cosine == 0 for match in found.of_kl.values())


@pytest.mark.parametrize(
    "options",
    [
        ("algo.options.kl=k1", "algo.options.kl_in=reward"),
        ("algo.options.kl=k1", "algo.options.kl_in=reward", "algo.options.kl_of=sequence"),
        ("algo.options.kl=k2", "algo.options.kl_of=sequence"),
    ],
)
def test_k1_in_the_reward_and_k2_of_sequences_are_the_gradient_of_the_divergence(options):
    found = audited("grpo", *PLAIN, *options)
    is_gradient(found.matches[REGULARISED])
    is_gradient(found.of_kl[KL])


def test_k3_of_sequences_is_the_gradient_of_the_forward_divergence():
    found = audited("grpo", *PLAIN, "algo.options.kl_of=sequence")
    is_gradient(found.matches[FORWARD])
    is_gradient(found.of_kl[FORWARD_KL])
    assert found.of_kl[KL].cosine < 0.99


def test_what_is_no_gradient_of_these_is_said_to_be_none():
    """1/|y|, the deviation of the group (with 0 and 1, from four on) and k3 of tokens each turn the update."""
    for options in (
        (*PLAIN, "algo.options.length=mean", "algo.options.kl=none"),
        ("algo.options.length=sum", "algo.options.kl=none"),
    ):
        found = audited("grpo", "algo.hyper.beta=0", *options, group=4)
        assert found.matches[REWARD].cosine < 1 - 1e-6
    tokens = audited("grpo", *PLAIN).of_kl
    assert max(match.cosine for match in tokens.values()) < 1 - 1e-4


def test_ratio_times_k3_has_the_gradient_of_k2():
    """∇(ρ·k3) = (e^−d − 1 + d)·∇log π + (1 − e^−d)·∇log π = d·∇log π at ρ = 1."""
    one, other = (audited("grpo", *PLAIN, f"algo.options.kl={kl}").of_kl for kl in ("ratio_k3", "k2"))
    for name in one:
        assert one[name].cosine == pytest.approx(other[name].cosine, abs=1e-12)
        assert one[name].scale == pytest.approx(other[name].scale, abs=1e-10)


def test_advantages_over_the_deviation_approach_the_gradient_of_the_arcsine():
    """E[Â·1] of G Bernoulli rewards → √(p(1 − p)), and d(2·arcsin √p)/dp = 1/√(p(1 − p))."""
    options = ("algo.options.length=sum", "algo.options.kl=none", "algo.hyper.beta=0")
    found = [audited("grpo", *options, group=group).matches[ARCSINE] for group in (2, 4, 5)]
    assert [match.cosine for match in found] == sorted(match.cosine for match in found)
    p, limit = 0.3, 1 / math.sqrt(0.21)
    ways = [(math.comb(64, k) * p**k * (1 - p) ** (64 - k), k) for k in range(65)]

    def gap(k):  # mean advantage of passing against failing completions, in groups of 64 with k passes
        rewards = torch.tensor([[1.0] * k + [0.0] * (64 - k)], dtype=torch.float64)
        own = grpo.compared(rewards, 64, "std")[0]
        return 0.0 if k in (0, 64) else float(own[0] - own[-1])

    # The gradient is Σ_k P(k)·E[…]: of Bernoulli rewards (advantage gap)·p(1 − p)·∇log-odds = gap·∇p.
    assert sum(weight * gap(k) for weight, k in ways) == pytest.approx(limit, rel=0.03)


@pytest.mark.slow
def test_sampled_partners_agree_with_enumeration(monkeypatch):
    whole = audited("grpo", group=3)
    monkeypatch.setattr(estimator, "MOST_GROUPS", 10)
    monkeypatch.setattr(estimator, "PARTNERS", 200)
    sampled = audited("grpo", group=3)
    assert whole.exact
    assert not sampled.exact
    for name, match in sampled.matches.items():
        assert abs(match.cosine - whole.matches[name].cosine) < 5 * match.cosine_error
        assert match.cosine_error < 0.05


@pytest.mark.parametrize("algo", ["rloo", "grpo", "reinforce"])
def test_what_is_earned_behind_the_end_of_a_completion_counts_for_nothing(algo):
    """The rows behind an end are those of the next episode, which the collector plays while others finish."""
    sizes = () if algo == "reinforce" else ("algo.options.group=4", "algo.envs=4")
    config = composed(f"algo={algo}", *BASE, *sizes)
    problem = build(config)
    reference = torch.from_numpy(problem.log_reference)
    facts = problem.algorithm, config.algo.options, config.algo.hyper
    own = Estimator(problem.completions, reference, reference, *facts)
    batch = Texts.of(problem.completions, 0).rollout(np.arange(15)[None, :8])
    more = batch.replace(reward=batch.reward + 5.0 * ~batch.valid)
    assert not batch.valid.all()
    torch.testing.assert_close(own.gradients(batch, own.hyper(None)), own.gradients(more, own.hyper(None)))


def test_the_noise_of_a_group_is_what_sampling_finds():
    """1/√G of one completion's for independent rows: REINFORCE's single rows against groups of 4 without baseline."""
    alone = audited("reinforce", "algo.hyper.entropy_coefficient=0", "algo.hyper.baseline=0").noise
    four = audited("rloo", "algo.hyper.beta=0", group=4).noise
    assert four < alone


BUGS = {
    "reward of another completion": lambda own, ret, group, how: own(ret.roll(1, -1), group, how),
    "advantage over the wrong group": lambda own, ret, group, how: own(ret.flip(-1), group, how).roll(1, -1),
    "sign": lambda own, ret, group, how: -own(ret, group, how),
    "baseline twice": lambda own, ret, group, how: own(ret, group, how) - ret.mean(-1, keepdim=True),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_seen(bug, monkeypatch):
    own = grpo.compared
    monkeypatch.setattr(grpo, "compared", lambda ret, group, how: BUGS[bug](own, ret, group, how))
    match = audited("rloo").matches[REGULARISED]
    assert match.cosine < 1 - 1e-6 or abs(match.scale - 1) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("algo=rloo", "env=random_walk", "algo.hyper.beta=0"),
            "is no task of tokens; an update is audited where all completions are known",
        ),
        (("algo=q_learning", "env=tokens_nano"), "algo=q_learning: has no expected update over completions"),
        (
            ("algo=sac_discrete", "env=tokens_nano"),
            "algo=sac_discrete: has no expected update over completions; use one",
        ),
    ],
)
def test_what_has_no_expected_update_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        audit_estimator(composed(*options))


def test_probabilities_of_multisets_sum_to_one():
    probability = np.array([0.5, 0.3, 0.2])
    every = np.concatenate(list(enumeration.multisets(3, 4, 7)))
    assert len(every) == math.comb(6, 4)
    assert enumeration.probability_of(every, probability).sum() == pytest.approx(1.0)
