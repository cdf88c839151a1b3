"""A user's own environment and algorithm, from a module in the folder where the command is called."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands.test_main import TINY, called
from support import ROOT, quick_rows

from rlnet.config import ENVIRONMENTS, ConfigError
from rlnet.config.registry import Registry
from rlnet.envs import GridworldConfig

PLUGIN = '''
from dataclasses import dataclass, field

import numpy as np

from rlnet.algos.algorithm import Acting, Algorithm, Judged, SemiGradient, Target, by_values
from rlnet.algos.context import Q
from rlnet.algos.loss_terms import one_step
from rlnet.config import EnvConfig, ScheduleConfig, register_algorithm, register_environment, register_schedule
from rlnet.envs import Environment, from_model
from rlnet.mdp import FiniteMDP
from rlnet.policies.schedules import Progress


@register_environment("two_doors")
class TwoDoors(EnvConfig):
    """One room with two doors: one pays `prize`, the other 1."""

    gamma: float = 0.9
    prize: float = 2.0

    def build(self) -> Environment:
        mdp = FiniteMDP.from_outcomes({0: {0: [(1.0, 0, self.prize, True)], 1: [(1.0, 0, 1.0, True)]}})
        return from_model(self.name, mdp, np.eye(1, dtype=np.float32), self.max_episode_steps)


def target(context, params, target_params, batch, hyper):
    """R + γ·max_a Q(S', a)."""
    return Target(one_step(batch, hyper, context.q(target_params, batch.next_state).amax(-1)))


@register_algorithm("my_q", envs=8, rollout=4)
def my_q() -> Algorithm:
    return Algorithm((Q,), Acting(by_values), SemiGradient(target), Judged.GREEDY, source="Watkins 1989")


@dataclass
class Halved(ScheduleConfig):
    """`value`, and half of it after half of the run."""

    value: float = field(default=1.0, metadata={"per_member": True})


@register_schedule("halved", Halved)
def halved(config: Halved, progress: Progress) -> np.ndarray:
    return config.value * np.where(progress.done < 0.5, 1.0, 0.5)
'''


def test_an_environment_and_an_algorithm_of_ones_own_are_one_file(tmp_path):
    (tmp_path / "my_module.py").write_text(PLUGIN, encoding="utf-8")
    own = ("plugins=[my_module]", "env=two_doors", "env.prize=3", "algo=my_q", "network=tabular", "schedule=halved")
    trained = called("train", *own, "steps=3000", "optimizer.learning_rate=0.03", "hydra.run.dir=run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    scores = json.loads((tmp_path / "run" / "comparison.json").read_text(encoding="utf-8"))
    assert scores["members"][0]["scores"]["exact/optimal_return"] == pytest.approx(3.0)
    assert scores["members"][0]["scores"]["exact/regret"] == 0.0
    # The folder names a module: read again only where it is trusted.
    again = called("compare", "run", cwd=tmp_path)
    assert again.returncode == 2
    assert "plugins=[my_module] would be imported" in again.stderr
    assert called("compare", "run", "trust=true", cwd=tmp_path).returncode == 0
    solved = called("solve", "plugins=[my_module]", "env=two_doors", "hydra.run.dir=exact", cwd=tmp_path)
    assert solved.returncode == 0, solved.stderr


def test_a_plugin_that_is_not_there_or_fails_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0")
    for plugin, reason in (("nowhere", "No module named"), ("broken", "ZeroDivisionError")):
        ended = called("train", f"plugins=[{plugin}]", "env=gridworld", cwd=tmp_path)
        assert ended.returncode == 2
        assert f"plugins=[{plugin}]: cannot be imported" in ended.stderr
        assert reason in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_name_belongs_to_one_module():
    registry = Registry("env.kind", (), "env")
    registry.add("a", 1, "one")
    registry.add("a", 2, "one")
    assert registry["a"] == 2
    with pytest.raises(ConfigError, match=r"env\.kind=a: is registered by one and by two"):
        registry.add("a", 3, "two")
    with pytest.raises(ConfigError, match=r"env\.kind=b: allowed are a"):
        _ = registry["b"]


def test_a_registered_class_of_settings_is_a_dataclass_that_knows_its_kind():
    config = GridworldConfig(name="x", gamma=1.0, map="S.G")
    assert (config.kind, ENVIRONMENTS["gridworld"]) == ("gridworld", GridworldConfig)
    assert {"gridworld", "gymnasium", "random_walk"} <= set(ENVIRONMENTS.names())


def install(site: Path, package: str, module: str, points: dict[str, str], group: str = "environments") -> None:
    """What pip leaves of a package of one module: the module, and a dist-info folder with its entry points."""
    (site / f"{package}.py").write_text(module, encoding="utf-8")
    about = site / f"{package}-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    lines = [f"[rlnet.{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))


def answered(site: Path, script: str) -> list[str]:
    """The lines that a script prints with `site` as site-packages, in an empty folder below it."""
    (site / "empty").mkdir(exist_ok=True)
    environment = {"PYTHONPATH": f"{ROOT}:{site}", "PATH": "/usr/bin:/bin"}
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=site / "empty", env=environment, capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()


MINE = ("env=two_doors", "algo=my_q", "network=tabular", "steps=3000", "optimizer.learning_rate=0.03")


@pytest.mark.slow
def test_a_package_installed_by_pip_gives_an_environment_and_an_algorithm(tmp_path):
    site, project, empty = (tmp_path / name for name in ("site", "project", "empty"))
    project.mkdir()
    empty.mkdir()
    (project / "doors.py").write_text(PLUGIN, encoding="utf-8")
    (project / "pyproject.toml").write_text(
        """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "doors"
        version = "1.2"
        [project.entry-points."rlnet.environments"]
        two_doors = "doors:TwoDoors"
        [project.entry-points."rlnet.algorithms"]
        my_q = "doors:my_q"
        [tool.setuptools]
        py-modules = ["doors"]
        """
    )
    for needed in ("pip", "setuptools"):
        if importlib.util.find_spec(needed) is None:  # not imported here: setuptools wants to be before distutils
            pytest.skip(f"{needed} is not installed")
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run([*pip, "--target", site, project], check=True, capture_output=True, timeout=120)
    trained = called("train", *MINE, "env.prize=3", "hydra.run.dir=run", cwd=empty, path=[site])
    assert trained.returncode == 0, trained.stderr
    scores = json.loads((empty / "run" / "comparison.json").read_text())["members"][0]["scores"]
    assert scores["exact/optimal_return"] == pytest.approx(3.0)
    assert scores["exact/regret"] == 0.0
    # What is installed is trusted, unlike what a folder brings along; a sweep finds it, too, and the help lists it.
    assert called("compare", "run", cwd=empty, path=[site]).returncode == 0
    swept = called("solve", "-m", "env=two_doors,cliff", "hydra.sweep.dir=sweep", cwd=empty, path=[site])
    assert swept.returncode == 0, swept.stderr
    assert " two_doors, " in called("train", "--help", cwd=empty, path=[site]).stdout


@pytest.mark.slow
def test_an_installed_package_is_found_from_python(tmp_path):
    install(tmp_path, "doors", PLUGIN, {"two_doors": "doors:TwoDoors"})
    install(tmp_path, "more", "import doors", {"my_q": "doors:my_q"}, "algorithms")
    script = f"""
import rlnet
print(rlnet.train(*{MINE}).policy(0))
print(rlnet.solve(rlnet.make(rlnet.preset("two_doors", prize=5.0)).mdp, 0.9).v)
"""
    *_, action, value = answered(tmp_path, script)
    assert (action, value) == ("0", "[5.]")


FAULTS = {
    "import nowhere_to_be_found": "cannot be imported: ModuleNotFoundError: No module named 'nowhere_to_be_found'",
    "1 / 0": "cannot be imported: ZeroDivisionError: division by zero",
    "": "cannot be imported: AttributeError: module 'broken2' has no attribute 'Mine'",
    "Mine = 3": "registers nothing: decorate",
    "class Mine:\n    def build(self): ...": "registers nothing: decorate",
    PLUGIN.replace('"two_doors"', '"cliff"') + "\nMine = TwoDoors": "=cliff: is registered by rlnet and by broken5",
    PLUGIN.replace('"my_q"', '"dqn"') + "\nMine = my_q": "algo=dqn: is registered by rlnet and by broken6",
    PLUGIN.replace('"two_doors"', '"other1"').replace('"my_q"', '"other2"')
    + "\nMine = TwoDoors": "of this name: decor",
}


@pytest.mark.slow
@pytest.mark.parametrize(("group", "key"), quick_rows([("environments", "env"), ("algorithms", "algo")], 1))
def test_a_broken_entry_point_is_named_and_hinders_nobody_else(group, key, tmp_path):
    for k, module in enumerate(FAULTS):
        install(tmp_path, f"broken{k}", module, {f"mine{k}": f"broken{k}:Mine"}, group)
    for package in ("twice", "again"):
        install(tmp_path, package, "1 / 0", {"double": package}, group)
    install(tmp_path, "shadow", "1 / 0", {"cliff": "shadow", "dqn": "shadow"}, group)
    names = [*(f"mine{k}" for k in range(len(FAULTS))), "double", "nothing", "cliff" if key == "env" else "dqn"]
    script = f"""
import logging, sys
from rlnet.config import ConfigError, import_named, register
logging.basicConfig(stream=sys.stdout, format="%(message)s")
register()
import_named(["env=random_walk", "algo=td0"])
assert not {{"broken0", "broken1", "twice", "shadow"}} & set(sys.modules)
for name in {names}:
    try:
        import_named(["{key}=" + name])
    except ConfigError as error:
        print(error)
"""
    *sentences, double, nothing, shadowed = answered(tmp_path, script)
    for k, (sentence, said) in enumerate(zip(sentences, FAULTS.values(), strict=True)):
        assert sentence.startswith(f"{key}=mine{k}: the entry point 'mine{k} = broken{k}:Mine' of broken{k} 1.2 ")
        assert said in sentence
    assert double.startswith(f"{key}=double: is defined by the entry point 'double = ")
    assert "of twice 1.2" in double
    assert "of again 1.2; uninstall one of them" in double
    # Whoever asks for a name that nobody has is told which plugins could not be looked into.
    assert nothing.startswith(f"{key}=nothing: there is none of this name; the entry point ")
    assert "of broken0 1.2 cannot be imported" in nothing
    own = names[-1]
    assert shadowed == f"{key}={own} is defined by rlnet; the entry point '{own} = shadow' of shadow 1.2 is ignored"


@pytest.mark.slow
def test_runs_do_not_meet_a_broken_plugin_that_they_do_not_name(tmp_path):
    for group in ("environments", "algorithms"):
        install(tmp_path, f"broken_{group}", "1 / 0", {"mine": f"broken_{group}"}, group)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert called("train", *TINY, "steps=320", "hydra.run.dir=run", cwd=empty, path=[tmp_path]).returncode == 0
    asked = called("train", *TINY, "algo=mine", "hydra.run.dir=other", cwd=empty, path=[tmp_path])
    assert asked.returncode == 2
    point = "the entry point 'mine = broken_algorithms' of broken_algorithms 1.2"
    assert asked.stderr == f"error: algo=mine: {point} cannot be imported: ZeroDivisionError: division by zero\n"
    assert not (empty / "other").exists()
