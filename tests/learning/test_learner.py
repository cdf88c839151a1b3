"""The optimisers against torch's, member by member; clipping and frozen members."""

import dataclasses
import functools
import shutil

import pytest
import torch
from support import make_run, update
from torch._dynamo.exc import TorchDynamoException

from rlnet.algos.algorithm import LossGradient
from rlnet.config import ConfigError, OptimizerConfig
from rlnet.data.rollout import FIELDS, Rollout, minibatches
from rlnet.learning.learner import Learner
from rlnet.learning.optimizers import OPTIMIZERS


@pytest.mark.parametrize("rates", [[0.1, 0.003, 0.0], [0.01, 0.01, 0.01], [0.1, 0.1, 0.003]])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_optimizers_are_torchs_with_a_learning_rate_for_each_member(name, rates):
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(3, 10, generator=generator)
    rates = torch.tensor(rates).unsqueeze(-1)
    ours = theta.clone()
    optimizer = OPTIMIZERS[name](ours, None)
    theirs = [row.clone().requires_grad_() for row in theta]
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[name]
    references = [kind([row], lr=float(rate)) for row, rate in zip(theirs, rates, strict=True)]
    for _ in range(50):
        grad = torch.randn(3, 10, generator=generator)
        optimizer.step(grad, rates)
        for m, reference in enumerate(references):
            theirs[m].grad = grad[m].clone()
            reference.step()
    torch.testing.assert_close(ours, torch.stack([row.detach() for row in theirs]), atol=1e-6, rtol=1e-5)


def test_clipping_is_per_member():
    """One member's huge gradient does not shrink another's."""
    run = make_run("network=tabular", "seeds=2", "optimizer.max_grad_norm=0.01", "env=cliff")
    rollout = run.collect()
    scaled = rollout.replace(reward=rollout.reward * torch.tensor([[1e4], [1e-6]]))
    before = run.learner.theta.clone()
    run.learner.step(scaled, run.hyper(), torch.ones(2, 1))
    moved = (run.learner.theta - before).norm(dim=1)
    assert moved[0] == pytest.approx(0.01, rel=1e-4)
    free = make_run("network=tabular", "seeds=2", "env=cliff")
    before = free.learner.theta.clone()
    free.learner.step(scaled, free.hyper(), torch.ones(2, 1))
    assert moved[1] == pytest.approx((free.learner.theta - before).norm(dim=1)[1].item(), rel=1e-5)


def test_a_learning_rate_of_zero_leaves_a_member_as_it_is():
    run = make_run("seeds=2", "env=cliff")
    update(run, 3)
    before = run.learner.theta.clone()
    run.learner.step(run.collect(), run.hyper(), torch.tensor([[0.0], [1e-2]]))
    assert torch.equal(run.learner.theta[0], before[0])
    assert not torch.equal(run.learner.theta[1], before[1])


def test_a_loss_that_mixes_members_is_refused():
    run = make_run("seeds=2", "env=cliff", "algo=double_q_learning")
    algorithm = run.problem.algorithm
    broken = dataclasses.replace(
        algorithm, objective=LossGradient(lambda *a: (algorithm.objective.loss(*a)[0].sum(), {}))
    )
    learner = Learner(broken, run.problem.context, run.config.optimizer, [0, 1])
    with pytest.raises(ValueError, match="one number per member"):
        learner.step(run.collect(), run.hyper(), torch.ones(2, 1))


def test_an_unknown_optimizer_is_named():
    run = make_run("env=cliff")
    with pytest.raises(ConfigError, match="optimizer=rmsprop: allowed are sgd, adam"):
        Learner(run.problem.algorithm, run.problem.context, OptimizerConfig("rmsprop", 1e-3), [0])


def test_the_logged_norm_is_that_of_the_gradient_before_clipping():
    run = make_run("network=tabular", "env=cliff", "optimizer.max_grad_norm=0.01")
    rollout = run.collect()
    metrics = run.learner.step(rollout, run.hyper(), torch.zeros(1, 1)).metrics
    free = make_run("network=tabular", "env=cliff")
    before = free.learner.theta.clone()
    free.learner.step(rollout, free.hyper(), torch.ones(1, 1))
    assert metrics["loss/grad_norm"].item() == pytest.approx((free.learner.theta - before).norm().item(), rel=1e-5)


def test_each_member_starts_from_the_parameters_of_its_seed():
    many, alone = make_run("seeds=3", "env=cliff"), make_run("seed=2", "env=cliff")
    assert torch.equal(many.learner.theta[2], alone.learner.theta[0])
    assert not torch.equal(many.learner.theta[0], many.learner.theta[1])


def test_minibatches_hold_the_rows_of_each_members_own_order():
    """Row k of [T, M, N] is (t, n) = divmod(k, N); the weights of every part sum to 1 again."""
    steps, members, envs = 5, 3, 2
    tensors = {name: torch.randn(steps, members, envs, *([4] if "obs" in name else [])) for name in FIELDS}
    tensors["weight"] = torch.rand(steps, members, envs)
    rollout = Rollout(**tensors, extra={"value": torch.randn(steps, members, envs)})
    order = torch.stack([torch.randperm(steps * envs) for _ in range(members)])
    parts = list(minibatches(rollout, order, 3))
    assert [part.reward.shape[2] for part in parts] == [4, 3, 3]
    for m in range(members):
        for name in (*FIELDS, "value"):
            found = [part.extra[name] if name == "value" else getattr(part, name) for part in parts]
            whole = rollout.extra["value"] if name == "value" else tensors[name]
            wanted = torch.stack([whole[t, m, n] for t, n in (divmod(k, envs) for k in order[m].tolist())])
            if name == "weight":
                wanted = torch.cat([part / part.sum() for part in wanted.tensor_split(3)])
            torch.testing.assert_close(torch.cat(found, dim=2)[0, m], wanted)


SMALL = ("env=cliff", "seeds=2", "network.hidden=[8]")


def test_without_a_compiler_it_is_said_once_and_the_run_is_the_same(monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    run, plain = make_run("compile=true", *SMALL), make_run(*SMALL)
    update(run, 3)
    update(plain, 3)
    assert torch.equal(run.learner.theta, plain.learner.theta)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "compile=true: there is no compiler no-such-compiler (CXX names another); going on without compiling"
    ]


@pytest.mark.parametrize("algo", ["a2c", "sarsa_lambda"])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_where_the_compiler_fails_it_is_said_once_and_the_run_is_the_same(algo, where, monkeypatch, caplog):
    """Forward or backward: what is compiled last fails at the first call for its gradient."""

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x.clone()

        @staticmethod
        def backward(_, grad):
            raise TorchDynamoException("CppCompileError: C++ compile error\n/tmp/a.cpp:3: error")

    def compiled(function):
        def call(context, params, *others):
            if where == "forward":
                raise TorchDynamoException("CppCompileError: C++ compile error\n/tmp/a.cpp:3: error")
            return function(
                context, {r: {k: Failing.apply(x) for k, x in p.items()} for r, p in params.items()}, *others
            )

        return call

    monkeypatch.setattr("torch.compile", compiled)
    run, plain = (make_run(f"algo={algo}", f"compile={on}", "env=cliff", "seeds=2") for on in ("true", "false"))
    update(run, 3)
    update(plain, 3)
    torch.testing.assert_close(run.learner.theta, plain.learner.theta, atol=1e-6, rtol=1e-6)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "compile=true: the compiler fails (CppCompileError: C++ compile error); going on without compiling"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_loss_has_the_same_gradient(monkeypatch):
    """In one piece, without parts that are left to Python."""
    monkeypatch.setattr("torch.compile", functools.partial(torch.compile, fullgraph=True))
    run, plain = (make_run("algo=ppo", "algo.epochs=1", f"compile={on}", *SMALL) for on in ("true", "false"))
    update(run, 2)
    update(plain, 2)
    torch.testing.assert_close(run.learner.theta, plain.learner.theta, atol=1e-4, rtol=1e-4)
