"""Input of `rlnet solve`, `audit` and `train` that cannot be used; names from YAML files that would lead elsewhere."""

import sys
from importlib import import_module

import pytest
from support import quick, quick_rows

NAMES = ["../../evil", "/tmp/evil", "a\\x1b[31mb", "a/b", "..", ".hidden", "a b", "e" * 300, ""]


def called(command: str, arguments: list[str], capsys, monkeypatch) -> tuple[int, str]:
    """The exit code of a command and what it says on stderr; to be called in an empty folder."""
    monkeypatch.setattr(sys, "argv", [f"{command}.py", *arguments])
    return import_module(f"rlnet.commands.{command}").main(), capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    quick_rows(
        [
            ("solve", ["env=nowhere"], "env=nowhere: allowed are "),
            ("audit", ["env=nowhere"], "env=nowhere: allowed are "),
            ("solve", ["env=cliff", "gamma=nan"], "gamma=nan: must be in [0, 1]"),
            ("solve", ["env=cliff", "env.step_reward=nan"], "env.step_reward=nan: must be a finite number"),
            ("audit", ["env=random_walk", "env.left_reward=inf"], "env.left_reward=inf: must be a finite number"),
            ("solve", ["env=cliff", "tol=nan"], "tol=nan: must be a finite number above 0"),
            ("solve", ["env=cliff", "env.slip=nan"], "env.slip=nan: must be a probability"),
            ("solve", ["env=cliff", "env.cells.C=nan"], "env.cells.C=nan: "),
            ("solve", ["env=gridworld", "env.map="], "env.map: has no cells"),
            ("solve", ["env=random_walk", "env.length=1e17"], "env.length=100000000000000000 env.jump=1: needs about"),
            ("solve", ["env=random_walk", "env.length=1e30"], "env.length=1e30: must be a whole number"),
            ("audit", ["env=random_walk", "env.length=99999999999"], "env.length=99999999999 env.jump=1: needs about"),
            ("audit", ["env=cliff", "samples=nan"], "samples=nan: "),
            ("audit", ["env=cliff", "samples=0"], "samples=0: must be at least 1"),
            ("audit", ["env=cliff", "level=nan"], "level=nan: must be a probability"),
            ("audit", ["env=cliff", "envs=99999999999"], "envs=99999999999: needs about"),
            ("solve", ["env=cartpole", "env.id=Nope-v0"], "env.id=Nope-v0: "),
            ("solve", ["--config-dir=nowhere", "env=cliff"], "Additional config directory"),
            ("audit", ["--config-name=nowhere"], "Cannot find primary config 'nowhere'"),
            ("solve", [""], "'': must be KEY=VALUE"),
            ("solve", ["=cliff"], "'=cliff': must be KEY=VALUE"),
            ("solve", ["env="], "env=: must be one name"),
            ("solve", ["env=[1,2]"], "env=[1,2]: must be one name"),
            ("solve", ["env={name: cliff}"], "env={name: cliff}: must be one name"),
            ("solve", ["env=cliff,windy"], "env=cliff,windy: several values need -m"),
            ("solve", ["~env"], "env: has no value; give one as env=..."),
            ("solve", ["~tol"], "tol: has no value; leave out ~tol"),
            ("solve", ["+gama=0.9"], "gama: there is no such key; did you mean gamma?"),
            ("solve", ["+env.foo=1"], "env.foo: there is no such key; allowed here are bump_reward, cells, "),
            ("solve", ["hydra.run.dir="], "hydra.run.dir=: names no folder"),
            ("compare", ["run", "other"], "other: must be KEY=VALUE with one of the keys trust"),
            ("compare", ["run", "trust=yes"], "trust=yes: allowed are true, false"),
            (
                "train",
                ["seed=9223372036854775807", "seeds=2"],
                "seed=9223372036854775807: must be a whole number from 0",
            ),
            (
                "train",
                ["exploration=softmax", "schedule.start=inf"],
                "schedule.start=inf: the temperature of exploration=",
            ),
            (
                "train",
                ["optimizer.learning_rate=inf"],
                "optimizer.learning_rate=inf: must be a finite number, at least 0",
            ),
        ],
        20,
    ),
)
def test_what_is_malformed_is_refused_in_one_sentence(command, arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, err = called(command, arguments, capsys, monkeypatch)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert err.startswith(f"error: {said}")
    assert list(tmp_path.rglob("*.npz")) == []


@pytest.mark.parametrize("name", quick(NAMES, ["../../evil", "/tmp/evil", "a\\x1b[31mb"]))
@pytest.mark.parametrize("command", quick(["train", "solve", "audit"], ["train"]))
@pytest.mark.parametrize("folder", ["", "hydra.run.dir='out/keep_${env.name}'"])
def test_a_name_from_a_yaml_file_leads_nowhere_else(name, command, folder, tmp_path, monkeypatch, capsys):
    """Hydra makes the output folder before any setting is checked."""
    configs, place = tmp_path / "given" / "env", tmp_path / "a" / "b"
    configs.mkdir(parents=True)
    place.mkdir(parents=True)
    yaml = f'defaults:\n  - /schema/env/gridworld@_here_\n  - _self_\nname: "{name}"\ngamma: 0.9\nmap: |\n  S.G\n'
    (configs / "mine.yaml").write_text(yaml)
    monkeypatch.chdir(place)
    arguments = [f"--config-dir={configs.parent}", "env=mine", *filter(None, [folder])]
    code, err = called(command, arguments, capsys, monkeypatch)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert err.startswith("error: env.name='")
    assert "\x1b" not in err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "env", "given", "mine.yaml"]


def test_a_plain_name_from_a_yaml_file_names_the_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "env").mkdir()
    yaml = "defaults:\n  - /schema/env/gridworld@_here_\n  - _self_\nname: my-grid.2\ngamma: 0.9\nmap: |\n  S.G\n"
    (tmp_path / "env" / "mine.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    arguments = [f"--config-dir={tmp_path}", "env=mine", "hydra.run.dir='${env.name}_out'"]
    assert called("solve", arguments, capsys, monkeypatch) == (0, "")
    assert (tmp_path / "my-grid.2_out" / "solution.npz").is_file()
