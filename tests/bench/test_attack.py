"""The short form of `scripts/attack.py`: a process that is really killed, and what it leaves is gone on with."""

import subprocess
import sys

import numpy as np
import pytest
from support import FULL, ROOT

from rlnet.bench.attack import SCENARIOS, differences
from rlnet.experiment.checkpoints import read_checkpoint, write_checkpoint


def attacked(*options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "attack.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_not_been():
    done = attacked("--kills", "1", "--seed", "5", "--only", "ppo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "1 of 1 ended as if they had not been killed"


SOME = ("prioritised replay", "traces", "sac", "whole episodes in processes")


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCENARIOS if FULL else SOME)
def test_a_killed_run_of_any_kind_ends_as_if_it_had_not_been(kind):
    done = attacked("--kills", "1", "--seed", "7", "--only", kind)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_differs_between_two_runs_is_named(tmp_path):
    for name, theta in (("one", 0.5), ("other", 0.75)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(f"step,time/x\n1,{theta}\n")
        np.savez(tmp_path / name / "values.npz", v=np.array([theta]), q=np.zeros(2))
        (tmp_path / name / "comparison.json").write_text('{"exact": {"seconds": 1}}')
        collector = {"simulation": {"environments": [theta]}}
        write_checkpoint(tmp_path / name, {"learner": {"theta": theta}, "collector": collector, "record": theta})
    assert differences(tmp_path / "one", tmp_path / "other") == [
        "values.npz: v differs",
        "checkpoint.pt: learner differs",
    ]
    (tmp_path / "other" / "metrics.csv").write_text("step,time/x\n2,0\n")
    assert "metrics.csv differs" in differences(tmp_path / "one", tmp_path / "other")
    assert read_checkpoint(tmp_path / "one" / "checkpoint.pt")["record"] == 0.5
