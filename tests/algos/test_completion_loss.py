"""A loss function of the user: audited, learned from, and refused in one sentence where it cannot be used."""

import sys

import pytest
import torch
from support import composed, make_run, update

from rlnet.algos.completion_loss import leave_one_out
from rlnet.commands import audit as command
from rlnet.config import ConfigError, RunFailed
from rlnet.config.trust import check_trusted
from rlnet.diagnosis import estimator
from rlnet.diagnosis.estimator_audit import FORWARD, REGULARISED, REWARD, audit_estimator
from rlnet.diagnosis.estimator_table import noise, verdict

TASK = ("env=tokens_nano", "network=tabular", "env.reference_steps=20", "algo.options.group=2", "algo.envs=2")
SOURCE = """
import torch

def centred(log_prob, old_log_prob, reference_log_prob, mask, reward, group, beta, length):
    own = reward.view(-1, group)
    ratio = (log_prob - old_log_prob).exp()
    d = ((log_prob - reference_log_prob) * mask).sum(1)
    gain = (ratio * (own - own.mean(1, keepdim=True)).view(-1, 1) * mask).sum() / (len(reward) * length)
    return beta * (torch.exp(-d) - 1 + d).mean() - gain

def everything(**known):
    return -(known["log_prob"].sum(1) * known["reward"]).mean()

def unknown(log_prob, advantages): return log_prob.sum()
def blind(reward): return reward.sum()
def vector(log_prob): return log_prob.sum(1)
def number(log_prob): return 3
def rooted(log_prob): return (log_prob - log_prob.detach()).sum().sqrt()
def still(log_prob): return (0 * log_prob).sum()
def constant(log_prob): return torch.tensor(1.0)
def broken(log_prob): return log_prob @ log_prob
value = 3
"""


@pytest.fixture(autouse=True)
def my_losses(tmp_path, monkeypatch):
    (tmp_path / "my_own_losses.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(estimator, "GROUPS", 100)  # of the noise alone
    yield
    sys.modules.pop("my_own_losses", None)


def audited(name: str, *options: str):
    path = name if ":" in name else f"my_own_losses:{name}"
    return audit_estimator(composed("algo=completion_loss", *TASK, f"algo.options.loss={path}", *options))


def test_the_example_is_the_gradient_of_the_regularised_reward():
    found = audited("rlnet.algos.completion_loss:leave_one_out", "algo.hyper.beta=0.4").matches[REGULARISED]
    assert found.cosine == pytest.approx(1, abs=1e-10)
    assert found.scale == pytest.approx(1, abs=1e-8)


def test_leave_one_out_by_hand():
    """Rewards 1 and 0, a divergence of log 2 in the first: values 1 − β·log 2 and 0, each less the other."""
    log_prob = torch.tensor([[0.5, 0.25], [0.5, 1.0]]).log().requires_grad_()
    reference = torch.tensor([[0.5, 0.125], [0.5, 7.0]]).log()
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    leave_one_out(log_prob, reference, mask, torch.tensor([1.0, 0.0]), 2, 0.5).backward()
    gap = 1 - 0.5 * torch.tensor(2.0).log()
    assert torch.allclose(log_prob.grad, torch.stack([-gap * mask[0], gap * mask[1]]) / 2)


def test_a_loss_of_the_user_is_the_algorithm_of_the_same_definition():
    """Dr. GRPO with k3 of sequences in the loss: (G − 1)/G·∇E[R]/L, and the gradient of the forward divergence."""
    own = audited("centred", "algo.hyper.beta=0.3")
    options = ("advantage=mean", "length=constant", "kl=k3", "kl_of=sequence")
    ours = audit_estimator(composed("algo=grpo", *TASK, *(f"algo.options.{x}" for x in options), "algo.hyper.beta=0.3"))
    for name in (REWARD, REGULARISED, FORWARD):
        assert own.matches[name].cosine == pytest.approx(ours.matches[name].cosine, abs=1e-10)
        assert own.matches[name].scale == pytest.approx(ours.matches[name].scale, abs=1e-10)
    assert own.of_kl["−KL(π_ref‖π)"].cosine == pytest.approx(1, abs=1e-10)
    assert audited("everything", "algo.hyper.beta=0").matches[REWARD].cosine == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:f", r"cannot be imported \(No module named 'nowhere'\)"),
        ("nope", "cannot be imported .*has no attribute 'nope'"),
        ("value", "must be a function of some of log_prob, "),
        ("unknown", "asks for advantages; arguments are log_prob, "),
        ("blind", "must have an argument log_prob"),
        ("vector", r"gives a tensor of shape \(2,\); must be a scalar tensor"),
        ("number", "gives 3; must be a scalar tensor"),
        ("constant", "does not depend on log_prob"),
        ("broken", r"fails \(RuntimeError: .*my_own_losses.py:\d+\)"),
        ("builtins:print", "must have an argument log_prob"),
        ("a:b:", "cannot be imported"),
    ],
)
def test_what_is_no_loss_is_refused_in_one_sentence(name, said):
    with pytest.raises(ConfigError, match=f"^algo.options.loss={name if ':' in name else ''}.*{said}"):
        audited(name)


def test_a_gradient_that_is_not_finite_is_near_to_nothing():
    with pytest.raises(
        RunFailed, match=r"^algo\.options\.loss=my_own_losses:rooted: has a gradient that is infinite or no"
    ):
        audited("rooted")
    still = audited("still")
    assert still.matches[REWARD].cosine == 0
    assert verdict(still).startswith("The expected update is 0: by it nothing is learned.")
    assert noise(still).startswith("The mean update is 0")


@pytest.mark.slow
def test_the_command_audits_a_loss(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rlnet audit", "loss=my_own_losses:centred", *TASK, "hydra.run.dir=out"])
    assert command.main() == 0
    assert "loss=my_own_losses:centred" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["rlnet audit", "loss=centred", *TASK])
    assert command.main() == 2
    assert capsys.readouterr().err == "error: algo.options.loss=centred: allowed are module:function\n"


def test_a_member_learns_what_it_would_learn_alone():
    options = ("algo=completion_loss", "algo.options.loss=my_own_losses:centred", *TASK[:3])
    both = make_run(*options, "seeds=2")
    alone = make_run(*options, "seed=1")
    for run in (both, alone):
        update(run, 3)
    assert torch.equal(both.learner.theta[1:], alone.learner.theta)


def test_the_folder_of_a_stranger_imports_no_loss():
    config = composed("algo=completion_loss", *TASK, "algo.options.loss=my_own_losses:centred")
    with pytest.raises(ConfigError, match=r"loss=my_own_losses:centred would be imported; add trust=true"):
        check_trusted(config, "out")
    check_trusted(config, "out", {"algo.options.loss"})
