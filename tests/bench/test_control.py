"""The script of returns: every row composes, and its table says what was evaluated."""

import json
import os

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
    config = composed(f"tuned={tuned}")
    skip_without_extras(config.env.name)
    short = (
        ("algo.rollout=16", "algo.minibatches=2")
        if config.algo.name == "ppo"
        else ("algo.learning_starts=1", "algo.updates=2")
    )
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


def test_two_members_have_no_interval(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "_returns", lambda row, steps, seeds: np.array([-20.0, -12.0]))
    assert control.run(2, None, str(tmp_path), "Pong")
    text = (tmp_path / "control.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["PongNoFrameskip-v4 double_dqn"] == {
        "steps": composed("tuned=pong_double_dqn").steps,
        "returns": [-20.0, -12.0],
        "iqm": -16.0,
        "interval": None,
    }


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
        ((None, None, "", ","), "--only ,: must be parts of the names CartPole-v1 dqn, "),
        ((None, None, "", "cartpole,Acrobat"), "--only cartpole,Acrobat: must be parts of the names CartPole-v1 dqn, "),
        ((None, None, __file__, ""), f"--out {__file__}: must be a folder, which cannot be made: File exists"),
        ((None, None, f"{__file__}/x", ""), f"--out {__file__}/x: must be a folder, which cannot be made: Not a dir"),
    ],
)
def test_options_that_cannot_be_used(options, said):
    with pytest.raises(ConfigError) as refused:
        control.run(*options)
    assert str(refused.value).startswith(said)


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # whatever the user may do
    with pytest.raises(ConfigError, match=r"^--out .*: must be a folder that can be written to$"):
        control.run(None, None, str(tmp_path), "")


@pytest.mark.parametrize("only", ["pendulum_sac", "PENDULUM", "pendulum-v1 sac, cartpole_ppo"])
def test_rows_are_chosen_by_parts_of_their_names_or_of_their_settings(only, monkeypatch, capsys):
    monkeypatch.setattr(control, "_returns", lambda row, steps, seeds: np.full(seeds, -150.0))
    assert control.run(2, None, "", only)
    rows = [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == ["| CartPole-v1 ppo"] * ("cartpole" in only) + ["| Pendulum-v1 sac"]
