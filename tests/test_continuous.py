"""Policies over real actions: exact gradients by quadrature, the regulator's optimal gain, and what is refused."""

import pytest
from support import composed, make_run, update

from rlnet import algos
from rlnet.build import build
from rlnet.config import ConfigError

CONTINUOUS = [name for name in algos.names() if algos.load(name).continuous]


@pytest.mark.parametrize("network", ["linear", "mlp"])
@pytest.mark.parametrize("algo", CONTINUOUS)
def test_every_algorithm_for_real_actions_trains_with_every_network_and_several_members(algo, network):
    options = ("seeds=3", "algo.envs=4", "algo.rollout=200", "env=lqr", "env.kwargs.max_action=5.0")
    run = make_run(f"algo={algo}", f"network={network}", *options)
    before = run.learner.theta.clone()
    update(run, 3)
    assert run.learner.theta.isfinite().all()
    assert ((run.learner.theta - before).abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("env=gridworld", "algo=sac"),
            "env=gridworld: algo=sac needs actions that are a Box, .* are Discrete; use",
        ),
        (("env=lqr", "algo=sac"), r"env=lqr: algo=sac needs actions between finite bounds, here they are \[-inf\]"),
        (("env=pendulum", "algo=sac_discrete"), "algo=sac_discrete needs actions that are Discrete, .* are a Box"),
    ],
)
def test_actions_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(composed(*options))
