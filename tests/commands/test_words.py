"""What people type: whole numbers in any notation are read; words that are no settings get a sentence that helps."""

import re

import pytest
from commands.test_command_line import script
from programs import python
from support import composed

from rlnet.commands.arguments import readable
from rlnet.commands.key_values import on_folder, truth
from rlnet.config import ConfigError


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("steps=1e5", "steps=100000"),
        ("steps=1.5e5", "steps=150000"),
        ("steps=150_000", "steps=150_000"),
        ("algo.capacity=5e4", "algo.capacity=50000"),
        ("gamma=1e-1", "gamma=1e-1"),
        ("optimizer.learning_rate=1e3", "optimizer.learning_rate=1e3"),
        ("-m", "-m"),
        ("~env.cells.P", "~env.cells.P"),
    ],
)
def test_whole_numbers_in_any_notation_are_integers(typed, read):
    assert readable([typed]) == [read]


@pytest.mark.parametrize(("typed", "sentence"), [("steps=1.55e1", "whole number"), ("gridworld", "must be KEY=VALUE")])
def test_what_cannot_be_read_is_said(typed, sentence):
    with pytest.raises(ConfigError, match=sentence):
        readable(["env=cliff", typed])


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("train", ["tuned=cartpole_ppo", "env=gridworld"], "these settings were tuned to env=cartpole"),
        ("compare", ["sweep"], "is a sweep of 2 runs (0, 1); name one of them, or python scripts/report.py sweep"),
    ],
)
def test_what_does_not_belong_together_is_said(name, arguments, said, tmp_path):
    for run in ("0", "1"):
        (tmp_path / "sweep" / run).mkdir(parents=True)
        (tmp_path / "sweep" / run / "metrics.csv").write_text("step\n")
    ended = script(name, *arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_only_what_is_missing_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["rlnet"])
    with pytest.raises(SystemExit, match="2"):
        on_folder("compare", "", {"trust": truth}, {"trust": False}, lambda folder, chosen: 0)
    assert capsys.readouterr().err.endswith("the following arguments are required: folder\n")


def test_an_open_group_is_given_key_by_key_or_as_a_whole():
    one = composed("env=cartpole", "env.kwargs.render_mode=ansi", "env.kwargs.sutton_barto_reward=true")
    whole = composed("env=cartpole", "env.kwargs={render_mode: ansi, sutton_barto_reward: true}")
    assert one.env.kwargs == whole.env.kwargs == {"render_mode": "ansi", "sutton_barto_reward": True}
    assert composed("vary={gamma: [0.9, 0.5]}").vary == {"gamma": [0.9, 0.5]}


@pytest.mark.parametrize(
    ("command", "groups", "setting"),
    [
        (["train"], ["env", "algo", "network", "exploration", "schedule", "optimizer", "tuned", "search"], "seeds: 1"),
        pytest.param(["solve"], ["env"], "horizon: null", marks=pytest.mark.slow),
        pytest.param(["audit"], ["env"], "samples: 200000", marks=pytest.mark.slow),
        pytest.param(["audit", "trl=all"], [], "beta: 0.3", marks=pytest.mark.slow),
    ],
)
def test_help_lists_the_groups_that_a_command_has_and_no_others(command, groups, setting, tmp_path):
    said = python("-m", "rlnet", *command, "--help", cwd=tmp_path).stdout
    assert said.startswith(f"rlnet {' '.join(command).removesuffix('all')}")
    assert re.findall(r"^(\S+): [a-z].*, ", said, re.MULTILINE) == groups
    assert setting in said
    assert "schema" not in said
