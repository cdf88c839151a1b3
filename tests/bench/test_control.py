"""The script of returns: every row composes, and its table says what was evaluated."""

import json

import numpy as np
import pytest
from support import composed, make_run, quick, skip_without_extras, update

from rlnet.bench import control
from rlnet.config import ConfigError


@pytest.mark.parametrize("name", control.ROWS)
def test_the_settings_of_every_row_are_tuned_to_its_task(name):
    config = composed(f"tuned={control.ROWS[name].tuned}")
    task, algo = name.split()
    assert (config.env.id.split(":")[-1], config.algo.name) == (task, algo)


TUNED = [row.tuned for row in control.ROWS.values()]


@pytest.mark.parametrize("tuned", quick(TUNED, ["cartpole_dqn", "acrobot_ppo", "pendulum_sac"]))
def test_what_is_tuned_learns_from_its_first_steps(tuned):
    task, algo = tuned.rsplit("_", 1)
    skip_without_extras(task)
    short = ("algo.rollout=16", "algo.minibatches=2") if algo == "ppo" else ("algo.learning_starts=1", "algo.updates=2")
    run = make_run(f"tuned={tuned}", "seeds=2", "steps=2_000", *short)
    first = run.learner.theta.clone()
    update(run, times=3)
    assert run.learner.theta.isfinite().all()
    assert (run.learner.theta != first).any(dim=1).all()


def test_a_row_is_a_population_and_its_mean(tmp_path, capsys):
    assert control.run(3, 300, str(tmp_path), "CartPole-v1 ppo")
    stored = json.loads((tmp_path / "control.json").read_text())["CartPole-v1 ppo"]
    assert len(stored["returns"]) == 3
    assert stored["iqm"] == np.mean(stored["returns"])  # of three members: no quarter can be left out
    assert stored["interval"][0] <= stored["iqm"] <= stored["interval"][1]
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert line.startswith("| CartPole-v1 ppo | 300 | 3 |")


def test_rows_of_an_environment_that_is_not_installed_are_left_out(monkeypatch, tmp_path, capsys):
    def missing(row, steps, seeds):
        if row.tuned == "cartpole_ppo":
            raise ConfigError("env.id=CartPole-v1: a package is missing")
        return np.full(seeds, 480.0)

    monkeypatch.setattr(control, "_returns", missing)
    assert not control.run(4, None, str(tmp_path), "CartPole-v1")
    assert list(json.loads((tmp_path / "control.json").read_text())) == ["CartPole-v1 dqn"]
    said = capsys.readouterr()
    assert said.err == "CartPole-v1 ppo: env.id=CartPole-v1: a package is missing\n"
    assert [line.split(" | ")[:4] for line in said.out.splitlines()[2:]] == [
        ["| CartPole-v1 dqn", f"{composed('tuned=cartpole_dqn').steps:,}", "4", "480"]
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((None, None, "", "Acrobat"), "--only Acrobat: must be parts of the names CartPole-v1 dqn, "),
        ((0, None, "", ""), "--seeds 0: must be at least 1"),
        ((None, -1, "", ""), "--steps -1: must be at least 1"),
    ],
)
def test_options_that_cannot_be_used(options, said):
    with pytest.raises(ConfigError) as refused:
        control.run(*options)
    assert str(refused.value).startswith(said)
