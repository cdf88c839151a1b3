"""A run whose seeds are divided into shards: the arguments of its sweep, and the result."""

import pytest
from commands.test_command_line import FAST, script
from commands.test_sweeps import same_results

from rlnet.commands.sharding import split
from rlnet.config import ConfigError

WHERE = "hydra.sweep.dir='${hydra.run.dir}/shards'"


@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("seeds=12 shards=3", f"-m seeds=4 seed=0,4,8 {WHERE}"),
        ("seed=5 seeds=12 shard_size=6 gamma=0.9", f"-m gamma=0.9 seeds=6 seed=5,11 {WHERE}"),
        ("seeds=12 shard_size=5", f"-m seeds=4 seed=0,4,8 {WHERE}"),
        ("seeds=12 shards=1", "seeds=12"),
        ("seeds=12 shard_size=12", "seeds=12"),
        ("seeds=1e3 hydra/launcher=ray", f"-m hydra/launcher=ray seeds=500 seed=0,500 {WHERE}"),
        ("seeds=500 hydra/launcher=ray", None),
        ("hydra/launcher=ray", None),
        ("-m seeds=1000 hydra/launcher=ray gamma=0.8,0.9", None),
        ("seeds=100000", None),
    ],
)
def test_shards_are_jobs_of_a_sweep(typed, arguments):
    assert split(typed.split()) == (None if arguments is None else arguments.split())


def test_a_hundred_thousand_seeds_are_shards_of_five_hundred():
    found = split(["seeds=100000", "hydra/launcher=submitit_slurm"])
    assert found[2:3] == ["seeds=500"]
    seeds = [int(seed) for seed in found[3].removeprefix("seed=").split(",")]
    assert seeds == list(range(0, 100_000, 500))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("shards=0", "shards=0: must be a whole number of at least 1"),
        ("shards=-1", "shards=-1: must be a whole number"),
        ("shards=a", "shards=a: must be a whole number"),
        ("shards=1.5", "shards=1.5: must be a whole number"),
        ("shards=", "shards=: must be a whole number"),
        ("shards=1000000000", "shards=1000000000: must be at most seeds=12"),
        ("shards=5", "shards=5: must divide seeds=12 into equal parts, as 6 or 4 do"),
        ("shard_size=0", "shard_size=0: must be a whole number"),
        ("shard_size=3 shards=4", "shards=4 shard_size=3: give one of them"),
        ("shards=3 -m", "shards=3: divides one run, and -m asks for several"),
        ("shards=3 resume=run", "shards=3 resume=run: is not supported; the same command again goes on"),
        ("shards=3 search=optuna", "shards=3 search=optuna: is not supported"),
        ("shards=3 hydra.sweep.dir=x", "hydra.sweep.dir=x: .*hydra.run.dir"),
        ("shards=3 seed=-4", "seed=-4: must be a whole number of at least 0"),
        ("shards=3 seed=1,2", "seed=1,2: must be a whole number"),
        ("seeds=1,2 shards=3", "seeds=1,2: must be a whole number"),
        ("seeds=1009 shard_size=100", "seeds=1009: cannot be divided .* of about 100 seeds; seeds=1100 can"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_one_sentence(typed, said):
    words = typed.split()
    with pytest.raises(ConfigError, match=said):
        split(words if "seeds=" in typed else ["seeds=12", *words])


def test_shards_need_a_number_of_seeds():
    with pytest.raises(ConfigError, match="shards=3: say how many seeds there are"):
        split(["shards=3"])


@pytest.mark.slow
def test_a_shard_that_fails_is_told_and_the_same_command_again_merges(tmp_path):
    small = (*FAST, "network=tabular", "seeds=4", "compare_share=1")
    assert script("train", *small, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    (tmp_path / "run" / "shards").mkdir(parents=True)
    (tmp_path / "run" / "shards" / "1").write_text("in the way")
    first = script("train", *small, "shards=2", "hydra.run.dir=run", cwd=tmp_path)
    assert first.returncode in (1, 2)
    assert "error: " in first.stderr
    assert "hydra.run.dir=run" in first.stderr
    assert not (tmp_path / "run" / "metrics.csv").exists()
    (tmp_path / "run" / "shards" / "1").unlink()
    again = script("train", *small, "shards=2", "hydra.run.dir=run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is finished already") == 1
    same_results(tmp_path / "run", tmp_path / "whole")
    other = script("train", *small, "shards=2", "gamma=0.5", "hydra.run.dir=run", cwd=tmp_path)
    assert other.returncode == 2
