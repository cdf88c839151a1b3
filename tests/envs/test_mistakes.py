"""Mistakes of environments are named: what, in which environment, at which step, for which seed."""

import csv
import logging
import re

import gymnasium
import numpy as np
import pytest
import wrong_environments
from support import composed, make_run, quick, quick_rows, update

from rlnet.config import RunFailed
from rlnet.envs.limits import Bounds
from rlnet.learning.evaluation import evaluate
from rlnet.learning.training_loop import train

pytestmark = pytest.mark.usefixtures("without_pictures")

# By mistake, what is said of it in an environment by itself.
SAID = {
    "raise": "its step raised ValueError: 5 % of it is broken",
    "reset": "its reset raised KeyError: 'no room'",
    "four": "its step returned a tuple of 4, it must return (observation, reward, terminated, truncated, info)",
    "reward_nan": "its step gave the reward nan, which must be a finite number",
    "reward_inf": "its step gave the reward -inf, which must be a finite number",
    "reward_none": "its step gave the reward None, which must be a finite number",
    "reward_huge": "its step gave the reward 1e+300, which float32 cannot hold",
    "obs_huge": "its observation is [0.0, 1e+300, 0.0], which float32 cannot hold",
    "text": "its step gave the reward '1.0', which must be a finite number",
    "flag": "its step gave terminated=1, which must be True or False",
    "no_flag": "its step gave truncated=None, which must be True or False",
    "obs_nan": "its observation is [0.0, nan, 0.0], which is not finite",
    "obs_inf": "its observation is [0.0, inf, 0.0], which is not finite",
    "shape": "its step gave an observation of shape (1,), its space says (3,)",
    "letters": "its step gave the observation ['a', 'b', 'c'], which is not numeric",
    "beyond": "its step gave the observation 9, which is not in Discrete(5)",
    "fraction": "its step gave the observation 2.5, not an integer of Discrete(5)",
    "obs_none": "its step gave the observation None, which is not numeric",
}
# Of a vector environment of the user's own there are only whole arrays to look at.
VECTOR = {
    "raise": SAID["raise"],
    "reward_nan": "its step gave the reward nan, which is not finite",
    "reward_inf": "its step gave the reward -inf, which is not finite",
    "reward_none": "its step gave the reward nan, which is not finite",
    "obs_nan": SAID["obs_nan"],
    "beyond": "its observation is 9, which is not in Discrete(5)",
}
STEP = {"reset": "in step 30 of seed 4"}  # the end of the third episode


def options(mistake: str, stepping: str, *more: str) -> list[str]:
    discrete = str(mistake in ("beyond", "fraction")).lower()
    env = "WrongVector-v0" if stepping == "vector" else "Wrong-v0"
    return [
        "env=cartpole", f"env.id={env}", f"env.stepping={stepping}", f"env.kwargs.mistake={mistake}",
        f"env.kwargs.discrete={discrete}", "algo=a2c", "algo.envs=2", "algo.rollout=40", "seeds=1", "seed=4", *more,
    ]  # fmt: skip


CASES = [(mistake, "sync", said) for mistake, said in SAID.items()]
CASES += [(mistake, "async", SAID[mistake]) for mistake in ("raise", "reset", "reward_none", "obs_nan", "four")]
CASES += [(mistake, "vector", said) for mistake, said in VECTOR.items()]


@pytest.mark.parametrize(("mistake", "stepping", "said"), quick_rows(CASES[::2] + CASES[1::2], len(CASES) // 4))
def test_a_mistake_is_named_with_environment_step_and_seed(mistake, stepping, said):
    state = make_run(*options(mistake, stepping))
    with pytest.raises(RunFailed) as failed:
        update(state)
    name = "WrongVector-v0" if stepping == "vector" else "Wrong-v0"
    where = STEP.get(mistake, "in step 25 of seed 4")
    assert str(failed.value) == f"env.id={name}: {said} ({where})"


def test_a_mistake_in_an_evaluation_is_named_with_the_seed_of_the_member():
    state = make_run(*options("raise", "sync", "env.kwargs.at=5"))
    with pytest.raises(RunFailed, match=r"^while evaluating: env\.id=Wrong-v0: .* \(in step 5 of seed 4\)$"):
        evaluate(state.trained(), 1, 2)


def test_an_observation_outside_of_its_bounds_is_named_once_and_training_goes_on(caplog):
    state = make_run(*options("bounds", "sync"))
    with caplog.at_level(logging.WARNING):
        update(state, 3)
    (said,) = [record.getMessage() for record in caplog.records if "outside" in record.getMessage()]
    assert said.startswith("env.id=Wrong-v0: its observation is [0.0, 7.0, 0.0], outside of Box(-1.0, 1.0, (3,)")
    assert "in step 25 of seed 4" in said
    assert int(state.steps[0]) == 240


def test_bounds_of_many_numbers_are_told_in_one_line():
    space = gymnasium.spaces.Box(-np.arange(1.0, 30.0), np.arange(1.0, 30.0), dtype=np.float64)
    _, _, said = Bounds(space).left_by(np.full((1, 1, 29), 1.5))
    assert "outside of Box(" in said
    assert "\n" not in said


def test_what_rounding_does_to_a_bound_is_no_fault():
    from rlnet.envs.limits import Bounds

    space = wrong_environments.Wrong().observation_space
    near = space.high[None, None] + 1e-6
    assert Bounds(space).left_by(near) is None
    assert Bounds(space).left_by(near + 1e-3)[:2] == (0, 0)


@pytest.mark.parametrize("processes", quick([1, 2], 1))
def test_a_run_that_an_environment_ends_leaves_whole_files(processes, tmp_path):
    more = ["seeds=2", "algo.rollout=5", "steps=1000", "log_every=50", "checkpoint_every=100", "env.kwargs.at=120"]
    config = composed(*options("raise", "sync", *more, f"processes={processes}"))
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(RunFailed) as failed:
        train(config, folder)
    sentence = "env.id=Wrong-v0: its step raised ValueError: 5 % of it is broken (in step 120 of seed 4)"
    assert str(failed.value) == sentence
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(None not in row and None not in row.values() for row in rows)
    assert int(rows[-1]["step"]) > 100
    resumed = composed(*options("", "sync", *more, "env.kwargs.at=120", "env.kwargs.mistake=raise", f"resume={folder}"))
    (tmp_path / "again").mkdir()
    with pytest.raises(RunFailed, match=re.escape("(in step 120 of seed 4)")):
        train(resumed, tmp_path / "again")
