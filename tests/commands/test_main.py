"""The command `rlnet` and the public names: what the scripts do, from anywhere."""

import io
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from programs import python
from support import ROOT

import rlnet
from rlnet.commands import main as command
from rlnet.commands.api import composed

TINY = ("env=random_walk", "network=tabular", "algo.envs=2")


def environment(*path) -> dict[str, str]:
    return {"PYTHONPATH": ":".join(map(str, (ROOT, *path))), "PATH": "/usr/bin:/bin"}


def called(*arguments: str, cwd=None, path=()) -> subprocess.CompletedProcess:
    """`python -m rlnet ...` in a folder without a source tree; `path` comes after that of rlnet."""
    return python("-m", "rlnet", *arguments, cwd=cwd, environment=environment(*path))


@pytest.mark.slow
def test_training_solving_and_scoring_again_from_an_empty_folder(tmp_path):
    trained = called("train", *TINY, "steps=640", "hydra.run.dir=run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "run" / "report.html").exists()
    starts = (tmp_path / "run" / ".hydra" / "commands.yaml").read_text()
    assert "command: python -m rlnet train env=random_walk" in starts
    again = [sys.executable, "-m", "rlnet", "compare", "run"]
    assert subprocess.run(again, cwd=tmp_path, env=environment(), capture_output=True, timeout=120).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("trian",), "did you mean train?"), (("fly",), "allowed are train, solve"), ((), "usage: rlnet COMMAND")],
)
def test_a_command_that_there_is_not_ends_in_one_sentence(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rlnet", *arguments])
    assert command.main() == 2
    assert said in capsys.readouterr().err


def test_what_an_encoding_does_not_have_becomes_a_question_mark(monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii"))
    command.command("table")
    print("π of V*", flush=True)
    assert out.getvalue() == b"? of V*\n"


def test_ctrl_c_during_the_imports_of_a_command_ends_it_without_a_traceback(monkeypatch):
    seen = []

    def imported(name):
        seen.append((name, signal.getsignal(signal.SIGINT)))
        return SimpleNamespace(main=lambda: seen.append(("main", signal.getsignal(signal.SIGINT))) or 0)

    monkeypatch.setattr(command, "import_module", imported)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert command.command("train")() == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [("rlnet.commands.train", signal.SIG_DFL), ("main", signal.default_int_handler)]


def test_training_from_python_returns_what_acts_and_what_was_logged():
    result = rlnet.train(*TINY, "algo=q_learning", steps=2_000, seeds=2, log_every=500)
    assert result.folder is None
    assert result.log["step"].shape[1] == 2
    assert (result.log["step"][-1] >= 2_000).all()
    assert result.values["q"].shape == (2, 19, 2)
    np.testing.assert_allclose(result.policy.q(3), result.values["q"][0, 3], rtol=1e-5)
    np.testing.assert_allclose(result.member(1).q([0, 5]), result.values["q"][1, [0, 5]], rtol=1e-5)
    assert result.policy(3) == result.values["q"][0, 3].argmax()
    assert result.policy([0, 5, 7]).shape == (3,)
    assert set(result.policy([9] * 200, sample=True)) <= {0, 1}
    assert "<table>" in result._repr_html_()
    with pytest.raises(ValueError, match=r"obs=19: must be a state 0\.\.18"):
        result.policy(19)
    np.testing.assert_allclose(result.policy.value([0, 5]), result.values["q"][0, [0, 5]].max(1), rtol=1e-5)


@pytest.mark.slow
def test_training_from_python_leaves_a_folder_only_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rlnet.train(*TINY, "algo=td0", steps=640)
    assert list(tmp_path.iterdir()) == []
    result = rlnet.train(*TINY, "algo=td0", steps=640, folder="run")
    assert (tmp_path / "run" / "metrics.csv").exists()
    np.testing.assert_allclose(result.policy.value(4), result.values["v"][0, 4], rtol=1e-5)
    with pytest.raises(rlnet.ConfigError, match="already holds a run"):
        rlnet.train(*TINY, "algo=td0", steps=640, folder="run")


@pytest.mark.slow
def test_a_run_goes_on_from_python_as_from_the_command_line(tmp_path):
    settings = {"steps": 1_280, "gamma": 0.7, "log_every": 320, "checkpoint_every": 320}

    def stop(step, scores):
        if step >= 960:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        rlnet.train(*TINY, "algo=sarsa", folder=tmp_path / "run", on_row=stop, **settings)
    on = rlnet.train(f"resume={tmp_path / 'run'}")
    assert (on.folder, on.config.algo.name, on.log["step"][-1, 0]) == (tmp_path / "run", "sarsa", 1_280)
    np.testing.assert_array_equal(on.values["q"], rlnet.train(*TINY, "algo=sarsa", **settings).values["q"])
    assert repr(on).startswith("TrainingResult(sarsa on random_walk, γ = 0.7, folder=")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("env=gridwrld",), r"env=gridwrld: allowed are acrobot, .*; did you mean gridworld\?"),
        (("step=3",), "did you mean steps"),
        (("gridworld",), "must be KEY=VALUE"),
        ((3,), "3: must be KEY=VALUE"),
        (("hydra.run.dir=here",), "hydra.run.dir=here: belongs to the command line"),
        (("resume=nowhere",), "resume=nowhere: must be the folder of a run"),
        (("seeds=[1, 2]",), r"seeds=\[1, 2\]: must be one value; several are -m seeds="),
        (("vary=[1]",), r"vary=\[1\]: is a group of keys, each with its own value, as in vary\.KEY="),
        (("device=cpu:0",), "device=cpu:0: must be cpu, cuda or cuda:N"),
    ],
)
def test_what_cannot_be_used_is_named(overrides, said):
    with pytest.raises(rlnet.ConfigError, match=said):
        rlnet.train(*overrides)


def test_settings_from_python_may_be_lists_and_dictionaries():
    vary = {"gamma": np.array([0.5, 0.75]), "learning_rate": (1e-3, np.float64(3e-3))}
    config = composed("env=gridworld", vary=vary, evaluation={"every": 500}, plugins=["json"], seed=np.int64(3))
    written = composed("env=gridworld", "vary.gamma=[0.5,0.75]", "vary.learning_rate=[1e-3,3e-3]", "seed=3")
    assert config.vary == written.vary
    assert (config.member_seeds, config.evaluation.every) == (written.member_seeds, 500)
    assert list(config.plugins) == ["json"]


def test_real_actions_stay_within_their_bounds():
    result = rlnet.train("env=pendulum", "algo=ppo", steps=256, gamma=0.9)
    actions = result.policy(np.random.default_rng(0).normal(size=(50, 3)) * 5, sample=True)
    assert actions.shape == (50, 1)
    assert np.abs(actions).max() <= 2


def test_public_names_are_there_and_others_are_not():
    assert set(rlnet.__all__) <= set(dir(rlnet))
    assert all(getattr(rlnet, name) is not None for name in rlnet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        _ = rlnet.fly
