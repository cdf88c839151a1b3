"""What survives: checkpoints that are damaged, runs that are stopped anywhere, folders that two want at once."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from support import ROOT, composed, make_run, quick, quick_rows, update

from rlnet.commands.failures import told
from rlnet.config import ConfigError
from rlnet.experiment.checkpoints import DamagedError, misfit, read_checkpoint, write_checkpoint
from rlnet.experiment.run_folder import claimed, commands
from rlnet.learning import final_files, training_loop
from rlnet.learning.interrupts import Interrupted
from rlnet.learning.training_loop import train
from rlnet.learning.training_state import TrainingState

SMALL = ("env=random_walk", "gamma=0.9", "algo.envs=4", "steps=2000", "log_every=400", "compare_every=800")
SMALL += ("checkpoint_every=600",)
REPLAYS = {"dqn": ("algo.capacity=1000", "algo.learning_starts=100")}


def lines(folder):
    """metrics.csv without what the clock says."""
    table = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    kept = [k for k, name in enumerate(table[0]) if not name.startswith("time/")]
    return [[row[k] for k in kept] for row in table]


def assert_equal_runs(ours, theirs):
    """Bit for bit: rows, scores, arrays and parameters."""
    assert lines(ours) == lines(theirs)
    ends = [json.loads((folder / "comparison.json").read_text()) for folder in (ours, theirs)]
    for end in ends:
        del end["exact"]["seconds"]
    assert ends[0] == ends[1]
    values = [dict(np.load(folder / "values.npz")) for folder in (ours, theirs)]
    for name in values[0]:
        np.testing.assert_array_equal(values[0][name], values[1][name], err_msg=name)
    states = [read_checkpoint(folder / "checkpoint.pt")["learner"] for folder in (ours, theirs)]
    assert torch.equal(states[0]["theta"], states[1]["theta"])
    assert states[0]["count"] == states[1]["count"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("durable") / "run"
    train(composed(*SMALL), folder)
    return folder


def copy_of(folder, to):
    shutil.copytree(folder, to)
    return to


def resumed(folder, *more):
    return train(composed(*SMALL, *more, f"resume={folder}"), folder)


class Killed(BaseException):
    """In place of SIGKILL: nothing catches it, and nothing is written any more."""


@pytest.mark.parametrize(
    ("place", "times"),
    [
        ((training_loop, "write_checkpoint"), 1),  # before the first checkpoint
        pytest.param((training_loop, "write_checkpoint"), 3, marks=pytest.mark.slow),
        pytest.param((training_loop.Loop, "_row"), 4, marks=pytest.mark.slow),
        ((final_files, "write_json"), 1),  # after the last step, before the last files
        pytest.param((final_files, "write_arrays"), 1, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_and_goes_on_ends_as_if_it_had_not_been(place, times, finished, tmp_path, monkeypatch):
    owner, name = place
    was, seen = getattr(owner, name), []

    def dies(*args, **options):
        seen.append(1)
        if len(seen) == times:
            raise Killed
        return was(*args, **options)

    monkeypatch.setattr(owner, name, dies)
    with pytest.raises(Killed):
        train(composed(*SMALL), tmp_path / "run")
    monkeypatch.setattr(owner, name, was)
    with (tmp_path / "run" / "metrics.csv").open("a") as file:
        file.write("1999,0,0,half a ro")  # what was being written
    resumed(tmp_path / "run")
    assert_equal_runs(tmp_path / "run", finished)


@pytest.mark.slow
def test_a_new_folder_holds_a_run_of_its_own_from_the_start(finished, tmp_path, monkeypatch):
    """Killed before the first checkpoint that is due there, or finished before, it goes on without the old folder."""

    def dies(*args, **options):
        raise Killed

    more, to = "steps=2800", tmp_path / "killed"
    train(composed(*SMALL, more, f"resume={finished}"), tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(training_loop.Loop, "_advance", dies)
        with pytest.raises(Killed):
            train(composed(*SMALL, more, f"resume={finished}"), to)
    resumed(to, more)
    assert_equal_runs(to, tmp_path / "whole")
    train(composed(*SMALL, f"resume={finished}"), tmp_path / "copy")
    assert all((tmp_path / "copy" / name).is_file() for name in ("checkpoint.pt", "values.npz", "metrics.csv"))
    assert_equal_runs(tmp_path / "copy", finished)


RENAMED = {  # file → the time at which it does not get its name
    "config.yaml": 1,  # nothing else is there yet
    "checkpoint_previous.pt": 1,  # the second checkpoint is written, the first still has its name
    "checkpoint.pt": 3,  # no file has the name of the newest
    "comparison.json": 1,
    "values.png": 1,
}


@pytest.mark.parametrize("file", quick(RENAMED, ["checkpoint_previous.pt"]))
def test_a_run_that_is_killed_before_a_file_gets_its_name_goes_on(file, finished, tmp_path, monkeypatch):
    was, seen = os.replace, []

    def dies(source, target):
        seen.append(1) if target.name == file else None
        if len(seen) == RENAMED[file]:
            raise Killed
        was(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(Killed):
        train(composed(*SMALL), tmp_path / "run")
    monkeypatch.setattr(os, "replace", was)
    assert [path.name for path in (tmp_path / "run").rglob("*.part")] != []
    again = [f"resume={tmp_path / 'run'}"] if (tmp_path / "run" / ".hydra" / "config.yaml").exists() else []
    train(composed(*SMALL, *again), tmp_path / "run")
    assert_equal_runs(tmp_path / "run", finished)
    assert list((tmp_path / "run").rglob("*.part")) == []


DIES = """
import os, signal, sys
from pathlib import Path
from support import composed
from rlnet.learning.training_loop import train

folder, seen, was = Path(sys.argv[1]), [], os.replace

def dies(source, target):
    seen.append(1) if target.name == "checkpoint.pt" else None
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    was(source, target)

os.replace = dies
train(composed(*sys.argv[2:]), folder)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_before_the_newest_checkpoint_has_its_name_leaves_the_one_before(finished, tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", DIES, str(tmp_path / "run"), *SMALL]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = sorted(path.name for path in (tmp_path / "run").glob("checkpoint*"))
    assert left == ["checkpoint.pt.part", "checkpoint_previous.pt"]
    resumed(tmp_path / "run")
    assert_equal_runs(tmp_path / "run", finished)


@pytest.mark.slow
def test_rows_of_members_with_different_numbers_of_steps_stay_with_them(tmp_path, monkeypatch):
    options = ("env=random_walk", "algo=mc_control", "algo.rollout=30", "vary.gamma=[0.8,0.9]", "seeds=2", "steps=600")
    options += ("algo.envs=2", "log_every=60", "compare_every=120", "checkpoint_every=200")
    whole = train(composed(*options), tmp_path / "whole").run
    assert len(set(whole.steps.tolist())) > 1
    write, seen = training_loop.write_checkpoint, []

    def dies(*args, **more):
        write(*args, **more)
        seen.append(1)
        if len(seen) == 2:
            raise Killed

    monkeypatch.setattr(training_loop, "write_checkpoint", dies)
    with pytest.raises(Killed):
        train(composed(*options), tmp_path / "run")
    monkeypatch.setattr(training_loop, "write_checkpoint", write)
    train(composed(*options, f"resume={tmp_path / 'run'}"), tmp_path / "run")
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_score_that_waits_for_its_row_is_not_lost(tmp_path, monkeypatch):
    options = (*SMALL[:-2], "log_every=500", "compare_every=400", "checkpoint_every=400")
    train(composed(*options), tmp_path / "whole")
    write = training_loop.write_checkpoint

    def dies(*args, **more):
        write(*args, **more)
        raise Killed

    monkeypatch.setattr(training_loop, "write_checkpoint", dies)
    with pytest.raises(Killed):
        train(composed(*options), tmp_path / "run")
    monkeypatch.setattr(training_loop, "write_checkpoint", write)
    train(composed(*options, f"resume={tmp_path / 'run'}"), tmp_path / "run")
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")


def damage_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1000])


def edit(path, **changes):
    torch.save({**torch.load(path, weights_only=True), **changes}, path)


@pytest.mark.parametrize(
    ("damage", "said"),
    quick_rows(
        [
            (damage_bit, "checksum differs"),
            (cut_short, "has no checksum at its end"),
            (lambda path: edit(path, updates=7), "has no checksum at its end"),
            (lambda path: path.write_text("nonsense"), "has no checksum at its end"),
            (lambda path: path.unlink(), "is missing"),
        ],
        2,
    ),
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(damage, said, finished, tmp_path, caplog):
    folder = copy_of(finished, tmp_path / "run")
    damage(folder / "checkpoint.pt")
    with caplog.at_level(logging.WARNING):
        resumed(folder)
    assert any(said in m and "going on from checkpoint_previous.pt, step 1800" in m for m in caplog.messages)
    assert_equal_runs(folder, finished)
    assert int(read_checkpoint(folder / "checkpoint_previous.pt")["steps"].max()) == 1800, "the sound one was kept"


def test_without_a_sound_checkpoint_nothing_is_written(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    damage_bit(folder / "checkpoint.pt")
    cut_short(folder / "checkpoint_previous.pt")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"resume=.*checkpoint.pt: .*checksum.*checkpoint_previous.pt: "):
        resumed(folder)
    with pytest.raises(ConfigError, match=r"gamma=0.8: a resumed run keeps"):
        train(composed(*SMALL, "gamma=0.8", f"resume={finished}"), finished)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_every_flipped_bit_is_noticed(finished, tmp_path):
    path = tmp_path / "checkpoint.pt"
    data = (finished / "checkpoint.pt").read_bytes()
    for place in np.random.default_rng(0).integers(len(data), size=40).tolist() + [0, len(data) - 1, len(data) - 70]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        with pytest.raises(DamagedError, match="cannot be read"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state["learner"].update(theta=state["learner"]["theta"][:, 1:]), "learner.theta is float32"),
        (lambda state: state.update(steps=state["steps"] - 10_000), "steps is below 0"),
        (lambda state: state.update(steps=state["steps"] + 1), "visits do not add up"),
        (lambda state: state.update(updates="many"), "updates is 'many', not of type int"),
        (lambda state: state["collector"].pop("obs"), "collector has not the parts"),
    ],
)
def test_a_state_of_another_shape_is_refused(change, said):
    state = make_run(*SMALL)
    stored = state.state_dict()
    change(stored)
    with pytest.raises(DamagedError, match=said):
        make_run(*SMALL).load_state_dict(stored)
    assert misfit(state.state_dict(), state.state_dict()) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda replay: replay.update(ring=None), "replay.ring has no rows"),
        (lambda replay: replay.update(ring=[1]), "replay.ring has not the fields of transitions"),
        (lambda replay: replay["ring"].pop("action"), "replay.ring has not the fields of transitions"),
        (lambda replay: replay["ring"].update(obs=0), r"replay.ring has obs of int, not \[1, 64, 2, ...\]"),
        (lambda replay: replay.update(added=7), r"replay.ring has obs of \[1, 64, 2\], not \[1, 7, 2, ...\]"),
        (lambda replay: replay["ring"].update(valid=replay["ring"]["reward"]), "has valid of torch.float32, not of"),
    ],
)
def test_stored_rows_of_a_replay_that_do_not_fit_are_refused(change, said):
    small = (*SMALL, "algo=dqn", "algo.envs=2", "algo.rollout=4", "algo.learning_starts=128", "algo.capacity=1000")
    state = make_run(*small)
    update(state)
    stored = state.state_dict()
    change(stored["replay"])
    with pytest.raises(DamagedError, match=said):
        make_run(*small).load_state_dict(stored)


def test_checkpoints_are_read_by_torch_and_hold_their_content(tmp_path):
    for k in range(3):
        write_checkpoint(tmp_path, {"k": k, "x": torch.arange(k)})
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["k"] == 2
    assert read_checkpoint(tmp_path / "checkpoint_previous.pt")["k"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "checkpoint_previous.pt"]


@pytest.mark.parametrize("algo", ["q_learning", "dqn", "ppo"])
def test_a_member_takes_less_than_2_kB_of_a_checkpoint_beside_its_parameters(algo, tmp_path):
    run = make_run("env=gridworld", f"algo={algo}", "network=tabular", "seeds=60", *REPLAYS.get(algo, ()))
    update(run)
    state = run.state_dict()
    for name in ("theta", "target", "sound", "optimizer"):  # which are parameters, or as many
        del state["learner"][name]
    if run.replay is not None:
        del state["replay"]["ring"]
    write_checkpoint(tmp_path, state)
    assert (tmp_path / "checkpoint.pt").stat().st_size < 2000 * 60


def test_numbers_are_stored_in_the_smallest_type_that_holds_them(tmp_path):
    ends = [(-128, 127), (-129, 0), (0, 2**15 - 1), (0, 2**31 - 1), (-(2**31), 0), (0, 2**31), (-(2**63), 2**63 - 1)]
    state = {"a": [{"x": torch.tensor(own)} for own in ends], "b": torch.zeros(0, dtype=torch.int64), "c": True}
    write_checkpoint(tmp_path, state)
    kinds = [own["x"].dtype for own in torch.load(tmp_path / "checkpoint.pt", weights_only=True)["a"]]
    assert [kind.itemsize for kind in kinds] == [1, 2, 2, 4, 4, 8, 8]
    read = read_checkpoint(tmp_path / "checkpoint.pt")
    assert read.keys() == state.keys()
    assert misfit(state, read) is None, "of the same types again"
    assert [own["x"].tolist() for own in read["a"]] == [list(own) for own in ends]


@pytest.mark.slow
def test_a_changed_row_of_the_log_is_noticed(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    damage_bit(folder / "metrics.csv")
    with pytest.raises(ConfigError) as told:
        resumed(folder)
    assert str(told.value).count("metrics.csv: cannot be read: it is damaged, its checksum differs") == 1


def test_a_folder_has_one_writer(tmp_path):
    code = "import sys, time; from pathlib import Path; from rlnet.experiment.run_folder import claimed\n"
    code += "with claimed(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(ConfigError, match="another job writes into this folder now"):
            train(composed(*SMALL), tmp_path / "run")
        assert [path.name for path in (tmp_path / "run").rglob("*")] == [".hydra", "lock"]
        other.kill()
    # Freed by its death.
    with claimed(tmp_path / "run"), pytest.raises(ConfigError, match="another job"), claimed(tmp_path / "run"):
        pass


def test_the_starts_of_a_run_are_listed(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    resumed(folder, "steps=2400")
    assert [start["step"] for start in commands(folder)] == [0, 2000]
    assert lines(folder)[: len(lines(finished))] == lines(finished)


@pytest.mark.parametrize("name", quick(["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"], ["SIGTERM"]))
def test_a_signal_leaves_a_checkpoint_from_which_the_run_goes_on(name, finished, tmp_path, monkeypatch):
    score, seen = TrainingState.compare, []

    def signalled(self):
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), getattr(signal, name))
        return score(self)

    monkeypatch.setattr(TrainingState, "compare", signalled)
    with pytest.raises(Interrupted, match=r"go on with: .* resume=") as stop:
        train(composed(*SMALL), tmp_path / "run")
    monkeypatch.setattr(TrainingState, "compare", score)
    assert stop.value.number == getattr(signal, name)
    resumed(tmp_path / "run")
    assert_equal_runs(tmp_path / "run", finished)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SIGTERM", 143),
        pytest.param("SIGHUP", 129, marks=pytest.mark.slow),
        pytest.param("SIGUSR1", 138, marks=pytest.mark.slow),
    ],
)
def test_the_exit_code_says_which_signal(name, code, tmp_path):
    options = ["env=random_walk", "gamma=0.9", "seeds=4", "steps=100000000", "log_every=400", "processes=2"]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *options, "hydra.run.dir=run"]
    started = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    waited = time.monotonic()
    while not (tmp_path / "run" / "metrics.csv").is_file() or (tmp_path / "run" / "metrics.csv").stat().st_size < 1000:
        assert started.poll() is None, started.stderr.read()
        assert time.monotonic() - waited < 120
        time.sleep(0.05)
    os.killpg(started.pid, getattr(signal, name))  # as a batch system does: to all of its processes
    said = started.communicate(timeout=120)[1]
    assert said.splitlines()[-1] == f"error: interrupted by {name}; go on with: python scripts/train.py resume=run"
    assert started.returncode == code
    with pytest.raises(ProcessLookupError):
        os.killpg(started.pid, 0)  # nobody is left
    assert int(read_checkpoint(tmp_path / "run" / "checkpoint.pt")["steps"].min()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("steps", [640, 1280])
def test_a_run_with_a_network_of_ones_own_goes_on_where_it_is_trusted(steps, tmp_path):
    """Its folder names code: also to look up how many steps it had is a matter of trust."""
    options = ("env=random_walk", "algo=q_learning", "network=module", "network.target=torch.nn.Tanh", "algo.envs=2")
    training_loop.train(composed(*options, "steps=640"), tmp_path / "run")
    again = (*options, f"steps={steps}", f"resume='{tmp_path / 'run'}'", "trust=true")
    assert int(training_loop.train(composed(*again), tmp_path / "run").run.steps.min()) >= steps


@pytest.mark.parametrize("inside", ["", "sub"])
def test_a_file_in_the_place_of_a_folder_is_said(inside, tmp_path):
    (tmp_path / "notes").write_text("hello")
    folder = tmp_path / "notes" / inside
    said = r"^hydra\.run\.dir=.*notes.*: a file stands where a folder is needed$"
    with pytest.raises(ConfigError, match=said), claimed(folder):
        pass
    with pytest.raises(OSError, match="notes") as caught:
        folder.mkdir(parents=True)
    assert told(caught.value) == (f"{folder}: a file stands where a folder is needed", 2)
