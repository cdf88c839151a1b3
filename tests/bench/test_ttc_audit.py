"""The audit of highway-env's time-to-collision table."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from rlnet.bench.ttc_audit import SAYS, audit, main, table_of
from rlnet.config import ConfigError
from rlnet.mdp import solve

ABSENT = find_spec("highway_env") is None


@pytest.mark.skipif(not ABSENT, reason="highway-env is installed")
def test_without_the_package_one_sentence_says_what_to_install():
    with pytest.raises(ConfigError, match=r"needs highway_env, which is not installed: pip install 'rlnet\[highway\]'"):
        audit("highway-fast-v0", 1)


@pytest.mark.skipif(ABSENT, reason="highway-env is not installed")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["merge-v1", "1"],
            "error: ENV_ID=merge-v1: allowed are highway-v0, highway-fast-v0, whose rewards",
        ),
        (["CartPole-v1"], "error: ENV_ID=CartPole-v1: allowed are"),
        (["highway-fast-v0", "0"], "error: EPISODES=0: must be at least 1"),
        (["highway-fast-v0", "x"], "argument episodes: invalid int value: 'x'"),
    ],
)
def test_what_it_cannot_audit_is_said_in_a_sentence(words, sentence, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ttc_audit", *words])
    try:
        code = main()
    except SystemExit as stopped:  # of argparse
        code = stopped.code
    assert code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(ABSENT, reason="highway-env is not installed")
def test_the_table_is_that_of_highway_env_and_says_too_little():
    import gymnasium
    import highway_env  # noqa: F401 (registers)

    env = gymnasium.make("highway-fast-v0")
    env.reset(seed=0)
    table = table_of(env.unwrapped)
    speed, lane, now = np.unravel_index(table.state, table.grid.shape)
    assert now == 0
    following = [np.unravel_index(table.after(action), table.grid.shape) for action in range(5)]
    assert following[1] == (speed, lane, 1)  # idle: a second later at the same speed in the same lane
    assert following[3] == (min(speed + 1, table.grid.shape[0] - 1), lane, 1)
    assert following[4] == (max(speed - 1, 0), lane, 1)
    assert solve(table.mdp, 0.8).v[table.state] > 0
    found = audit("highway-fast-v0", 1)
    assert 1 <= sum(found["steps"].values()) <= 30
    assert {says for says, _ in found["steps"]} <= set(SAYS.values())
    assert found["crashes"] == sum(count for (_, crashed), count in found["steps"].items() if crashed)
