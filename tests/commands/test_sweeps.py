"""Sweeps: what fails does not stop the others, and the same sweep started again goes on where it was."""

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands.test_command_line import FAST, script
from hydra.errors import HydraException
from support import ROOT

from rlnet.commands.arguments import prepared
from rlnet.commands.failures import explain
from rlnet.commands.sweeps import SweepCallback, told_at_the_end
from rlnet.config import ConfigError
from rlnet.experiment import sweeps
from rlnet.experiment.sweeps import FAILED, FINISHED, RUNNING, JobRecord
from rlnet.report.sweep import write_sweep

SMALL = (*FAST, "network=tabular")


def swept(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return script("train", "-m", *SMALL, "hydra.sweep.dir=sweep", *arguments, cwd=cwd)


def states(sweep: Path) -> list[str]:
    return [one.state for one in sweeps.planned(sweep)]


def same_results(one: Path, other: Path) -> None:
    """The same rows, but for times, and the same arrays, bit for bit."""
    rows = []
    for folder in (one, other):
        with (folder / "metrics.csv").open(encoding="utf-8") as file:
            rows.append([{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)])
    assert rows[0] == rows[1]
    arrays, others = np.load(one / "values.npz"), np.load(other / "values.npz")
    for name in arrays.files:
        np.testing.assert_array_equal(arrays[name], others[name], err_msg=name)


@pytest.mark.parametrize(
    ("typed", "composed"),
    [
        (["-m", "algo=dqn,qr_dqn", "algo.n_step=3"], "algo.n_step=choice(3)"),
        (["--multirun", "algo=td0,mc", "algo.policy=a/b.npz"], "algo.policy=choice(a/b.npz)"),
        (["-m", "env=choice(cliff,maze)", "env.name='a b'"], "env.name=choice('a b')"),
        (
            ["-m", "schedule@optimizer.schedule=none,linear", "optimizer.schedule.end=0"],
            "optimizer.schedule.end=choice(0)",
        ),
        (["-m", "tuned=cartpole_ppo,cartpole_dqn", "algo.rollout=8"], "algo.rollout=choice(8)"),
        (["-m", "algo=dqn", "gamma=0.9,1", "algo.n_step=3"], "algo.n_step=3"),
        (["-m", "algo=dqn,qr_dqn", "algo.n_step=1,3"], "algo.n_step=1,3"),
        (["-m", "algo=dqn,qr_dqn", "env.slip=0.1"], "env.slip=0.1"),
        (["algo=dqn", "algo.n_step=3"], "algo.n_step=3"),
    ],
)
def test_settings_of_a_group_that_is_swept_are_those_of_each_job(typed, composed):
    """Hydra composes a sweep itself by the default of each group, which may have no such setting."""
    assert prepared(typed) == [*typed[:-1], composed]


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_the_flag_of_a_sweep_may_stand_anywhere(flag):
    assert prepared(["env=cliff", flag, "gamma=0.9,1", "steps=1e3"]) == [flag, "env=cliff", "gamma=0.9,1", "steps=1000"]


def test_a_sweep_over_algorithms_with_a_setting_that_the_default_does_not_have(tmp_path):
    done = swept("algo=dqn,q_learning", "algo.n_step=3", cwd=tmp_path)
    assert done.returncode == 2
    assert "algo.n_step=3: not every choice of algo=dqn,q_learning has such a key" in done.stderr
    assert not (tmp_path / "sweep" / "0").exists()


@pytest.mark.slow
def test_jobs_go_on_when_one_fails_and_what_is_finished_is_not_done_again(tmp_path):
    done = swept("gamma=0.9,1.5,0.8", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == ["error: job 1 (gamma=1.5): gamma=1.5: must be in [0, 1]"]
    sweep = tmp_path / "sweep"
    assert states(sweep) == [FINISHED, FAILED, FINISHED]
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<td>job 1 \(gamma=1.5\)</td><td[^>]*>failed: gamma=1.5: must be in \[0, 1\]</td>", page)
    assert 'href="./0/report.html"' in page
    assert "gamma=0.9,1.5,0.8" in page, "the command that makes the sweep again"
    assert all((sweep / k / "report.html").is_file() for k in "02")
    before = {k: (sweep / k / "checkpoint.pt").stat().st_mtime_ns for k in "02"}
    again = swept("gamma=0.9,0.95,0.8", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert re.findall(r"job (\d) .*: is finished already, in sweep/\d", again.stdout) == ["0", "2"]
    assert {k: (sweep / k / "checkpoint.pt").stat().st_mtime_ns for k in "02"} == before
    gammas = [json.loads((sweep / k / "comparison.json").read_text())["gamma"] for k in "012"]
    assert gammas == [0.9, 0.95, 0.8]
    assert "Failed and unfinished" not in (sweep / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_another_sweep_in_the_same_folder_loses_nothing(tmp_path):
    assert swept("gamma=0.9,0.8", cwd=tmp_path).returncode == 0
    other = swept("gamma=0.9,0.7", cwd=tmp_path)
    assert other.returncode == 2
    (line,) = other.stderr.strip().splitlines()
    assert line.startswith("error: job 1 (gamma=0.7): hydra.sweep.dir=sweep: sweep/1 holds a run with gamma=0.8, not")
    assert json.loads((tmp_path / "sweep" / "1" / "comparison.json").read_text())["gamma"] == 0.8
    assert swept("gamma=0.9,0.8", cwd=tmp_path).stdout.count("is finished already") == 2


@pytest.mark.slow
def test_a_killed_sweep_goes_on_from_its_checkpoints_and_ends_bit_equal(tmp_path):
    longer = ("steps=40000", "checkpoint_every=1000", "compare_share=1")
    seeds = (*longer, "seed=0,1")
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *SMALL, *seeds, "hydra.sweep.dir=sweep"]
    sweep = tmp_path / "sweep"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        limit = time.monotonic() + 120
        while not (sweep / "0" / "checkpoint.pt").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert states(sweep) == [RUNNING, RUNNING]
    page = write_sweep(sweep).read_text(encoding="utf-8")
    assert page.count("is not finished</td>") == 2
    assert swept(*seeds, cwd=tmp_path).returncode == 0
    assert states(sweep) == [FINISHED, FINISHED]
    for seed in "01":
        alone = (
            "steps=40000",
            "checkpoint_every=1000",
            "compare_share=1",
            f"seed={seed}",
            f"hydra.run.dir=alone{seed}",
        )
        assert script("train", *SMALL, *alone, cwd=tmp_path).returncode == 0
        same_results(sweep / seed, tmp_path / f"alone{seed}")


def test_a_launcher_that_breaks_off_is_outlived_by_jobs_in_processes_of_their_own(tmp_path, monkeypatch, capsys):
    """The launcher of submitit ends with the first job that was killed, and the others go on."""
    monkeypatch.setattr("rlnet.commands.sweeps.PAUSE", 0.05)
    sweeps.plan(tmp_path, [["gamma=0.9"], ["gamma=0.8"], ["gamma=0.7"]])
    first, second = JobRecord(0, ["gamma=0.9"], "0"), JobRecord(1, ["gamma=0.8"], "1")
    for one in (first, second):
        sweeps.note(tmp_path, one)
    hold = "import fcntl; f = open('.sweep/1.lock', 'a'); fcntl.lockf(f, 2); print('held', flush=True); input()"
    command = [sys.executable, "-c", hold]
    job = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "held\n"

    def done() -> None:
        sweeps.note(tmp_path, replace(second, state=FINISHED))
        job.communicate("\n")

    later = threading.Timer(0.3, done)
    SweepCallback.begun.clear()
    with told_at_the_end(None, "hydra.sweep.dir={0}") as outcome:
        SweepCallback.begun.append((tmp_path, "sweep"))
        later.start()
        raise RuntimeError("job 0 was killed\n see the log")
    assert outcome.code == 1
    assert capsys.readouterr().err.splitlines() == [
        "Waiting for job 1 (gamma=0.8)",
        "error: the launcher broke off: RuntimeError: job 0 was killed",
        "error: job 0 (gamma=0.9): is not finished",
        "error: job 2 (gamma=0.7): is not finished",
        "The same sweep goes on where it was with hydra.sweep.dir=sweep",
    ]


def test_a_cluster_that_does_not_answer_is_named_with_what_it_may_ask_for(tmp_path, capsys):
    (tmp_path / "sweep").mkdir()
    SweepCallback.begun.clear()
    with told_at_the_end(None, "hydra.sweep.dir={0}") as outcome:
        SweepCallback.begun.append((tmp_path / "sweep", "sweep"))
        raise ConnectionError("Failed to connect to Ray cluster at 192.0.2.1:6379")
    assert outcome.code == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "error: Failed to connect to Ray cluster at 192.0.2.1:6379; it is not running, or asks for a token "
        "(RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)"
    ]


def test_a_sweep_without_a_job_is_not_done(tmp_path, capsys):
    SweepCallback.begun.clear()
    sweeps.plan(tmp_path, [])
    with told_at_the_end(None, "hydra.sweep.dir={0}") as outcome:
        SweepCallback.begun.append((tmp_path, "sweep"))
    assert outcome.code == 2
    assert capsys.readouterr().err.startswith("error: sweep: the sweep has no jobs; a range, such as range(1,1)")


LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "sweep"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
}


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers_that_use_other_processes(launcher, tmp_path):
    """Where the launcher is installed its jobs are told of like others; where not, one sentence says what to do."""
    module, extra = LAUNCHERS[launcher]
    done = swept("gamma=0.9,1.5,0.8", f"hydra/launcher={launcher}", cwd=tmp_path)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    if not installed(module):
        needs = f"needs a package that is not installed: pip install 'rlnet[{extra}]'"
        assert done.stderr == f"error: hydra/launcher={launcher}: {needs}\n"
        return
    assert last == "error: job 1 (gamma=1.5): gamma=1.5: must be in [0, 1]"
    assert states(tmp_path / "sweep") == [FINISHED, FAILED, FINISHED]
    commands = (tmp_path / "sweep" / "0" / ".hydra" / "commands.yaml").read_text(encoding="utf-8")
    assert "scripts/train.py -m env=" in " ".join(commands.split()), "as it was typed, not as a worker was called"


def test_records_are_what_jobs_wrote_and_a_plan_names_those_that_never_began(tmp_path):
    jobs = [["gamma=0.9"], ["gamma=0.8"], ["++vary.gamma=[0.1]"]]
    sweeps.plan(tmp_path, jobs)
    assert [(one.number, one.state, one.overrides) for one in sweeps.planned(tmp_path)] == [
        (0, RUNNING, ["gamma=0.9"]),
        (1, RUNNING, ["gamma=0.8"]),
        (2, RUNNING, ["vary.gamma=[0.1]"]),
    ]
    assert sweeps.known(tmp_path, 0, ["gamma=0.9"]) is None
    first = JobRecord(0, ["gamma=0.9"], "0", FINISHED)
    second = JobRecord(1, ["gamma=0.8"], "1", FAILED, 1, "it diverged")
    for one in (first, second):
        sweeps.note(tmp_path, one)
    assert sweeps.planned(tmp_path)[:2] == [first, second]
    sweeps.plan(tmp_path, [["gamma=0.7"], ["gamma=0.6"]])
    assert sweeps.read_records(tmp_path) == [first], "what failed and is asked for no longer is forgotten"
    with pytest.raises(ConfigError, match="none of the 2 jobs here has logged anything yet"):
        write_sweep(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"number": "x", "overrides": [], "folder": "0", "state": "finished", "code": 0, "sentence": ""}'],
)
def test_a_record_that_no_sweep_wrote_is_named(content, tmp_path):
    sweeps.plan(tmp_path, None)
    (tmp_path / ".sweep" / "0-deadbeef.json").write_text(content)
    with pytest.raises(ConfigError, match=r"0-deadbeef\.json: "):
        sweeps.planned(tmp_path)


@pytest.mark.parametrize(
    ("text", "name", "extra"),
    [
        ("In 'hydra/config': Could not find 'hydra/launcher/joblib'\n\nAvailable options", "joblib", "sweep"),
        ("In 'hydra/launcher/slurm': Could not load 'hydra/launcher/submitit_slurm'.", "submitit_slurm", "slurm"),
        ("Error locating target 'hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher'", "ray", "ray"),
    ],
)
def test_a_launcher_whose_package_is_missing_is_named_with_what_installs_it(text, name, extra):
    said = explain(HydraException(text), [])
    assert said == f"hydra/launcher={name}: needs a package that is not installed: pip install 'rlnet[{extra}]'"
