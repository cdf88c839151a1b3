"""Gradients by hand against those of autograd, for every algorithm that has them."""

import pytest
import torch
from support import make_run, quick

from rlnet import algos
from rlnet.algos import load, names
from rlnet.algos.algorithm import LossGradient, SemiGradient
from rlnet.data.rollout import Observation, minibatches
from rlnet.learning.manual_gradients import possible


def has_loss(name: str) -> bool:
    """Whether its gradient by hand is that of a loss of its own."""
    objective = load(name).objective
    return isinstance(objective, LossGradient) and objective.manual_gradient is not None


BY_HAND = [name for name in names() if isinstance(load(name).objective, SemiGradient) or has_loss(name)]
NETWORKS = {
    "tabular": ("network=tabular",),
    "linear": ("network=linear",),
    "features": ("network=mlp", "network.input=features", "network.hidden=[6]", "network.activation=tanh"),
    "one_hot": ("network=mlp", "network.input=one_hot", "network.hidden=[7,5]"),
}


def run_of(name: str, *more: str):
    """Three members on a model where some actions are not available, or for policies where all of them are."""
    env = "env=random_walk" if has_loss(name) else "env=gridworld"
    if load(name).data.replay:
        shapes = ("algo.learning_starts=200", "algo.n_step=3", "algo.batch=9")
    else:
        shapes = ("algo.envs=2", f"algo.rollout={400 if load(name).data.whole_episodes else 6}")
    return make_run("seeds=3", env, f"algo={name}", "steps=10_000", *shapes, *more)


def batch_of(run):
    """A batch as its learner would see it, with numbers that make no term vanish."""
    if run.replay is not None:
        while len(run.replay) < 200:
            run.replay.add(run.collect())
        return run.replay.sample()
    rollout = run.collect()
    algorithm, context = run.problem.algorithm, run.problem.context
    if algorithm.update.prepare is not None:
        rollout = rollout.replace(extra=algorithm.update.prepare(context, run.learner.params, rollout, run.hyper()))
    if has_loss(run.config.algo.name):
        rows = rollout.weight.shape[0] * rollout.weight.shape[2]
        rollout = next(minibatches(rollout, run.shuffle.permutation(rows), 2))
    return rollout


def both(run, batch, hyper):
    """(gradient [M, P], loss) by hand, and by autograd."""
    learner, found, manual = run.learner, [], run.learner.manual
    for learner.manual in (manual, None):
        grad, measure = learner._gradient(batch, hyper)
        found.append((grad.clone(), measure()))
    return found


def check(found) -> None:
    (ours, own), (expected, other) = found
    assert (expected.abs().amax(1) > 1e-6).all()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())
    torch.testing.assert_close(own.total, other.total, rtol=1e-5, atol=1e-6)
    assert own.metrics.keys() == other.metrics.keys()
    for name, metric in other.metrics.items():
        torch.testing.assert_close(own.metrics[name], metric, rtol=1e-4, atol=1e-6, equal_nan=True)
    if other.error is not None and own.error is not None:
        torch.testing.assert_close(own.error, other.error, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", quick(NETWORKS, ["one_hot"]))
@pytest.mark.parametrize("name", BY_HAND)
def test_gradients_by_hand_are_those_of_autograd(name, network):
    run = run_of(name, *NETWORKS[network])
    assert run.learner.manual is not None
    torch.manual_seed(0)
    batch, hyper = batch_of(run), run.hyper()
    for tensor in (run.learner.theta, run.learner.target):  # away from what gathered the batch, and from one another
        if tensor is not None:
            tensor.add_(0.3 * torch.randn_like(tensor))
    run.learner.target_changed()
    check(both(run, batch, hyper))


@pytest.mark.parametrize("huber", [0.005, float("inf")])
def test_errors_beyond_the_threshold_count_linearly(huber):
    run = run_of("dqn", "network.hidden=[8]", f"algo.hyper.huber={huber}")
    check(both(run, batch_of(run), run.hyper()))


@pytest.mark.parametrize("clip", [0.1, 0.2])
@pytest.mark.parametrize("value_clip", [0.005, float("inf")])
@pytest.mark.parametrize("normalise", [0.0, 1.0])
def test_every_number_of_ppo_enters_by_hand_as_in_its_loss(clip, value_clip, normalise):
    numbers = {"clip": clip, "value_clip": value_clip, "normalise": normalise, "stop_at_kl": 0.01}
    numbers |= {"entropy_coefficient": 0.3, "value_coefficient": 0.7, "state_discount": 1.0}
    run = run_of("ppo", "gamma=0.9", *(f"algo.hyper.{name}={value}" for name, value in numbers.items()))
    batch, hyper = batch_of(run), run.hyper()
    torch.manual_seed(1)
    run.learner.theta.add_(0.1 * torch.randn_like(run.learner.theta))
    found = both(run, batch, hyper)
    check(found)
    assert 0 < found[0][1].metrics["loss/clipped"].mean() < 1
    assert found[0][1].metrics["stop"].any()


def test_what_has_no_derivative_by_hand_goes_through_autograd():
    for overrides in (
        ("algo=a2c",),
        ("algo=dqn", "network.dueling=true"),
        ("algo=dqn", "exploration=noisy"),
        ("algo=qr_dqn",),
        ("algo=dqn", "network.activation=silu"),
    ):
        assert make_run("env=gridworld", *overrides).learner.manual is None, overrides
    run = make_run("env=pendulum", "algo=ppo")
    assert not possible(run.problem.algorithm, run.problem.context)
    assert {"dqn", "double_dqn", "q_learning", "td0", "mc", "ppo"} <= set(BY_HAND) <= set(algos.names())


@pytest.mark.parametrize("members", [1, 3])
def test_what_a_resting_target_network_says_of_few_states_is_remembered_until_it_moves(members):
    run = make_run("env=gridworld", "algo=dqn", f"seeds={members}", "network.hidden=[8]", "algo.batch=200")
    learner, q = run.learner, run.problem.context.q
    seen = Observation(torch.randint(run.problem.environment.n_states, (2, members, 200)))
    resting = learner.target_params["q"]
    assert resting.resting
    for move in (
        lambda: None,
        lambda: learner.follow(1.0),
        lambda: learner.follow(0.3),
        lambda: (learner.target.zero_(), learner.target_changed()),
        lambda: learner.load_state_dict(learner.state_dict() | {"target": torch.randn_like(learner.target)}),
    ):
        learner.theta.add_(torch.randn_like(learner.theta))
        move()
        with torch.no_grad():
            first, again = (q(learner.target_params, seen) for _ in range(2))
        table = resting._table
        plain = q({"q": dict(resting)}, seen)
        assert first.shape == plain.shape
        torch.testing.assert_close(first, plain.detach())
        assert torch.equal(first, again)
        assert resting._table is table
    few = Observation(seen.obs[:1, :, :10])  # not worth it: fewer rows than states
    resting._table = None
    torch.testing.assert_close(q(learner.target_params, few), q({"q": dict(resting)}, few).detach())
    assert resting._table is None
    assert not learner.params["q"].resting
