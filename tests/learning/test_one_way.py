"""From the command to the target: which files a call goes through, and how often a run solves and scores."""

import re
import subprocess
import sys

import pytest
from support import ROOT, composed

from rlnet.commands.train import job
from rlnet.compare import member_scores
from rlnet.envs import make
from rlnet.experiment import exact_solutions, problem
from rlnet.learning.training_loop import train

# Run the script until a function of the algorithm's file is called, and print the files of rlnet on the stack.
TRACE = """
import os, runpy, sys
import rlnet.learning.training_loop as loop
root, algo, script = sys.argv[1], os.path.join("rlnet", "algos", sys.argv[2] + ".py"), sys.argv[3]

def called(frame, event, argument):
    if not frame.f_code.co_filename.endswith(algo):
        return
    files = []
    while frame is not None:
        path = os.path.relpath(frame.f_code.co_filename, root)
        if path.startswith(("rlnet", "scripts")):
            files.append(path)
        frame = frame.f_back
    print("FILES", *dict.fromkeys(reversed(files)), flush=True)
    os._exit(0)

def watched(state, rollout):
    sys.settrace(called)
    return learn(state, rollout)

learn, loop.learn = loop.learn, watched
sys.argv = sys.argv[3:]
runpy.run_path(script, run_name="__main__")
"""
WAY = ["scripts/train.py", "rlnet/commands/train.py", "rlnet/commands/command_line.py"]
WAY += ["rlnet/learning/training_loop.py", "rlnet/learning/updates.py", "rlnet/learning/learner.py"]


def files_to_the_target(folder, algo: str, *options: str) -> list[str]:
    line = [sys.executable, "-c", TRACE, str(ROOT), algo, str(ROOT / "scripts" / "train.py")]
    words = ["env=random_walk", f"algo={algo}", "algo.envs=1", "hydra.run.dir=run", *options]
    said = subprocess.run([*line, *words], cwd=folder, capture_output=True, text=True, timeout=120)
    found = [line.split()[1:] for line in said.stdout.splitlines() if line.startswith("FILES")]
    assert len(found) == 1, said.stderr
    return found[0]


@pytest.mark.parametrize(
    ("algo", "options"),
    [
        ("q_learning", ()),
        pytest.param("dqn", ("algo.learning_starts=64", "network.activation=silu"), marks=pytest.mark.slow),
        pytest.param("a2c", (), marks=pytest.mark.slow),
        pytest.param("sarsa_lambda", (), marks=pytest.mark.slow),
        pytest.param("mc", ("algo.rollout=50",), marks=pytest.mark.slow),
    ],
)
def test_a_reader_opens_seven_files_from_the_script_to_the_target(algo, options, tmp_path):
    assert files_to_the_target(tmp_path, algo, *options) == [*WAY, f"rlnet/algos/{algo}.py"]


def test_the_readme_names_these_files():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.search(r"From `scripts/train.py` to the target a\s+reader opens (.*?),\s+and from there", text, re.DOTALL)
    names = re.findall(r"`([\w/]+\.py)`", told.group(1))
    way = ["scripts/train.py", *names[:-1]]
    assert len(way) == len(WAY)
    assert names[-1] == "algos/NAME.py"
    assert all(path.endswith(name) for path, name in zip(WAY, way, strict=True))


@pytest.fixture
def counted(monkeypatch):
    """How often a run solves its problem, builds its environment, and scores networks."""
    counts = dict.fromkeys(("solve", "make", "score"), 0)

    def counting(name, function):
        def called(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        return called

    monkeypatch.setattr(exact_solutions, "solve", counting("solve", exact_solutions.solve))
    monkeypatch.setattr(problem, "make", counting("make", make))
    monkeypatch.setattr("rlnet.report.finished.make", counting("make", make))
    monkeypatch.setattr(member_scores, "score_member", counting("score", member_scores.score_member))
    return counts


SHORT = ("env=random_walk", "algo.envs=2", "steps=640", "log_every=320", "compare_every=320", "compare_share=1")


def test_a_run_solves_once_and_scores_the_final_networks_once(tmp_path, counted, capsys):
    """Scored are the first networks, those at step 320, and the final ones, which are shown and drawn as well."""
    job(composed(*SHORT, "seeds=2"), tmp_path / "run")
    assert counted == {"solve": 1, "make": 1, "score": 3 * 2}
    assert "exact/regret" in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.slow
def test_each_problem_of_a_population_is_solved_once(tmp_path, counted):
    train(composed(*SHORT, "seeds=2", "vary.gamma=[0.5,0.9]", "vary.learning_rate=[1e-3,1e-2]"), tmp_path / "run")
    assert counted == {"solve": 2, "make": 1, "score": 3 * 8}


@pytest.mark.slow
def test_several_processes_score_the_final_networks_where_they_are(tmp_path, counted):
    """Here only the first networks are scored; the files are those of one process."""
    result = train(composed(*SHORT, "seeds=2", "processes=2"), tmp_path / "run")
    assert counted == {"solve": 1, "make": 1, "score": 2}
    again = result.run.compare()[1].scalars
    assert {name: x.tolist() for name, x in again.items()} == {
        name: x.tolist() for name, x in result.scored.scalars.items()
    }
