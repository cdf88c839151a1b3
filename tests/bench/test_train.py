"""The measurement of training: small numbers, rlnet alone, and a peer that is not there."""

import json
import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from support import quick_rows
from torch.utils.flop_counter import FlopCounterMode

from rlnet.bench import train, train_peer, train_process, train_shares, train_tables
from rlnet.bench.train_process import DQN, LEARNS, PPO
from rlnet.bench.train_start import EXACT


def plan(**changes) -> train.Plan:
    settings = {"peers": sys.executable, "rounds": 2, "members": (1, 2), "seconds": 0.05, "seeds": 1}
    return train.Plan(**settings | {"learners": ("rlnet_run",)} | changes)


@pytest.mark.slow
def test_rates_are_measured_and_a_missing_peer_is_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "cores_used", lambda: [{max(os.sched_getaffinity(0))}])
    monkeypatch.setitem(LEARNS, "nowhere", {"ppo": "one"})
    (tmp_path / "train.json").write_text(json.dumps({"start": [{"failed": "kept"}]}))
    train.run(plan(learners=("rlnet_run", "nowhere")), str(tmp_path), "ppo")
    said = capsys.readouterr().out
    assert "NOT MEASURED: ppo, learner=nowhere, members=1, cores=1: ModuleNotFoundError" in said
    parts = json.loads((tmp_path / "train.json").read_text())
    assert parts["start"] == [{"failed": "kept"}]  # of an earlier call
    ours = [row for row in parts["ppo"] if row["learner"] == "rlnet_run"]
    assert [row["members"] for row in ours] == [1, 2]
    assert all(row["steps_per_second"] > 100 and row["machine"] for row in ours)
    assert (tmp_path / "train.png").stat().st_size > 10_000


def test_a_learner_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(train_process, "PATIENCE", 0.5)
    spec = {"learner": "rlnet_run", "kind": "ppo", "members": 1, "mode": "turns", "seconds": 0.1}
    process = train_process.Process(sys.executable, 1, {max(os.sched_getaffinity(0))}, **spec)
    try:
        with pytest.raises(train_process.Failed, match=r"no answer within 0\.5 s"):
            process.answer()  # importing torch alone takes longer
    finally:
        process.close()


def test_an_unknown_part_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="--only speed: allowed are ppo"):
        train.run(plan(), str(tmp_path), "speed")


@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_operations_of_an_update_are_those_that_torch_counts(kind):
    numbers = PPO if kind == "ppo" else DQN
    rows = numbers["envs"] * numbers["rollout"] // numbers["minibatches"] if kind == "ppo" else numbers["batch"]

    def network(outputs):
        layers = torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh()
        return torch.nn.Sequential(*layers, torch.nn.Linear(64, outputs))

    obs = torch.randn(rows, 4)
    with FlopCounterMode(display=False) as counter:
        if kind == "ppo":
            (network(2)(obs).sum() + network(1)(obs).sum()).backward()
            updates = numbers["epochs"] * numbers["minibatches"] / (numbers["envs"] * numbers["rollout"])
        else:
            with torch.no_grad():
                network(2)(obs)
            network(2)(obs).sum().backward()
            updates = 1 / numbers["train"]
    assert train_shares.operations(kind, numbers, 4, 2) == pytest.approx(counter.get_total_flops() * updates)


def test_mean_return_is_that_of_the_greedy_policy():
    # Push towards where the pole falls: from the rule of Gymnasium itself, one episode after the other.
    weight = np.array([[0, 0], [0, 0.1], [0, 1], [0, 1]], np.float32)
    rule = [(weight, np.zeros(2, np.float32))]
    assert train_peer.mean_return(rule) == 500
    left = [(np.zeros((4, 2), np.float32), np.array([1, 0], np.float32))]
    env, lengths = gymnasium.make("CartPole-v1"), []
    for seed in range(200):
        env.reset(seed=seed)
        ended, steps = False, 0
        while not ended:
            *_, ended, _, _ = env.step(0)
            steps += 1
        lengths.append(steps)
    assert abs(train_peer.mean_return(left) - np.mean(lengths)) < 5 * np.std(lengths) / 20**0.5


def test_a_look_ends_when_it_cannot_succeed_any_more():
    pole = np.array([[0, 0], [0, 0.1], [0, 1], [0, 1]], np.float32)
    rng = np.random.default_rng(0)
    policies = [[(pole + rng.normal(0, 0.5, (4, 2)).astype(np.float32), np.zeros(2, np.float32))] for _ in range(12)]
    means = np.array([train_peer.mean_return(policy) for policy in policies])
    assert (means < 475).any()
    assert (means >= 475).any()
    seen = np.array([train_peer.mean_return(policy, 475) for policy in policies])
    np.testing.assert_array_equal(seen >= 475, means >= 475)
    np.testing.assert_array_equal(seen[means >= 475], means[means >= 475])
    assert (seen >= means).all()


def test_time_is_booked_where_it_is_spent():
    def replay_sample():
        return train_shares.part_of(sys._getframe())

    # A function of the file that a part is told by.
    code = compile("def sample(): return inner()", "/x/rlnet/data/replay_buffer.py", "exec")
    names = {"inner": replay_sample}
    exec(code, names)
    assert names["sample"]() == "sampling"
    assert replay_sample() == "other"


def test_goals_are_ratios_of_what_was_measured():
    def row(learner, members, rate):
        return {"kind": "ppo", "cores": 1, "learner": learner, "members": members, "steps_per_second": rate}

    rows = [row("rlnet_run", 1, 20.0), row("rlnet_run", 64, 160.0), row("sb3", 1, 5.0), row("cleanrl", 1, 8.0)]
    said = train_tables.goals("ppo", [*rows, row("rejax", 64, 100.0)])
    assert any("fastest of sb3, cleanrl, tianshou, at least 3×: 2.50 (missed)" in line for line in said)
    assert any("over rejax, its compilation excluded, at least 1×: 1.60 (reached)" in line for line in said)
    assert any("1 core: 64 members cost at most 12× one: 8.00 (reached)" in line for line in said)
    twice = [
        one | {"cores": 2, "steps_per_second": 2 * one["steps_per_second"]} for one in rows if one["members"] == 64
    ]
    said = train_tables.goals("ppo", [*rows, *twice, row("rejax", 64, 200.0), row("rejax", 64, 200.0) | {"cores": 2}])
    assert [line.split(" (")[0] for line in said if "rejax" in line] == [
        "goal: 1 core: M = 64 over rejax, its compilation excluded, at least 1×: 0.80",
        "goal: 2 cores: M = 64 over rejax, its compilation excluded, at least 1×: 1.60",
    ]


@pytest.mark.parametrize(
    ("overrides", "used"), quick_rows([(("env=gridworld",), EXACT), (("env=cartpole", "algo=ppo"), ())], 0)
)
def test_the_first_update_waits_for_nothing_that_it_does_not_use(overrides, used, tmp_path):
    command = [sys.executable, "-m", "rlnet.bench.train_start", "0", *overrides, f"hydra.run.dir={tmp_path}/run"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["modules"] == list(used)  # of those named in HEAVY and EXACT
