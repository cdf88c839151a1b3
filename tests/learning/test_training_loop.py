"""Whole runs: their files, the same seed twice, going on from a checkpoint, scoring again."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from support import composed, make_run, quick, update

from rlnet.config import ConfigError
from rlnet.experiment.comparison_files import rescore
from rlnet.learning.training_loop import train

SMALL = ("env=random_walk", "algo.envs=4", "steps=2000", "log_every=400", "compare_every=800", "checkpoint_every=1000")


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = train(composed(*SMALL, "seeds=2", "gamma=0.9"), folder)
    return folder, result


def test_a_run_leaves_its_files(finished):
    folder, result = finished
    assert all(path.is_file() for path in result.files)
    names = {path.name for path in folder.iterdir()}
    assert {"metrics.csv", "comparison.json", "values.npz", "checkpoint.pt", ".hydra"} <= names
    assert not any(name.endswith(".part") for name in names)


def test_metrics_hold_every_scalar_for_every_member(finished):
    table = rows(finished[0])
    assert [(row["member"], row["seed"]) for row in table[:2]] == [("0", "0"), ("1", "1")]
    assert [int(row["step"]) for row in table[::2]] == [400, 800, 1200, 1600, 2000]
    wanted = {
        "return/mean", "return/discounted", "episode/length", "loss/total", "loss/td_error", "explore/epsilon",
        "exact/v_rmse", "exact/v_max", "exact/q_rmse", "exact/q_bias", "exact/bellman_residual", "exact/return",
        "exact/optimal_return", "exact/regret", "exact/optimal_action_rate", "exact/coverage", "exact/v_rmse_uniform",
        "exact/q_rmse_uniform", "optimizer/learning_rate",
    }  # fmt: skip
    assert wanted <= set(table[0])
    compared = [int(row["step"]) for row in table[::2] if row["exact/regret"]]
    assert compared == [800, 1600, 2000]
    assert float(table[0]["explore/epsilon"]) == pytest.approx(1 - 0.95 * 400 / 2000)


def test_values_hold_learned_and_exact_side_by_side(finished):
    folder, result = finished
    values = np.load(folder / "values.npz")
    mdp = result.run.problem.environment.mdp
    shape = (2, mdp.n_states, mdp.n_actions)
    assert values["q"].shape == values["q_exact"].shape == values["pi"].shape == values["visits"].shape == shape
    assert values["v"].shape == values["v_exact"].shape == shape[:2]
    np.testing.assert_array_equal(values["v_exact"][1], result.run.problem.solutions[1].v)
    assert values["visits"].sum() == 2 * 2000
    np.testing.assert_array_equal(values["gamma"], [0.9, 0.9])


def test_stored_values_are_those_that_were_learned(finished):
    folder, result = finished
    values, problem = np.load(folder / "values.npz"), result.run.problem
    alive = ~problem.environment.mdp.terminal
    np.testing.assert_array_equal(values["v"][:, alive], values["q"].max(-1)[:, alive])
    np.testing.assert_array_equal(values["q"], result.run.tables().q)
    np.testing.assert_array_equal(values["pi_exact"][0], problem.solutions[0].policy)
    last = [row for row in rows(folder) if row["step"] == "2000"]
    for m, row in enumerate(last):  # the last row was compared at the end, not at the cadence before it
        assert float(row["exact/q_rmse"]) == result.scalars["exact/q_rmse"][m]
    checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert torch.equal(checkpoint["learner"]["theta"], result.run.learner.theta)
    assert checkpoint["steps"].tolist() == [2000, 2000]


def test_a_run_ends_when_every_member_has_done_its_steps(tmp_path):
    options = ("env=random_walk", "gamma=0.9", "algo=mc", "seeds=3", "steps=300", "algo.envs=2")
    result = train(composed(*options), tmp_path / "run")
    steps = result.run.steps
    assert (steps >= 300).all()
    assert len(set(steps.tolist())) > 1, "members whose episodes differ in length do not end together"
    values = np.load(tmp_path / "run" / "values.npz")
    np.testing.assert_array_equal(values["pi_exact"][2], result.run.problem.solutions[2].policy)


def test_the_final_scores_are_reproduced_from_the_files(finished):
    folder, result = finished
    again = rescore(folder)
    assert again.difference == 0.0
    stored = json.loads((folder / "comparison.json").read_text())
    assert stored["compared_with"] == "V*, Q*"
    for m, member in enumerate(stored["members"]):
        assert member["scores"]["exact/q_rmse"] == again.scalars["exact/q_rmse"][m]
        assert member["scores"]["exact/q_rmse"] == result.scalars["exact/q_rmse"][m]


def test_a_changed_value_is_noticed(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    values = dict(np.load(folder / "values.npz"))
    values["q"][0, 3, 0] += 0.1
    np.savez(folder / "values.npz", **values)
    assert rescore(folder).difference > 1e-6


def test_tensorboard_receives_scalars_images_and_hparams(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished[0]), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"return/mean", "loss/total", "exact/q_rmse", "exact/regret", "explore/epsilon"} <= set(tags["scalars"])
    assert tags["images"] == ["values"]
    assert [image.step for image in events.Images("values")] == [0, 2000]
    assert "_hparams_/session_start_info" in events.summary_metadata
    table = [row for row in rows(finished[0]) if row["step"] == "2000"]
    mean = np.mean([float(row["exact/q_rmse"]) for row in table])
    assert events.Scalars("exact/q_rmse")[-1].value == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("algo", quick(["q_learning", "sarsa", "reinforce"], ["reinforce"]))
def test_the_same_seed_gives_the_same_run_bit_for_bit(algo, tmp_path):
    config = composed(*SMALL, f"algo={algo}", "algo.rollout=50", "gamma=0.9")
    first, second = train(config, tmp_path / "a"), train(config, tmp_path / "b")
    assert torch.equal(first.run.learner.theta, second.run.learner.theta)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    other = train(composed(*SMALL, f"algo={algo}", "algo.rollout=50", "gamma=0.9", "seed=1"), tmp_path / "c")
    assert not torch.equal(first.run.learner.theta, other.run.learner.theta)


@pytest.mark.parametrize("algo", quick(["q_learning", "sarsa", "reinforce", "mc"], 2))
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(algo, tmp_path):
    """The checkpoint at half of the run, restored into a fresh process state, leads to the same bits."""
    options = (*SMALL, f"algo={algo}", "algo.rollout=50", "gamma=0.9")
    whole = make_run(*options)
    half = make_run(*options)
    update(half, 5)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed = make_run(*options)
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    update(resumed, 5)
    update(whole, 10)
    assert torch.equal(whole.learner.theta, resumed.learner.theta)
    assert torch.equal(whole.visits, resumed.visits)


@pytest.mark.slow
def test_resume_into_another_folder_copies_the_record_and_keeps_the_old_one(finished, tmp_path):
    folder, _ = finished
    before = (folder / "metrics.csv").read_bytes()
    options = (*SMALL, "seeds=2", "gamma=0.9", f"resume={folder}", "steps=2800")
    result = train(composed(*options), tmp_path / "more")
    steps = [int(row["step"]) for row in rows(tmp_path / "more")]
    assert steps[::2] == [400, 800, 1200, 1600, 2000, 2400, 2800]
    assert rows(tmp_path / "more")[: len(rows(folder))] == rows(folder)
    assert (folder / "metrics.csv").read_bytes() == before
    assert result.run.steps.tolist() == [2800, 2800]


def test_resume_refuses_other_settings(finished, tmp_path):
    config = composed(*SMALL, "seeds=2", "gamma=0.8", f"resume={finished[0]}")
    with pytest.raises(ConfigError, match=r"gamma=0.8: a resumed run keeps its settings; .*it was 0.9"):
        train(config, tmp_path / "other")


def test_a_folder_that_holds_a_run_is_refused_and_untouched(finished):
    folder, _ = finished
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="already holds a run"):
        train(composed(*SMALL), folder)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_environments_without_a_model_train_too(tmp_path):
    result = train(composed("env=cartpole", "steps=2000", "algo.envs=2", "seeds=2", "log_every=500"), tmp_path / "run")
    assert result.scored is None
    assert not (tmp_path / "run" / "values.npz").exists()
    assert "return/mean" in result.scalars
    with pytest.raises(ConfigError, match="has no finite model"):
        rescore(tmp_path / "run")


@pytest.mark.slow
def test_the_main_job_learns_the_truth_for_ten_seeds():
    """`python scripts/train.py env=gridworld`: regret 0 and Q within 2 % of the range of Q*, seeds 0 to 9."""
    state = make_run("env=gridworld", "seeds=10")
    while int(state.steps.min()) < state.config.steps:
        update(state)
    scalars = state.compare()[1].scalars
    q = state.problem.solutions[0].q
    assert (np.abs(scalars["exact/regret"]) <= 1e-6).all()
    assert (scalars["exact/q_rmse"] <= 0.02 * np.ptp(q[np.isfinite(q)])).all()
