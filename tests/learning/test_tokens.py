"""Fine-tuning over tokens: towards the exact optimum, from the reference, resumed exactly, with and without a model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import composed, finish, make_run, quick, trained, update

from rlnet.config import ConfigError
from rlnet.experiment.problem import build
from rlnet.learning import acting

pytestmark = pytest.mark.usefixtures("without_pictures")

NANO = ("env=tokens_nano", "env.reference_steps=50")


def test_every_member_begins_at_the_reference():
    run = make_run(*NANO, "algo=rloo", "seeds=3", "network=mlp")
    first = run.compare()[1].scalars
    assert np.abs(first["exact/kl"]).max() < 1e-7
    assert np.abs(first["exact/frontier_gap"]).max() < 1e-6
    assert first["exact/return"] == pytest.approx(first["exact/reward"])
    update(run)
    assert (run.compare()[1].scalars["exact/kl"] > 0).all()


def test_the_regularised_return_is_the_reward_less_the_divergence():
    """J of the model in which β·log π_ref is paid, judged at temperature β, is E[R] − β·KL of the sums over texts."""
    run = make_run(
        *NANO, "algo=rloo", "network=tabular", "optimizer=adam", "algo.hyper.beta=0.3", "optimizer.learning_rate=0.3"
    )
    update(run, 5)
    found = run.compare()[1].scalars
    assert found["exact/return"][0] == pytest.approx(found["exact/reward"][0] - 0.3 * found["exact/kl"][0], abs=1e-6)
    assert found["exact/kl"][0] > 0.05


@pytest.mark.parametrize("algo", quick(["rloo", "grpo", "dpo"], 1))
def test_learning_ends_near_the_optimum_of_the_regularised_reward(algo):
    """At β = ½ every completion keeps a share: within 3 % for 4 of 4 seeds, from 20 % or more at the reference."""
    run = make_run(
        *NANO, f"algo={algo}", "network=tabular", "optimizer=adam", "algo.hyper.beta=0.5", "seeds=4", "steps=60000",
        "optimizer.learning_rate=0.03", "algo.envs=64", *(() if algo == "dpo" else ("algo.options.group=16",)),
        *(("algo.options.advantage=loo", "algo.options.length=sum", "algo.options.kl=k2", "algo.options.kl_of=sequence")
          if algo == "grpo" else ()),
    )  # fmt: skip
    before = run.compare()[1].scalars
    assert (before["exact/regret"] > 0.2 * before["exact/optimal_return"]).all()
    after = finish(run).compare()[1].scalars
    assert (after["exact/regret"] < 0.03 * after["exact/optimal_return"]).all()


def test_the_best_of_a_group_is_learned_from():
    run = trained(
        *NANO, "algo=best_of_n", "network=tabular", "optimizer=adam", "steps=20000", "optimizer.learning_rate=0.1"
    )
    assert run.compare()[1].scalars["exact/pass@1"][0] > 0.95


@pytest.mark.parametrize(
    "options",
    [
        ("network=mlp",),
        ("network=mlp", "env.max_states=1"),
        pytest.param(("network=causal_lm", "network.hidden_size=16", "network.heads=2"), marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(options, tmp_path):
    more = ("env.reference_steps=2", "algo=rloo", "seeds=2", "algo.envs=16", "algo.options.group=8", *options)
    whole, half, resumed = (make_run("env=tokens_nano", *more) for _ in range(3))
    update(half, 3)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    update(resumed, 3)
    update(whole, 6)
    assert torch.equal(whole.learner.theta, resumed.learner.theta)


@pytest.mark.parametrize("env", quick(["tokens_nano", "tokens_addition"], 1))
def test_reading_token_by_token_samples_what_whole_passes_sample(env, monkeypatch):
    """Two members, groups drawn again: the same completions, in states and in rows of tokens, for two rollouts."""
    pytest.importorskip("transformers")
    small = ("network=causal_lm", "network.hidden_size=16", "network.heads=2", "algo.envs=32", "env.reference_steps=2")
    options = (f"env={env}", "algo=dapo", "seeds=2", "algo.options.resample=2", *small)
    by_token = make_run(*options)
    monkeypatch.setattr(acting, "_remembering", lambda context: context)
    whole = make_run(*options)
    for _ in range(2):
        found, expected = by_token.collect(), whole.collect()
        assert torch.equal(found.valid, expected.valid)
        assert not found.valid.all()
        for name in ("obs", "action", "reward"):
            assert torch.equal(getattr(found, name)[found.valid], getattr(expected, name)[expected.valid])


@pytest.mark.parametrize("algo", ["rloo", "grpo", "dapo"])
def test_what_one_step_takes_from_its_own_loss_is_what_is_prepared_for_several(algo):
    run = make_run(*NANO, f"algo={algo}", "seeds=2", "network=mlp")
    update(run)  # away from the reference
    rollout, algorithm, hyper, gradients = run.collect(), run.problem.algorithm, run.hyper(), []
    for epochs in (1, 2):
        context = replace(run.problem.context, epochs=epochs)
        batch = rollout.replace(extra=algorithm.update.prepare(context, run.learner.params, rollout, hyper))
        assert ("advantage" in batch.extra) == (epochs == 2)
        params = {"pi": run.learner.params["pi"].leaf()}
        loss, _ = algorithm.objective.loss(context, params, params, batch, hyper)
        gradients.append(torch.autograd.grad(loss.sum(), params["pi"].flat)[0])
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 1e-3


@pytest.mark.slow
def test_with_and_without_a_model_the_same_is_learned():
    """One network over rows of tokens, the same seeds: pass rates as sampled agree with the exact ones."""
    run = make_run(*NANO, "env.max_states=1", "algo=rloo", "network=mlp", "steps=30000", "optimizer.learning_rate=0.01")
    assert run.problem.solutions is None
    finish(run)
    assert float(run.collector.episodes()["return/mean"]) > 0.8


@pytest.mark.slow
def test_a_proxy_is_learned_from_and_the_true_reward_is_scored(monkeypatch):
    """The proxy pays for length alone: what is learned writes as much as it can."""
    monkeypatch.setattr(json, "length_of", lambda prompt, text: float(len(text)), raising=False)
    run = trained(
        *NANO, "env.proxy=json:length_of", "algo=rloo", "algo.hyper.beta=0", "network=tabular", "optimizer=adam",
        "optimizer.learning_rate=0.1", "steps=100000",
    )  # fmt: skip
    found = run.compare()[1].scalars
    assert found["exact/reward"][0] > 2.9
    plain = build(composed(*NANO, "algo=rloo", "network=tabular"))
    own = plain.completions.scores(run.tables().policy)
    assert found["exact/true_reward"][0] == pytest.approx(own["exact/reward"][0], abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("env=tokens_nano", "algo=rloo", "algo.envs=60"),
            r"algo\.envs=60: must be a multiple of algo\.options\.group=16",
        ),
        (("env=tokens_nano", "algo=rloo", "algo.rollout=2"), r"algo\.rollout=2: must be at least env\.length=3"),
        (("env=tokens_nano", "algo=dr_grpo", "algo.hyper.beta=0.1"), r"algo\.hyper\.beta=0\.1: must be 0: the chosen"),
        (("env=tokens_nano", "algo=rloo", "algo.hyper.beta=inf"), r"algo\.hyper\.beta=inf: must be finite"),
        (("env=tokens_nano", "algo=dpo", "gamma=0.9"), r"gamma=0\.9: must be 1: algo=dpo compares undiscounted"),
        (("env=tokens_nano", "algo=grpo", "env.reference_rate=1e30"), r"env\.reference_rate=1e[+]30: the reference"),
        (("env=gridworld", "algo=rloo"), r"algo\.hyper\.beta=0\.05: env=gridworld has no reference policy"),
        (
            ("env=gridworld", "algo=rloo", "network=causal_lm", "algo.hyper.beta=0"),
            "network=causal_lm: env=gridworld has no tokens",
        ),
        (("env=tokens_nano", "algo=grpo", "algo.minibatches=2"), "learns from whole episodes"),
        (
            ("env=cartpole", "algo=dr_grpo"),
            "compares episodes that start in the same state, which is not supported here; use 1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_run(*options)
    assert build(composed("env=tokens_nano", "algo=reinforce", "env.reference_steps=0")).completions is not None
