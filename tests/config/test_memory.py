"""What cannot fit into memory is refused at once, with an estimate and the setting that decides it; what fits runs."""

import pytest
from support import composed

from rlnet.config import ConfigError, memory


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["seeds=1000000000"], "seeds="),
        (["env=random_walk", "env.length=1000000000"], "env.length="),
        (["algo=dqn", "algo.capacity=1000000000000"], "algo.capacity="),
        (["network.hidden=[1000000,1000000]"], "network.hidden="),
        (["vary.gamma=[0.1,0.2,0.3]", "seeds=500000000"], "seeds="),
        (["algo.envs=1000000000", "algo.rollout=1000"], "algo.envs="),
        (["env=maximisation_bias", "env.actions=10000000000"], "env.actions="),
    ],
)
def test_what_cannot_fit_names_its_setting_and_its_size(overrides, key):
    with pytest.raises(ConfigError, match=r"needs about [\d.,e+]+ [MGT]iB of memory") as refused:
        composed(*overrides)
    assert str(refused.value).startswith(key)


def test_an_exact_solution_of_too_many_states_is_refused():
    with pytest.raises(ConfigError, match=r"env.length=1000000000 env.jump=1: needs about"):
        composed("env=random_walk", "env.length=1000000000", name="solve")


def test_the_limit_is_the_memory_that_is_there(monkeypatch):
    parts = {"a": 2.0**30, "b": 2.0**31}
    monkeypatch.setattr(memory, "available", lambda: 3.0 * 2**30)
    memory.require_memory(parts)
    monkeypatch.setattr(memory, "available", lambda: 3.0 * 2**30 - 1)
    with pytest.raises(ConfigError, match=r"b: needs about 2 GiB of memory, of about 3 GiB in all"):
        memory.require_memory(parts)


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "..", "x\x1b[31m", "<script>", "a b"])
def test_names_that_files_are_named_after_are_plain(name):
    with pytest.raises(ConfigError, match=r"env.name="):
        composed(f"env.name={name!r}")
