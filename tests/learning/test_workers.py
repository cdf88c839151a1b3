"""A population in several processes: what it would be in one; and what happens when one ends."""

import csv
import logging
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT, composed, make_run, quick, update
from torch import Tensor

from rlnet import algos
from rlnet.config import ConfigError, RunFailed
from rlnet.config.population import alone, joined, part_of, split
from rlnet.experiment.checkpoints import read_checkpoint
from rlnet.learning import resources, training_loop
from rlnet.learning.messages import DivergedError
from rlnet.learning.resources import processes, set_threads
from rlnet.learning.training_loop import train
from rlnet.learning.training_state import TrainingState
from rlnet.learning.triggers import Pace
from rlnet.learning.updates import learn, updates_until
from rlnet.learning.workers import Workers

pytestmark = pytest.mark.usefixtures("without_pictures")

ALGOS = [name for name in algos.names() if "group" not in algos.load(name).options]
SOME = ("dqn", "mc", "ppo", "sac", "sarsa_lambda")  # one of each kind
CLOSE = {"rtol": 1e-3, "atol": 5e-5}
REPLAYS = ("algo.learning_starts=40", "algo.capacity=100", "algo.batch=8", "algo.priority=0.6")


@pytest.fixture(autouse=True)
def denormal_numbers_count_as_zero():
    """As in every run, here where the states of runs are made by hand."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


def options_of(algo: str) -> tuple[str, ...]:
    env = "pendulum" if algo == "sac" else "random_walk"
    own = (f"algo={algo}", f"env={env}", "gamma=0.9", "steps=160")
    own += (f"algo.envs={1 if algo == 'true_online_td_lambda' else 2}",)
    own += ("optimizer=sgd", "optimizer.learning_rate=0.03")  # Adam would magnify the rounding of small gradients
    if algo == "alphazero":  # whole games of few moves, from a replay without priorities
        return (*own, "algo.rollout=20", *REPLAYS[:2], "algo.batch=8")
    return (*own, *(REPLAYS if algos.load(algo).data.replay else ()))


def assert_same(ours, theirs, path="", rounded=False):
    """The same state bit for bit, or up to the rounding of products; the same draws; the configs apart."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), path
        for name in ours.keys() - {"config", "record", "scores", "compare"}:
            assert_same(ours[name], theirs[name], f"{path}/{name}", rounded)
    elif isinstance(ours, list):
        for k, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, other, f"{path}/{k}", rounded)
    elif isinstance(ours, Tensor):
        close = CLOSE if rounded and ours.is_floating_point() else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(ours, theirs, **close, equal_nan=True, msg=lambda text: f"{path}: {text}")
    else:
        assert ours == theirs, path


def comparable(state: TrainingState) -> dict:
    """Its state without what is begun anew before it is used, and without saved environments (equal ones may be saved
    in different bytes: their observations tell)."""
    algorithm, saved = state.problem.algorithm, state.state_dict()
    simulation = {name: part for name, part in saved["collector"]["simulation"].items() if name != "environments"}
    saved["collector"]["simulation"] = simulation
    if algorithm.data.whole_episodes:  # it goes on, unused, until the episodes of all members have ended
        for name in ("simulation", "obs", "rows", "age", "sums"):
            del saved["collector"][name]
    if algorithm.update.row_by_row:  # the rows that are due for some member
        del saved["learner"]["count"], saved["learner"]["sound"]
    return saved


def leaves(state, path=""):
    if isinstance(state, dict):
        for name, value in state.items():
            yield from leaves(value, f"{path}/{name}")
    else:
        yield path, state


def whole(state: TrainingState, count: int, until: int | None = None) -> TrainingState:
    """All steps, or the first, in so many processes."""
    until = state.config.steps if until is None else until
    set_threads(state)  # as a run does: with two threads BLAS sums products in another order
    pace = Pace()
    with nullcontext() if count == 1 else closing(Workers(state, count)) as workers:
        while int(state.steps.min()) < until:
            updates = pace.updates(updates_until(state.config, state.steps, until))
            with pace.timed(updates):
                if workers is None:
                    update(state, updates)
                else:
                    workers.advance(updates)
        if workers is not None:
            workers.gather(workers.state_dict())
    return state


@pytest.mark.parametrize("algo", quick(ALGOS, SOME))
def test_every_algorithm_is_in_three_processes_what_it_is_in_one(algo):
    options = (*options_of(algo), "seeds=5", "seed=3")
    one, three = whole(make_run(*options), 1), whole(make_run(*options), 3)
    assert_same(comparable(one), comparable(three))
    assert int(three.steps.min()) >= 160
    assert not torch.equal(three.learner.theta[0], make_run(*options).learner.theta[0]), "something was learned"


DEPENDENT = [
    ("algo=dqn", "env=gridworld", "exploration=noisy", "schedule=none", *REPLAYS),
    ("algo=a2c", "env.id=Acrobot-v1", "env=cartpole"),  # stepped by Gymnasium
    ("algo=td0", "env=windy", "algo.policy=optimal", "network=linear"),
    ("algo=q_learning", "env=gridworld", "exploration=count_bonus"),
    ("algo=ppo", "env=cartpole", "algo.rollout=20"),
    ("algo=dqn", "env=gridworld", "network.activation=silu", *REPLAYS),  # through torch
]


@pytest.mark.parametrize("options", quick(DEPENDENT, 1))
def test_whatever_a_member_depends_on_goes_with_it(options):
    options = (*options, "vary.gamma=[0.5,0.8,0.9]", "seeds=2", "steps=300", "algo.envs=2")
    one, two = whole(make_run(*options), 1), whole(make_run(*options), 2)
    assert_same(comparable(one), comparable(two), rounded="network.activation=silu" in options)


ODD = ("network.hidden=[7,5]", "algo.envs=3", "optimizer=adam")  # numbers that fill no vector of a processor


@pytest.mark.parametrize("seeds", quick([2, 5], [2]))
@pytest.mark.parametrize(
    "options",
    quick(
        [
            ("algo=reinforce", "env=pendulum", "steps=1200"),
            ("algo=sac", "env=pendulum", "steps=240", *REPLAYS, "algo.batch=5"),
            ("algo=mc_control", "env=gridworld", "steps=600"),
            ("algo=qr_dqn", "env=cartpole", "steps=300", *REPLAYS, "algo.batch=5"),
            ("algo=a2c", "env=lqr", "steps=300", "optimizer.max_grad_norm=0.5"),
            ("algo=ppo", "env=pendulum", "algo.rollout=21", "steps=300"),
        ],
        3,
    ),
    ids=lambda options: options[0],
)
def test_two_processes_learn_bit_for_bit_what_one_learns(options, seeds):
    options = (*options, *ODD, f"seeds={seeds}")
    assert_same(comparable(whole(make_run(*options), 1)), comparable(whole(make_run(*options), 2)))


@pytest.mark.parametrize(
    "options", quick([("env=cartpole", "algo.rollout=20", "steps=400"), ("env=gridworld", "steps=1500")], 1)
)
def test_ppo_with_adam_is_the_same_bit_for_bit_where_each_member_has_a_process(options):
    options = (*options, "algo=ppo", "algo.envs=3", "seeds=3", "vary.learning_rate=[1e-3,2e-3]")
    assert_same(comparable(whole(make_run(*options), 1)), comparable(whole(make_run(*options), 3)))
    pair = ("algo=ppo", "env=random_walk", "seeds=2", "steps=400")  # two processes of one member each
    assert_same(comparable(whole(make_run(*pair), 1)), comparable(whole(make_run(*pair), 2)))


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        table = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]
    return [{k: float(v or "nan") for k, v in row.items()} for row in table]


@pytest.mark.slow
def test_the_files_of_a_run_do_not_depend_on_the_number_of_processes(tmp_path):
    options = ("env=random_walk", "vary.gamma=[0.8,0.9]", "seeds=3", "algo.envs=4", "steps=2000", "log_every=400")
    options += ("compare_every=800", "checkpoint_every=1000")
    one, two = (train(composed(*options, f"processes={n}"), tmp_path / str(n)) for n in (1, 2))
    for ours, theirs in zip(rows(tmp_path / "1"), rows(tmp_path / "2"), strict=True):
        assert ours == pytest.approx(theirs, rel=0, abs=0, nan_ok=True)
    assert [row["member"] for row in rows(tmp_path / "2")[:6]] == list(range(6))
    values = [np.load(tmp_path / str(n) / "values.npz") for n in (1, 2)]
    for name in values[0]:
        np.testing.assert_array_equal(values[0][name], values[1][name], err_msg=name)
    assert_same(one.run.state_dict(), two.run.state_dict())
    stored = read_checkpoint(tmp_path / "2" / "checkpoint.pt")
    assert {"record", "scores", "compare"} <= set(stored)  # of the loop, not of the state
    for name in set(stored) - set(two.run.state_dict()):
        del stored[name]
    assert_same(stored, two.run.state_dict())


@pytest.mark.parametrize("algo", quick(["mc", "dqn", "q_learning", "ppo"], ["dqn"]))
def test_a_run_goes_on_in_another_number_of_processes(algo):
    options = (*options_of(algo), "seeds=4", f"steps={1000 if algo == 'mc' else 160}")
    uninterrupted = whole(make_run(*options), 1)
    half = whole(make_run(*options), 2, until=80).state_dict()
    resumed = make_run(*options)
    resumed.load_state_dict(half)
    assert 80 <= int(resumed.steps.min()) < int(uninterrupted.steps.min())
    assert_same(comparable(uninterrupted), comparable(whole(resumed, 3)), rounded=algo == "mc")


@pytest.mark.parametrize(
    ("options", "count", "members"),
    [
        (("seeds=5", "seed=3"), 2, [[0, 1, 2], [3, 4]]),
        (("vary.gamma=[0.1,0.2]", "seeds=3"), 2, [[0, 1, 3, 4], [2, 5]]),
        (("vary.gamma=[0.1,0.2,0.3]", "vary.learning_rate=[1,2]"), 2, [[0, 1, 2, 3], [4, 5]]),
        (("vary.gamma=[0.1,0.2]", "vary.learning_rate=[1,2,3]"), 3, [[0, 3], [1, 4], [2, 5]]),
    ],
)
def test_a_share_is_a_population_of_the_same_members(options, count, members):
    config = composed("env=random_walk", *options)
    parts = split(config, count)
    assert [own for _, own in parts] == members
    for part, own in parts:
        for k, m in enumerate(own):
            assert replace(alone(part, k), processes=None) == alone(config, m)


@pytest.mark.parametrize("algo", quick(ALGOS, SOME))
def test_a_state_has_the_members_in_front(algo):
    """What `joined` relies on, with a number of members that nothing else has."""
    state = update_once(make_run(*options_of(algo), "seeds=7")).state_dict()
    for path, value in leaves({name: part for name, part in state.items() if name != "config"}):
        if isinstance(value, list) or (isinstance(value, Tensor) and value.ndim):
            assert len(value) == 7, path
        else:
            assert value is None or isinstance(value, bool | int | float | Tensor), path


def update_once(state: TrainingState) -> TrainingState:
    update(state)
    return state


def test_parts_come_together_in_the_order_of_the_members():
    state = {"a": torch.arange(10.0).view(5, 2), "b": ["p", "q", "r", "s", "t"], "c": {"n": 3, "d": np.arange(5)}}
    members = [[3, 0], [4], [1, 2]]
    parts = [part_of(state, own) for own in members]
    assert parts[0]["b"] == ["s", "p"]
    assert_same({**joined(parts, members), "c": None}, {**state, "c": None})
    np.testing.assert_array_equal(joined(parts, members)["c"]["d"], np.arange(5))


def test_what_a_share_raises_is_raised_here():
    with closing(Workers(make_run("env=random_walk", "seeds=2", "algo.envs=2"), 2)) as workers:
        with pytest.raises(TypeError, match="must be real number, not Share") as caught:
            workers._ask(math.sqrt)
        assert "in _serve" in caught.value.__notes__[0]
        workers.advance(1)  # the others still answer


@pytest.mark.parametrize(("algo", "k"), [("q_learning", 1), ("mc", 0), ("mc", 1)])
def test_a_process_that_is_killed_is_reported(algo, k):
    """Those of `mc` wait for each other in every update."""
    with closing(Workers(make_run("env=random_walk", f"algo={algo}", "gamma=0.9", "seeds=2"), 2)) as workers:
        workers.advance(1)
        os.kill(workers._others[k]._process.pid, signal.SIGKILL)
        with pytest.raises(RunFailed, match=r"was killed \(exit code -9\)"):
            workers.advance(10)


@pytest.mark.slow
def test_members_that_diverge_in_a_share_are_told_by_their_number(tmp_path, caplog):
    options = ("env=random_walk", "algo.envs=20", "steps=2000", "log_every=400", "gamma=0.9", "seeds=2", "seed=4")
    options += ("optimizer=sgd", "vary.learning_rate=[1e-2,1e-3,1e30]")
    with caplog.at_level(logging.WARNING):
        result = train(composed(*options, "processes=3"), tmp_path / "run")
    assert (result.run.diverged >= 0).tolist() == [False] * 4 + [True] * 2
    assert any(
        record.getMessage().startswith("member 5 (seed 5, optimizer.learning_rate=1e+30)") for record in caplog.records
    )
    with pytest.raises(DivergedError):
        train(composed(*options, "vary.learning_rate=[1e30,1e31]", "processes=2"), tmp_path / "all")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("seeds=64",), 8),
        (("seeds=64", "steps=10000"), 6),  # of 100,000 steps
        (("seeds=64", "steps=1000"), 1),
        (("seeds=16",), 4),  # of 4 members
        (("vary.gamma=[0.1,0.2,0.3]", "seeds=6"), 4),
        (("vary.gamma=[0.1,0.2,0.3]", "vary.learning_rate=[0.1,0.2,0.3]", "seeds=3"), 3),  # along one of them
        ((), 1),
        (("seeds=64", "threads=4"), 2),
        (("seeds=64", "compile=true"), 1),
        (("seeds=64", "processes=3"), 3),
        (("seeds=2", "processes=2", "steps=100"), 2),
    ],
)
def test_processes_follow_the_work_unless_told(options, expected, monkeypatch):
    monkeypatch.setattr(resources, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert processes(make_run("env=random_walk", *options)) == expected


def test_the_default_keeps_to_the_threads_that_the_environment_allows(monkeypatch):
    monkeypatch.setattr(resources, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert processes(make_run("env=random_walk", "seeds=64")) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("processes=0",), "processes=0: must be at least 1, or null"),
        (("processes=2",), "processes=2: must be at most 1, the number of seeds or the longest list of vary"),
        (("seeds=3", "vary.gamma=[0.1,0.2]", "processes=4"), "processes=4: must be at most 3, the number of seeds"),
        (
            ("env=cartpole", "algo=a2c", "env.stepping=async", "seeds=2", "processes=2"),
            "processes=2: must be 1: .* cannot be saved",
        ),
    ],
)
def test_processes_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        processes(make_run(*options))


@pytest.mark.parametrize("times", [1, 2])
def test_a_first_ctrl_c_waits_for_the_update_and_a_second_is_obeyed_at_once(times, monkeypatch, tmp_path):
    def interrupted(state, rollout):
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        return learn(state, rollout)

    monkeypatch.setattr(training_loop, "learn", interrupted)
    said = "go on with: .* resume=" if times == 1 else "within an update, which is not saved"
    with pytest.raises(KeyboardInterrupt, match=said):
        train(composed("env=random_walk", "gamma=0.9", "steps=400"), tmp_path / "run")
    stored = tmp_path / "run" / "checkpoint.pt"
    assert stored.is_file() == (times == 1)
    if times == 1:
        assert int(read_checkpoint(stored)["steps"].min()) > 0


def signalled(options: list[str], number: int, folder: Path) -> subprocess.CompletedProcess:
    """A run that gets a signal, with all processes of its group, when it has logged a few rows."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *options, "hydra.run.dir=run"]
    started = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
    waited = time.monotonic()
    while not (folder / "run" / "metrics.csv").is_file() or (folder / "run" / "metrics.csv").stat().st_size < 1000:
        assert started.poll() is None, started.stderr.read()
        assert time.monotonic() - waited < 60
        time.sleep(0.05)
    os.killpg(started.pid, number)
    try:
        said = started.communicate(timeout=60)[1]
    finally:
        started.kill()
    with pytest.raises(ProcessLookupError):
        os.killpg(started.pid, 0)  # nobody is left
    return subprocess.CompletedProcess(command, started.returncode, stderr=said)


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_of_whole_updates_and_no_process(tmp_path):
    options = ["env=random_walk", "gamma=0.9", "seeds=4", "steps=100000000", "log_every=400", "processes=2"]
    stopped = signalled(options, signal.SIGINT, tmp_path)
    assert stopped.stderr.splitlines()[-1] == "error: interrupted; go on with: python scripts/train.py resume=run"
    assert stopped.returncode == 130
    stored = read_checkpoint(tmp_path / "run" / "checkpoint.pt")
    resumed = make_run(*options[:3], "steps=100000000", "log_every=400")
    resumed.load_state_dict(stored)
    again = make_run(*options[:3], "steps=100000000", "log_every=400")
    while int(again.steps.max()) < int(resumed.steps.max()):
        update(again)
    assert_same(again.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.slow
def test_environments_in_processes_of_their_own_outlive_a_signal_to_the_group(name, tmp_path, caplog):
    options = ["env=cartpole", "env.id=Acrobot-v1", "env.stepping=async", "algo=a2c", "algo.envs=2", "log_every=100"]
    options.append("steps=100000000")
    stopped = signalled(options, getattr(signal, name), tmp_path)
    assert stopped.returncode == 128 + getattr(signal, name)
    assert stopped.stderr.splitlines()[-1].endswith("; go on with: python scripts/train.py resume=run"), stopped.stderr
    assert "Traceback" not in stopped.stderr
    resumed = make_run(*options)
    with closing(resumed.collector):
        resumed.load_state_dict(read_checkpoint(tmp_path / "run" / "checkpoint.pt"), trust=True)
        assert (
            "the environments begin new episodes: AsyncVectorEnv(Acrobot-v1, num_envs=2) cannot be saved" in caplog.text
        )
        before = int(resumed.steps.min())
        update(resumed)
    assert int(resumed.steps.min()) > before > 0


FOUR_CORES = """
import os, sys
from pathlib import Path
os.cpu_count, os.sched_getaffinity = lambda: 4, lambda process: {0, 1, 2, 3}
import torch
torch.set_num_threads(4)
(torch.ones(1000, 1000) @ torch.ones(1000, 1000)).exp()
print(len(list(Path("/proc/self/task").iterdir())), "threads")
from rlnet.commands.train import main
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_a_module_network_in_two_processes_of_a_machine_with_four_cores_ends(tmp_path):
    """A process that is forked while OpenMP has threads would wait for them forever."""
    (tmp_path / "my_net.py").write_text(
        "from torch import nn\n\nclass Wide(nn.Sequential):\n    def __init__(self, width):\n"
        "        super().__init__(nn.Linear(19, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())\n"
    )
    options = ["env=random_walk", "network=module", "network.target=my_net.Wide", "++network.kwargs.width=128"]
    options += ["algo.envs=64", "algo.rollout=32", "seeds=2", "processes=2", "steps=4096", "log_every=2048"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{tmp_path}"
    command = [sys.executable, "-c", FOUR_CORES, *options, "hydra.run.dir=run"]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **piped)
    try:
        out, err = started.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
    assert started.returncode == 0, err
    assert int(out.split()[0]) >= 4, "OpenMP had threads before the fork"
    assert (tmp_path / "run" / "report.html").is_file()
