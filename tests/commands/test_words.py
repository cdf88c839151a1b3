"""What people type: whole numbers in any notation are read; words that are no settings get a sentence that helps."""

import pytest

from rlnet.commands.command_line import _readable
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
    assert _readable([typed]) == [read]


@pytest.mark.parametrize(("typed", "sentence"), [("steps=1.55e1", "whole number"), ("gridworld", "must be KEY=VALUE")])
def test_what_cannot_be_read_is_said(typed, sentence):
    with pytest.raises(ConfigError, match=sentence):
        _readable(["env=cliff", typed])
