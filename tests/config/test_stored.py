"""Settings that a run has stored are read back as they were, by the names under which their schemas are registered."""

from dataclasses import asdict

import pytest
import yaml
from support import composed

from rlnet.config import ConfigError
from rlnet.config.stored import differences, from_stored

CASES = [
    ("algo=dqn", "algo.priority=0.6", "exploration=softmax", "schedule=cosine"),
    ("algo=ppo", "env=cartpole", "optimizer=sgd"),
    ("algo=mc", "env=random_walk", "gamma=0.9", "network=tabular"),
    ("algo=ppo", "exploration=entropy", "schedule=episodes"),
    ("algo=double_q_learning", "exploration=optimistic", "exploration.initial_value=3", "schedule=none"),
    ("algo=sarsa", "exploration=noisy", "schedule=none", "network=mlp"),
    ("algo=dapo", "env=tokens_nano", "network=causal_lm"),
]


def stored(folder, config):
    path = folder / ".hydra" / "config.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@pytest.mark.parametrize("overrides", CASES, ids=lambda overrides: overrides[0])
def test_a_stored_config_is_read_back_as_it_was(overrides, tmp_path):
    config = composed(*overrides)
    back = from_stored(stored(tmp_path, asdict(config)))
    assert asdict(back) == asdict(config)
    for group in ("env", "algo", "network", "exploration", "schedule", "optimizer"):
        assert type(getattr(back, group)) is type(getattr(config, group))


@pytest.mark.parametrize(
    ("group", "name", "said"),
    [
        ("network", "unknown", "network=unknown: there is none of this name"),
        ("algo", "unknown", "algo=unknown: allowed are"),
        ("exploration", "../../algo/dqn", r"exploration.name='../../algo/dqn': must be letters"),
    ],
)
def test_a_name_that_is_not_registered_is_told(group, name, said, tmp_path):
    config = asdict(composed("algo=dqn"))
    config[group]["name"] = name
    with pytest.raises(ConfigError, match=said):
        from_stored(stored(tmp_path, config))


@pytest.mark.parametrize(
    ("algo", "part", "key", "value"),
    [("rloo", "options", "resample", 0), ("grpo", "options", "ratio", "token"), ("ppo", "hyper", "value_clip", None)],
)
def test_a_run_that_is_older_than_a_setting_has_its_default_and_says_so(algo, part, key, value, tmp_path, caplog):
    config = composed(f"algo={algo}", *(("env=tokens_nano",) if part == "options" else ()))
    old = asdict(config)
    own = old["algo"][part].pop(key)
    assert value in (own, None)
    assert asdict(from_stored(stored(tmp_path, old))) == asdict(config)
    assert f"was written before there was algo.{part}.{key}; it is taken to be {own}" in caplog.text
    assert list(differences(config, old)) == []


def test_what_a_run_did_not_have_may_not_be_changed_when_it_goes_on():
    """Nor what it had: the setting is named that differs, not the group."""
    old = asdict(composed("env=tokens_nano", "algo=rloo"))
    del old["algo"]["options"]["resample"]
    now = composed("env=tokens_nano", "algo=rloo", "algo.options.resample=3", "algo.options.group=8")
    found = sorted(differences(now, old))
    assert found == [("algo.options.group", 8, 16), ("algo.options.resample", 3, 0)]
