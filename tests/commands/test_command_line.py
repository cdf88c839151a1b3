"""The scripts as a user calls them: what works, and one sentence with exit code 2 for what cannot."""

import gc
import json
import subprocess
import sys
import weakref

import numpy as np
import pytest
from programs import python
from support import ROOT

from rlnet.commands.failures import answer
from rlnet.config import ConfigError

FAST = ("steps=640", "log_every=320", "compare_every=640", "env=random_walk")


def script(name: str, *arguments: str, cwd) -> subprocess.CompletedProcess:
    return python(str(ROOT / "scripts" / f"{name}.py"), *arguments, cwd=cwd)


WRONG = [
    ("train", ["gamma=1.2"], "gamma=1.2: must be in [0, 1]"),
    ("train", ["gamma=abc"], "gamma=abc: Value 'abc' of type 'str' could not be converted to Float"),
    ("train", ["gama=0.9"], "gama=0.9: there is no such key; did you mean gamma?"),
    ("train", ["algo.hyper.gama=3"], "algo.hyper.gama=3: there is no such key; did you mean gamma?"),
    (
        "train",
        ["constraint.limit=[0.1,0.2]"],
        "constraint.limit=[0.1,0.2]: must be one value; several are vary.constraint.limit=[0.1,0.2] where ",
    ),
    ("train", ["env.risk_limit=0.1"], "env.risk_limit=0.1: there is no such key; did you mean constraint.limit?"),
    (
        "train",
        ["algo.learning_rate=1"],
        "algo.learning_rate=1: there is no such key; did you mean optimizer.learning_rate?",
    ),
    (
        "train",
        ["algo.n_step=3", "algo=td0"],
        "algo.n_step=3: there is no such key; other choices of algo= have it; allowed here are behaviour, envs, ",
    ),
    (
        "train",
        ["network.activation=silu", "network=tabular"],
        "network.activation=silu: there is no such key; other choices of network= have it; allowed here are ",
    ),
    ("train", ["schedule.start=-0.1"], "schedule.start=-0.1: ε of exploration=epsilon_greedy must be in [0, 1]"),
    ("train", ["env=chess"], "env=chess: allowed are acrobot, baird, "),
    ("train", ["algo=dqm"], "algo=dqm: allowed are a2c, actor_critic, "),
    ("train", ["env=sutton5x5", "gamma=1"], "gamma=1.0: env=sutton5x5 has no finite values without discount: a policy"),
    (
        "train",
        ["exploration=none"],
        "exploration=none: algo=q_learning needs one of greedy, epsilon_greedy, softmax",
    ),
    ("train", ["algo=td0", "exploration=greedy"], "exploration=greedy: must be none: algo=td0 acts by its own policy"),
    (
        "train",
        ["exploration=greedy", "schedule=linear"],
        "schedule=linear: exploration=greedy has nothing to schedule",
    ),
    (
        "train",
        ["algo=reinforce", "algo.hyper.entropy_coefficient=-1"],
        "algo.hyper.entropy_coefficient=-1.0: must be",
    ),
    (
        "train",
        ["algo=td0", "algo.policy=nowhere.npz"],
        "algo.policy=nowhere.npz: must be uniform, optimal, a list with a weight for each action, or",
    ),
    ("train", ["algo=mc", "env=sutton5x5", "gamma=0.999"], "gamma=0.999: env=sutton5x5 never ends"),
    ("train", ["network=tabular", "env=cartpole"], "network=tabular: env=cartpole has no countable states"),
    ("train", ["device=tpu"], "device=tpu: must be cpu, cuda or cuda:N"),
    ("train", ["resume=nowhere"], "resume=nowhere: must be the folder of a run"),
    ("solve", ["env=cartpole"], "env=cartpole: has no finite model"),
    ("solve", ["env=cliff", "method=magic"], "method=magic: "),
    ("audit", ["env=cartpole"], "env=cartpole: has no finite model that its simulator could be tested against"),
    ("compare", ["nowhere"], "nowhere/.hydra/config.yaml: there is no such file"),
]
# A fifth of them, of all kinds, is enough for every run.
SOME = [case if k % 5 == 0 else pytest.param(*case, marks=pytest.mark.slow) for k, case in enumerate(WRONG)]


@pytest.mark.parametrize(("name", "arguments", "sentence"), SOME)
def test_wrong_input_ends_in_one_sentence_and_exit_code_2(name, arguments, sentence, tmp_path):
    done = script(name, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"error: {sentence}"), lines[0]


@pytest.mark.slow
def test_train_then_compare_then_predict_with_the_saved_policy(tmp_path):
    done = script("train", *FAST, "hydra.run.dir=run", "gamma=0.9", "seeds=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "learned V" in done.stdout
    assert "exact V*" in done.stdout
    assert "run/values.npz" in done.stdout
    assert "run/report.html" in done.stdout
    assert "Over 2 seeds (means): Q is" in done.stdout
    again = script("compare", "run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr + again.stdout
    assert "0.0e+00" in again.stdout
    used = script("train", *FAST, "hydra.run.dir=run", cwd=tmp_path)
    assert used.returncode == 2
    assert "already holds a run" in used.stderr
    assert "gamma: 0.9" in (tmp_path / "run" / ".hydra" / "config.yaml").read_text()
    prediction = script("train", *FAST, "algo=td0", "algo.policy=run/values.npz", "gamma=0.9", cwd=tmp_path)
    assert prediction.returncode == 0, prediction.stderr
    resumed = script("train", "resume=run", "steps=960", "hydra.run.dir=more", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((tmp_path / "more" / "comparison.json").read_text())["members"][1]["step"] == 960


@pytest.mark.slow
def test_a_refused_or_unreadable_folder_stays_as_it_is(tmp_path):
    run = ("train", *FAST, "hydra.run.dir='keep_${env.name}'")
    assert script(*run, "gamma=0.9", cwd=tmp_path).returncode == 0
    used = script(*run, "gamma=0.5", cwd=tmp_path)
    assert used.returncode == 2
    assert used.stderr.startswith("error: hydra.run.dir=keep_random_walk: already holds a run")
    assert "gamma: 0.9" in (tmp_path / "keep_random_walk" / ".hydra" / "config.yaml").read_text()
    assert script("compare", "keep_random_walk", cwd=tmp_path).returncode == 0
    fewer = script("train", "resume=keep_random_walk", "steps=320", cwd=tmp_path)
    assert "steps=320: resume=keep_random_walk has done 640 already" in fewer.stderr
    (tmp_path / "keep_random_walk" / "checkpoint.pt").write_text("nonsense")
    (tmp_path / "keep_random_walk" / "values.npz").write_text("nonsense")
    for name, argument in (("train", "resume=keep_random_walk"), ("compare", "keep_random_walk")):
        broken = script(name, argument, cwd=tmp_path)
        assert broken.returncode == 2
        assert len(broken.stderr.strip().splitlines()) == 1
        assert "cannot be read" in broken.stderr


@pytest.mark.slow
def test_solve_prints_the_grid_and_writes_the_solution(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "solve.py"), "env=cliff", "gamma=1", "hydra.run.dir=exact"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "J* = -13" in done.stdout
    solution = np.load(tmp_path / "exact" / "solution.npz")
    assert solution["start"] @ solution["v"] == pytest.approx(-13.0)
    assert solution["error_bound"] < 1e-8


def test_what_a_failed_call_held_is_freed_before_the_process_ends(monkeypatch, capsys):
    """Emulators of Atari, for one, write twenty lines about what is left of them at the exit."""
    held = []

    def job() -> int:
        own = {1}
        held.append(weakref.ref(own))
        try:
            raise ConfigError("steps=0: must be at least 1")
        except ConfigError as error:
            kept = error  # which holds this frame, which holds `kept`
            raise RuntimeError("can't allocate memory") from kept

    gc.disable()
    try:
        assert answer(job) == 1
        assert held[0]() is None
    finally:
        gc.enable()
    assert capsys.readouterr().err.startswith("error: there is not enough memory")
