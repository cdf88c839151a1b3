"""Any torch module as the body of a network: each member's is the module itself, and it learns the truth."""

import numpy as np
import pytest
import torch
from support import make_run, trained, update
from torch import nn

from rlnet.config import ConfigError
from rlnet.nets import ConvNet

CONV = ("network=module", "network.shape=[1,4,4]", "network.kwargs.channels=4", "env=sutton4x4", "gamma=0.9")


class WithBatchNorm(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.BatchNorm1d(16))


class WithDropout(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Dropout())


def test_each_members_network_is_the_module_with_its_parameters():
    run = make_run(*CONV, "seeds=3", "algo.envs=5", "algo.rollout=2")
    rollout, params = run.collect(), run.learner.params["q"]
    q = run.problem.context.q(run.learner.params, rollout.state)  # [T, M, N, A]
    assert q.shape == (2, 3, 5, 4)
    for m in range(3):
        body = ConvNet(channels=4)
        body.load_state_dict({name.removeprefix("body."): x[m] for name, x in params.items() if "body." in name})
        pictures = nn.functional.one_hot(rollout.obs[:, m], 16).float().view(-1, 1, 4, 4)
        wanted = body(pictures).flatten(1) @ params["weight"][m] + params["bias"][m]
        torch.testing.assert_close(q[:, m].reshape(10, 4), wanted)
    assert not torch.equal(params["body.first.weight"][0], params["body.first.weight"][1])


def test_a_member_with_a_module_does_what_it_does_alone():
    options = (*CONV, "algo.envs=4", "algo.rollout=2", "steps=4000")
    many, alone = make_run(*options, "seeds=3"), make_run(*options, "seed=2")
    assert torch.equal(many.learner.theta[2], alone.learner.theta[0])
    before = torch.random.get_rng_state()
    for _ in range(30):
        a, b = update(many), update(alone)
        assert torch.equal(a.action[:, 2], b.action[:, 0])
    torch.testing.assert_close(many.learner.theta[2], alone.learner.theta[0], atol=1e-5, rtol=1e-4)
    assert torch.equal(torch.random.get_rng_state(), before), "the global stream is left alone"


@pytest.mark.slow
def test_a_convolutional_network_learns_the_value_of_the_random_policy():
    run = trained(*CONV, "algo=td0", "steps=20000", "algo.envs=64", "seeds=2", "optimizer.learning_rate=1e-2")
    _, comparison = run.compare()
    spread = np.ptp(comparison.v_exact[0])
    assert (comparison.scalars["exact/v_rmse"] < 0.1 * spread).all()


def test_a_vector_observation_can_be_reshaped_too():
    run = make_run("env=cartpole", "algo=ppo", "network=module", "network.shape=[1,2,2]", "seeds=2", "algo.rollout=8")
    before = run.learner.theta.clone()
    update(run)
    assert not torch.equal(run.learner.theta, before)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("network.target=no.such.Class", "network.target=no.such.Class: is not a class that can be imported"),
        ("network.target=pathlib.Path", "network.target=pathlib.Path: must be a torch.nn.Module"),
        ("network.kwargs.depth=3", "rlnet.nets.ConvNet refuses them"),
        ("network.shape=[1,3,3]", r"network.shape=\[1, 3, 3\]: an observation has 16 numbers"),
        ("network.shape=[16]", r"network.shape=\[16\]: rlnet.nets.ConvNet refuses a batch of that shape"),
        ("exploration=noisy", "exploration=noisy: this network has no noisy form"),
        (f"network.target={__name__}.WithBatchNorm", "must have no buffers"),
        (f"network.target={__name__}.WithDropout", "must have no dropout"),
    ],
)
def test_what_cannot_be_a_body_is_refused_by_one_sentence(option, message):
    kwargs = () if "__name__" in option or "With" in option or "Path" in option or "no.such" in option else CONV[2:3]
    with pytest.raises(ConfigError, match=message):
        make_run(*CONV[:2], *CONV[3:], *kwargs, option, *(["schedule=none"] if "noisy" in option else []))
