"""`rlnet.load`: the policy of a folder is the policy that training gave, for every kind of network and acting."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from support import composed, quick

import rlnet
from rlnet.experiment.solve_job import solve_and_write

pytestmark = pytest.mark.usefixtures("without_pictures")

WALK = ("env=random_walk", "algo.envs=2", "log_every=1000")
SEEN = {
    "walk": np.arange(19),
    "cartpole": np.random.default_rng(0).normal(size=(40, 4)),
    "pendulum": np.random.default_rng(0).normal(size=(40, 3)),
}
RUNS = {
    "epsilon-greedy table": ("walk", (*WALK, "algo=q_learning", "network=tabular"), 600),
    "count bonus": ("walk", (*WALK, "algo=q_learning", "network=tabular", "exploration=count_bonus"), 300),
    "noisy network": ("walk", (*WALK, "algo=q_learning", "network=mlp", "exploration=noisy", "schedule=none"), 600),
    "prediction": ("walk", (*WALK, "algo=td0", "network=linear"), 600),
    "double": ("walk", (*WALK, "algo=double_q_learning", "network=tabular"), 600),
    "soft values": ("walk", (*WALK, "algo=soft_q", "gamma=0.9", "algo.learning_starts=100"), 300),
    "policy network": ("cartpole", ("env=cartpole", "algo=ppo"), 1024),
    "real actions": ("pendulum", ("env=pendulum", "algo=sac", "gamma=0.9", "algo.learning_starts=64"), 100),
    "vary": ("walk", (*WALK, "algo=q_learning", "network=tabular", "vary.learning_rate=[0.1,0.01]"), 600),
}


def answers(policy, seen) -> dict[str, np.ndarray]:
    """All that a policy says of observations; of what it has not, the sentence."""
    found = {}
    for name in ("value", "q", "probabilities"):
        try:
            found[name] = getattr(policy, name)(seen)
        except ValueError as error:
            found[name] = str(error)
    policy.reseed(3)
    return found | {"best": policy(seen), "sampled": np.stack([policy(seen, sample=True) for _ in range(5)])}


@pytest.mark.parametrize("kind", quick(RUNS, ["count bonus", "policy network"]))
def test_what_is_loaded_is_what_was_trained(kind, tmp_path):
    seen, overrides, steps = RUNS[kind]
    result = rlnet.train(*overrides, steps=steps, seeds=2, folder=tmp_path / "run")
    for member in range(len(result.config.member_seeds)):
        own, loaded = result.member(member), rlnet.load(tmp_path / "run", member)
        for name, wanted in answers(own, SEEN[seen]).items():
            np.testing.assert_array_equal(answers(loaded, SEEN[seen])[name], wanted, err_msg=name)
    assert not torch.equal(result.member(0).trained.theta, result.member(1).trained.theta)


def test_values_are_those_of_the_judged_policy(tmp_path):
    result = rlnet.train(*WALK, "algo=q_learning", "network=tabular", steps=2_000, folder=tmp_path / "run")
    policy, q = rlnet.load(tmp_path / "run"), result.values["q"][0]
    np.testing.assert_allclose(policy.q(np.arange(19)), q, rtol=1e-6)
    np.testing.assert_allclose(policy.value(np.arange(19)), q.max(1), rtol=1e-6)
    np.testing.assert_allclose(policy.probabilities(np.arange(19)), result.values["pi"][0], atol=1e-6)
    assert policy(3).shape == policy.value(3).shape == ()
    drawn = np.array([policy([9] * 500, sample=True).mean() for _ in range(8)])
    wanted = policy.probabilities(9, sample=True)[1]
    assert abs(drawn.mean() - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / 4_000) + 1e-9


@pytest.mark.slow
def test_expected_sarsa_predicts_the_value_of_acting_with_its_exploration():
    constant = ("schedule=constant", "schedule.value=0.3")
    result = rlnet.train(*WALK, "algo=expected_sarsa", "network=tabular", *constant, steps=1_000)
    q = result.values["q"][0]
    wanted = 0.7 * q.max(1) + 0.3 * q.mean(1)
    np.testing.assert_allclose(result.policy.value(np.arange(19)), wanted, rtol=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    rlnet.train(*WALK, "algo=q_learning", "network=tabular", "checkpoint_every=500", steps=1_000, folder=folder)
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(folder, caplog):
    newest = folder / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert rlnet.load(folder).q(0).shape == (2,)
    assert "checkpoint.pt: cannot be read" in caplog.text
    assert "using checkpoint_previous.pt" in caplog.text
    (folder / "checkpoint_previous.pt").write_bytes(b"nothing")
    with pytest.raises(rlnet.ConfigError, match=r"checkpoint\.pt: cannot be read.*checkpoint_previous\.pt: cannot be"):
        rlnet.load(folder)


def test_folders_that_hold_no_policy_are_refused_in_a_sentence(folder, tmp_path):
    with pytest.raises(rlnet.ConfigError, match="there is no such folder"):
        rlnet.load(tmp_path / "nowhere")
    with pytest.raises(rlnet.ConfigError, match=r"is a sweep of 1 runs \(run\); name one of them"):
        rlnet.load(tmp_path)
    solved = tmp_path / "solved"
    solved.mkdir()
    solve_and_write(composed("env=random_walk", name="solve"), solved)
    with pytest.raises(rlnet.ConfigError, match="holds what rlnet solve wrote"):
        rlnet.load(solved)
    for member in (1, -1, True):
        with pytest.raises(rlnet.ConfigError, match=rf"member={member}: must be in 0\.\.0"):
            rlnet.load(folder, member)
    with pytest.raises(rlnet.ConfigError, match="device=gpu: must be cpu, cuda or cuda:N"):
        rlnet.load(folder, device="gpu")
    config = OmegaConf.load(folder / ".hydra" / "config.yaml")
    OmegaConf.save({**config, "env": {**config.env, "length": 7}}, folder / ".hydra" / "config.yaml")
    with pytest.raises(rlnet.ConfigError, match=r"checkpoint\.pt: does not fit the settings of its run"):
        rlnet.load(folder)
    for path in folder.glob("checkpoint*.pt"):
        path.unlink()
    with pytest.raises(rlnet.ConfigError, match=r"holds no checkpoint\.pt"):
        rlnet.load(folder)


def test_a_folder_from_elsewhere_imports_nothing_without_trust(folder, tmp_path, monkeypatch):
    (tmp_path / "rlnet_test_loaded.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = folder / ".hydra" / "config.yaml"
    config = OmegaConf.load(path)
    own = {"name": "module", "initial_value": 0.0, "dueling": False, "target": "rlnet_test_loaded.Net"}
    network = {**own, "kwargs": {}, "shape": [], "input": "one_hot"}
    OmegaConf.save({**config, "network": network, "trust": True}, path)
    with pytest.raises(rlnet.ConfigError, match="would be imported; add trust=true"):
        rlnet.load(folder)
    with pytest.raises(SystemExit, match="imported"):
        rlnet.load(folder, trust=True)
