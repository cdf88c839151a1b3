"""How to reproduce: what the pages list is what was typed, and typed again it gives the same numbers."""

import html
import json
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from support import draw_nothing

import rlnet
from rlnet.commands import main, train
from rlnet.experiment.run_files import Record
from rlnet.experiment.run_folder import _typed
from rlnet.learning import final_files, training_loop
from rlnet.report.finished import read_run
from rlnet.report.page import write_page
from rlnet.report.reproduce import of_run
from rlnet.report.sweep import write_sweep

SMALL = ("env=random_walk", "network=tabular", "gamma=0.9", "steps=600", "log_every=200", "compare_every=200")
SMALL += ("checkpoint_every=200", "compare_share=1", "algo.envs=4", "processes=1", "threads=1")
VARY = "vary.learning_rate=[0.1,0.01]"


class Killed(BaseException):
    """In place of SIGKILL: nothing catches it, and nothing is written any more."""


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Types a command into a shell that stands in an empty folder; without pictures, which take most of the time."""
    monkeypatch.chdir(tmp_path)
    picture = {"data": "", "width": 1, "height": 1, "alt": "", "note": ""}
    for place in ("page", "page_states", "sweep"):
        monkeypatch.setattr(f"rlnet.report.{place}.embedded", lambda *_: picture)
    monkeypatch.setattr("rlnet.report.page._curves", lambda _: [])
    monkeypatch.setattr("rlnet.report.page.scatter_plots", lambda _: [])
    monkeypatch.setattr("rlnet.report.sweep._pictures", lambda *_: [])
    draw_nothing(monkeypatch)
    monkeypatch.setattr(Record, "hparams", lambda *_: None)
    monkeypatch.setattr("rlnet.report.summary.show_run", lambda *_: None)

    def run(command: str) -> None:
        words = shlex.split(command)
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "orig_argv", words)
        if words[1] == "scripts/train.py":
            monkeypatch.setattr(sys, "argv", words[1:])
            assert train.main() == 0
        else:
            assert words[:3] == ["python", "-m", "rlnet"]
            monkeypatch.setattr(sys, "argv", words[2:])
            assert main.main() == 0

    return run


def listed(page: Path) -> list[str]:
    """What the page says under 'How to reproduce', without how to score and to write it again."""
    block = re.search(r"<h2>How to reproduce</h2>\s*<pre>(.*?)</pre>", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = html.unescape(block.group(1)).strip().splitlines()
    assert not any("++" in line for line in lines)
    return [line for line in lines if re.match(r"python (-m rlnet |\S*/)(compare|report)", line) is None]


def newest() -> Path:
    """The run that was written last."""
    return max(Path().rglob("comparison.json"), key=os.path.getmtime).parent


def assert_same(one: Path, other: Path) -> None:
    ends = [json.loads((folder / "comparison.json").read_text()) for folder in (one, other)]
    assert [end["members"] for end in ends[:1]] == [end["members"] for end in ends[1:]]
    for name, array in np.load(one / "values.npz").items():
        np.testing.assert_array_equal(array, np.load(other / "values.npz")[name])


@pytest.mark.slow
def test_a_run_of_several_settings_is_listed_as_it_was_typed(typed, tmp_path):
    command = shlex.join(["python", "scripts/train.py", *SMALL, VARY, "algo.hyper.huber=1", "algo=dqn"])
    typed(command + " hydra.run.dir=../" + tmp_path.name + "/run")
    assert listed(Path("run/report.html")) == [command]
    assert str(tmp_path) not in re.search(r"<pre>(.*?)</pre>", Path("run/report.html").read_text(), re.DOTALL).group(1)
    typed(command)
    assert newest() != Path("run")
    assert_same(Path("run"), newest())


@pytest.mark.slow
def test_a_run_that_went_on_for_longer(typed):
    typed(shlex.join(["python", "scripts/train.py", *SMALL, VARY, "hydra.run.dir=run"]))
    typed("python scripts/train.py resume=run")
    typed("python scripts/train.py resume=run steps=1e3")
    typed("python scripts/train.py resume=run steps=1200 hydra.run.dir=elsewhere")
    for folder, steps in (("run", [1000]), ("elsewhere", [1000, 1200])):
        lines = listed(Path(folder) / "report.html")
        again = [f"python scripts/train.py resume=again steps={count}" for count in steps]
        assert lines == [shlex.join(["python", "scripts/train.py", *SMALL, VARY, "hydra.run.dir=again"]), *again]
    for line in lines:
        typed(line)
    assert_same(Path("elsewhere"), Path("again"))


@pytest.mark.slow
def test_a_run_that_was_interrupted_is_one_command(typed, monkeypatch):
    command = shlex.join(["python", "scripts/train.py", *SMALL])

    def dies(*_, **__):
        raise Killed

    for module, method, folder in ((final_files, "write_arrays", "late"), (training_loop, "write_checkpoint", "early")):
        with monkeypatch.context() as patch:
            patch.setattr(module, method, dies)
            with pytest.raises(Killed):
                typed(f"{command} hydra.run.dir={folder}")
        typed(f"python scripts/train.py resume={folder}")
        assert listed(Path(folder) / "report.html") == [command]
    typed(command)
    assert_same(Path("late"), newest())
    assert_same(Path("early"), newest())


@pytest.mark.slow
def test_where_a_stop_decides_the_numbers_it_is_said(typed, monkeypatch):
    typed(shlex.join(["python", "scripts/train.py", *SMALL, "hydra.run.dir=run"]))
    path = Path("run/.hydra/commands.yaml")
    path.write_text(path.read_text().replace("steps: 600", "steps: 700"))  # as if it had been stopped before its end
    typed("python scripts/train.py resume=run steps=900")
    assert "# stopped at step 600 of 700, and then:" in listed(Path("run/report.html"))


@pytest.mark.slow
def test_a_sweep_is_the_command_that_was_typed_and_each_run_one_of_its_own(typed):
    command = shlex.join(["python", "scripts/train.py", "-m", *SMALL, VARY, "algo=q_learning,sarsa"])
    typed(command + " hydra.sweep.dir=sweep")
    assert listed(Path("sweep/report.html")) == [command]
    (alone,) = listed(Path("sweep/1/report.html"))
    assert alone == shlex.join(["python", "scripts/train.py", *SMALL, VARY, "algo=sarsa"])
    typed(alone)
    assert_same(Path("sweep/1"), newest())
    typed("python scripts/train.py resume=sweep/1 steps=800")
    again = [line for line in listed(write_sweep(Path("sweep"))) if "resume=" in line]
    assert again == ["python scripts/train.py resume=again_1 steps=800"], "then each run is listed"


@pytest.mark.slow
def test_a_run_from_python_can_be_typed_and_gone_on_with(typed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rlnet.train(*SMALL, VARY, seed=3, folder="run")
    (line,) = listed(write_page(Path("run")))
    assert line == shlex.join(["python", "-m", "rlnet", "train", *SMALL, VARY, "seed=3"])
    typed(line)
    assert_same(Path("run"), newest())
    typed("python scripts/train.py resume=run steps=800")
    assert json.loads(Path("run/comparison.json").read_text())["members"][0]["step"] == 800


def test_what_a_launcher_starts_knows_how_it_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "some.launcher", "--pipe", "7"])
    for called, wanted in (("rlnet train", "rlnet train"), ("scripts/train.py", "python scripts/train.py")):
        monkeypatch.setattr(sys, "argv", [called, "-m", "env=maze", "++vary.gamma=[0.8,0.9]"])
        assert _typed() == f"{wanted} -m env=maze 'vary.gamma=[0.8,0.9]'"


@pytest.mark.slow
def test_without_a_record_what_is_known_is_listed(typed):
    typed(shlex.join(["python", "scripts/train.py", *SMALL, "hydra.run.dir=run"]))
    Path("run/.hydra/commands.yaml").unlink()
    assert of_run(read_run(Path("run"))) == [shlex.join(["python", "scripts/train.py", *SMALL])]
