"""Merged shards are the run of all their members; what does not fit together is refused in one sentence."""

import json
import shutil

import numpy as np
import pytest
import torch
from experiment.test_durable import assert_equal_runs
from support import composed, quick_rows

from rlnet.config import ConfigError
from rlnet.experiment.checkpoints import read_checkpoint
from rlnet.experiment.run_folder import commands
from rlnet.learning.merging import merge
from rlnet.learning.training_loop import train
from rlnet.report.page import write_page

SMALL = ("env=random_walk", "network=tabular", "algo.envs=2", "log_every=200", "compare_every=300", "compare_share=1")
SMALL += ("vary.gamma=[0.8,0.9]", "evaluation.every=200", "evaluation.episodes=2", "evaluation.final_episodes=3")
SMALL += ("checkpoint_every=200", "logger=none", "processes=1")


def trained(folder, seeds, seed=0, *more):
    options = (*SMALL, "steps=400", f"seeds={seeds}", f"seed={seed}", *more)
    train(composed(*options), folder, options)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, without_pictures):
    """The whole run, its shards in another order, and what they were merged into."""
    place = tmp_path_factory.mktemp("merging")
    shards = [trained(place / f"from_{seed}", 2, seed) for seed in (4, 2, 6)]
    whole, merged = trained(place / "whole", 6, 2), place / "merged"
    merge(shards, merged)
    return whole, shards, merged


def same_state(ours, theirs, path=""):
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"record", "compare"}:  # what a clock says
            same_state(ours[name], theirs[name], f"{path}.{name}")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), path
    else:
        assert ours == theirs, path


@pytest.mark.slow
def test_merged_shards_are_bit_for_bit_the_whole_run(runs):
    whole, _, merged = runs
    assert_equal_runs(merged, whole)
    same_state(*(read_checkpoint(folder / "checkpoint.pt") for folder in (merged, whole)))
    for name in ("evaluation.json", "evaluation.npz", "values.npz", ".hydra/config.yaml"):
        assert (merged / name).read_bytes() == (whole / name).read_bytes(), name
    assert {path.name for path in whole.iterdir()} - {path.name for path in merged.iterdir()} == {
        "checkpoint_previous.pt"
    }
    assert commands(merged)[-1]["overrides"][-2:] == ["seeds=6", "seed=2"]
    assert write_page(merged).is_file()


@pytest.mark.slow
def test_a_merged_run_goes_on_as_the_whole_one_does(runs, tmp_path):
    ends = []
    for folder in (runs[0], runs[2]):
        to = shutil.copytree(folder, tmp_path / folder.name)
        train(composed(*SMALL, "steps=800", "seeds=6", "seed=2", f"resume={to}"), to)
        ends.append(to)
    assert_equal_runs(*ends)


@pytest.mark.slow
def test_shards_of_whole_episodes_have_rows_at_steps_of_their_own(tmp_path):
    options = ("env=random_walk", "network=tabular", "algo=mc_control", "steps=400", "log_every=100", "logger=none")
    shards = [tmp_path / str(seed) for seed in (0, 2)]
    for shard in shards:
        train(composed(*options, "seeds=2", f"seed={shard.name}"), shard, ["seeds=2"])
    merge(shards, tmp_path / "merged")
    theta = [read_checkpoint(folder / "checkpoint.pt")["learner"]["theta"] for folder in (*shards, tmp_path / "merged")]
    assert torch.equal(torch.cat(theta[:2]), theta[2])
    assert write_page(tmp_path / "merged").is_file()


@pytest.mark.slow
def test_contests_and_endgames_of_board_games_are_merged_too(tmp_path):
    board = ("env=connect", "env.rows=4", "env.columns=4", "env.k=3", "env.max_states=10", "algo=ppo", "network=mlp")
    options = (*board, "network.hidden=[8]", "algo.envs=4", "algo.rollout=16", "steps=400", "evaluation.games=4")
    folders = [tmp_path / name for name in ("0", "1", "whole")]
    for folder, own in zip(folders, ("seed=0", "seed=1", "seeds=2"), strict=True):
        train(composed(*options, "logger=none", "processes=1", own), folder, [*options, own])
    merge(folders[:2], tmp_path / "merged")
    for name in ("evaluation.json", "evaluation.npz", "positions.npz"):
        assert (tmp_path / "merged" / name).read_bytes() == (folders[2] / name).read_bytes(), name
    assert "contests" in json.loads((tmp_path / "merged" / "evaluation.json").read_text())
    assert write_page(tmp_path / "merged").is_file()


def edit_yaml(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_values(path, change):
    values = dict(np.load(path))
    change(values)
    np.savez(path, **values)


def edit_column(path, name, value):
    lines = path.read_text().splitlines()
    k = lines[0].split(",").index(name)
    row = lines[1].split(",")
    lines[1] = ",".join([*row[:k], value, *row[k + 1 :]])
    path.write_text("\n".join(lines) + "\n")


CONFIG = ".hydra/config.yaml"


UNFIT = [
    (lambda run: edit_yaml(run / CONFIG, "steps: 400", "steps: 200"), "from_4: holds a run with steps=200, not 4"),
    (lambda run: edit_yaml(run / CONFIG, "seed: 4", "seed: 8"), "from_6: begins with seed 6; .* seed 4 to 5"),
    (lambda run: (run / "checkpoint.pt").unlink(), "from_4: its run has not finished; go on with: .* resume="),
    (lambda run: (run / "metrics.csv").unlink(), "from_4: its run has not finished"),
    (lambda run: shutil.copy(run.parent / "from_6/checkpoint.pt", run), "from_4/checkpoint.pt: is not of the run"),
    (lambda run: edit_column(run / "metrics.csv", "return/mean", "x"), "from_4/metrics.csv: is not the log"),
    (lambda run: edit_json(run / "comparison.json", lambda x: x.pop("members")), "is not the comparison"),
    (lambda run: edit_values(run / "values.npz", lambda x: x["visits"].__iadd__(1)), "does not fit the checkpoint"),
    (lambda run: edit_yaml(run / CONFIG, "plugins: []", "plugins: [stranger]"), "trust=true"),
    (lambda run: edit_yaml(run / CONFIG, "seed: 4", "seed: 3"), "from_4: holds seed 3, as does .*from_2 "),
    (lambda run: edit_yaml(run / CONFIG, "seeds: 2", "seeds: 1"), "no folder holds seed 5"),
    (lambda run: (run / "comparison.json").unlink(), "from_4: its run has not finished"),
    (lambda run: (run / "checkpoint.pt").write_bytes(b"PK"), "from_4/checkpoint.pt: cannot be read"),
    (lambda run: shutil.copy(run.parent / "from_6/metrics.csv", run), "from_4/metrics.csv: is not the log"),
    (lambda run: edit_json(run / "comparison.json", lambda x: x["members"].pop()), "3 members, not 4"),
    (lambda run: edit_json(run / "evaluation.json", lambda x: x["members"].pop()), "is not the evaluation"),
    (lambda run: edit_values(run / "values.npz", lambda x: x.pop("q")), "values.npz: holds other names"),
    (lambda run: (run / "link").symlink_to("/etc"), "link: is a link"),
]


@pytest.mark.parametrize(("change", "said"), quick_rows(UNFIT, len(UNFIT) // 4))
def test_what_does_not_fit_together_is_refused_and_nothing_is_written(change, said, runs, tmp_path):
    copies = [shutil.copytree(run, tmp_path / run.name) for run in runs[1]]
    change(copies[0])
    with pytest.raises(ConfigError, match=said):
        merge(copies, tmp_path / "merged")
    assert not (tmp_path / "merged" / "metrics.csv").exists()
    assert not (tmp_path / "merged" / ".merging").exists()


def test_folders_that_are_no_shards_are_refused(runs, tmp_path):
    whole, shards, merged = runs
    with pytest.raises(ConfigError, match="from_4: is named twice; name each run once"):
        merge([shards[0], shards[1], shards[0].parent / "whole" / ".." / "from_4"], tmp_path / "merged")
    with pytest.raises(ConfigError, match="from_4: is a single run; name at least two"):
        merge(shards[:1], tmp_path / "merged")
    with pytest.raises(ConfigError, match="there is no such file; name the folder of a run"):
        merge([shards[0], tmp_path / "nowhere"], tmp_path / "merged")
    before = (merged / "metrics.csv").read_bytes()
    for folder in (merged, whole, shards[0]):
        with pytest.raises(ConfigError, match="already holds a run; choose another folder"):
            merge(shards, folder)
    assert (merged / "metrics.csv").read_bytes() == before
