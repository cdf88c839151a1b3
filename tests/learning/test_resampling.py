"""Dynamic sampling: groups in which all earn the same are drawn again, for every member as if it were alone."""

import numpy as np
import pytest
import torch
from support import composed, make_run

from rlnet.algos.grpo import equal_groups
from rlnet.learning.updates import learn

OPTIONS = ("env=tokens_nano", "algo=dapo", "network=tabular", "env.reference_steps=30", "algo.envs=12", "steps=2000")


@pytest.mark.slow
def test_groups_of_equal_returns_are_drawn_again_until_none_is_left_or_the_limit_is_reached():
    left = {}
    for limit in (0, 1, 30):
        run = make_run(*OPTIONS, "algo.options.group=3", f"algo.options.resample={limit}")
        left[limit] = np.mean([float(equal_groups(run.collect(), 3).float().mean()) for _ in range(30)])
    assert left[0] > 0.2
    assert left[1] == pytest.approx(left[0] ** 2, abs=0.1)
    assert left[30] == 0


def test_all_that_is_drawn_is_counted():
    run = make_run(*OPTIONS, "algo.options.group=3", "algo.options.resample=5")
    learn(run, run.collect())
    assert int(run.steps) == int(run.visits.sum())
    plain = make_run(*OPTIONS, "algo.options.group=3", "algo.options.resample=0")
    learn(plain, plain.collect())
    assert int(run.steps) > int(plain.steps)


@pytest.mark.parametrize("length", ["batch", "constant"])
def test_a_member_learns_what_it_would_alone(length):
    options = (*OPTIONS, "algo.options.group=3", "algo.options.resample=4", f"algo.options.length={length}")
    together, alone = make_run(*options, "seeds=3"), make_run(*options, "seed=1")
    for _ in range(8):
        learn(together, together.collect())
        learn(alone, alone.collect())
    assert int(together.steps[1]) == int(alone.steps[0])
    for name, value in alone.learner.params["pi"].items():
        torch.testing.assert_close(together.learner.params["pi"][name][1], value[0])


def test_it_goes_on_exactly_where_it_stopped():
    options = (*OPTIONS, "algo.options.group=3", "algo.options.resample=4")
    whole, first, second = (make_run(*options) for _ in range(3))
    for _ in range(6):
        learn(whole, whole.collect())
    for _ in range(3):
        learn(first, first.collect())
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        learn(second, second.collect())
    for name, value in whole.learner.params["pi"].items():
        assert torch.equal(second.learner.params["pi"][name], value)
    assert composed(*options).algo.options["resample"] == 4
