"""The shape of the house: imports point downwards, and every config composes."""

import ast
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from hydra.errors import HydraException
from support import CONFIGS, ROOT, by_hydra, composed, quick_rows

from rlnet.config import Config
from rlnet.config.validation import from_hydra
from rlnet.experiment.run_folder import opened

# The rooms of the house, from the top floor down: a module may import from the floors below it, and from its own room.
FLOORS = (
    ("bench",),
    ("commands",),
    ("diagnosis",),
    ("learning",),
    ("report",),
    ("audit",),
    ("experiment",),
    ("algos",),
    ("data",),
    ("planning",),
    ("envs", "nets", "policies"),
    ("compare", "config"),
    ("mdp", "numerics"),
)


# Presets, and the names of what they choose.
SAME = {
    "decay": "linear",
    "correction": "linear",
    "dr_grpo": "grpo",
    "dapo": "grpo",
    "grpo_trl": "grpo",
    "rloo_trl": "rloo",
}


def room_of(module: str) -> str:
    """The room of `rlnet.room.x.y`."""
    return module.split(".")[1]


def floor_of(room: str) -> int:
    """Its floor, counted from the top."""
    found = [floor for floor, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"rlnet/{room} has no place in FLOORS"
    return found[0]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("rlnet.")}


def modules() -> list[Path]:
    return [path for path in sorted((ROOT / "rlnet").rglob("*.py")) if path.parent != ROOT / "rlnet"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = room_of(module)
    for name in imports(path):
        room = room_of(name)
        assert room == own or floor_of(room) > floor_of(own), f"{module} imports {name}, which does not stand below it"


def test_no_module_lies_outside_of_a_room():
    assert {path.parent for path in modules()}.isdisjoint({ROOT / "rlnet"})
    assert {path.name for path in (ROOT / "rlnet").iterdir() if path.suffix == ".py"} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("part", ["mdp/model", "mdp/solvers"])
def test_no_circle_of_imports_even_by_functions(part):
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules()}
    own = {name: imports(path) for path, name in names.items() if path.is_relative_to(ROOT / "rlnet" / part)}
    TopologicalSorter({name: {other for other in found if other in own} for name, found in own.items()}).prepare()


def test_returns_imports_torch_alone():
    assert imports(ROOT / "rlnet" / "algos" / "returns.py") == set()


def test_comparing_and_certificates_know_no_solver():
    for path in (*(ROOT / "rlnet" / "compare").glob("*.py"), *(ROOT / "rlnet" / "mdp" / "operators").glob("*.py")):
        assert not [name for name in imports(path) if name.startswith("rlnet.mdp.solvers")], path


def test_scripts_are_thin():
    for path in (ROOT / "scripts").glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 45, f"{path.name} has {len(lines)} lines: what it does belongs into rlnet"


# Those of env are composed in tests/envs/test_make.py, those of algo in tests/algos/test_losses.py.
GROUPS = ("network", "exploration", "schedule", "optimizer")


@pytest.mark.parametrize(
    ("group", "name"), [(g, path.stem) for g in GROUPS for path in sorted((CONFIGS / g).glob("*.yaml"))]
)
def test_every_config_composes_and_is_in_range(group, name):
    options = {
        "exploration": {"none": ("algo=reinforce",)},
        "schedule": {"none": ("exploration=greedy",), "decay": ("exploration=epsilon_greedy",), "correction": ()},
    }
    extra = options.get(group, {}).get(name, ())
    config = composed(f"{group}={name}", *extra)
    assert getattr(config, group).name == SAME.get(name, name)


@pytest.mark.parametrize(
    ("name", "line"),
    quick_rows(
        [
            ("train", "env=cliff algo=dqn gamma=1 algo.batch=7 algo.correction.start=.3 network.hidden=[8,9]"),
            ("train", "algo.batch=9 algo=double_dqn seeds=3 optimizer=sgd optimizer.lr=1e-2 algo.target_every=null"),
            ("train", "tuned=cartpole_ppo algo.envs=3 vary.gamma=[.9,.99] network.hidden=[4]"),
            ("train", "env=random_walk algo=td0 schedule=none exploration=greedy steps=5 network=tabular"),
            ("train", "env=lqr algo=sac steps=5 steps=7 network@algo.unknown=mlp"),
            ("train", "env=cliff algo=ppo network=tabular exploration=none steps=5"),
            ("train", "network=linear algo=sarsa_lambda env=windy optimizer=sgd"),
            ("train", "network=tabular algo=dqn exploration=softmax schedule=cosine schedule.end=.2"),
            ("train", "exploration=greedy network=cnn algo=qr_dqn optimizer=sgd env=deep_sea"),
            ("train", "algo=reinforce exploration=epsilon_greedy schedule=exponential"),
            ("train", "algo=sarsa algo.batch=7"),
            ("train", "algo=sarsa steps=many"),
            ("train", "algo=sarsa steps=1,2"),
            ("train", "env=nowhere steps=3"),
            ("solve", "env=gridworld gamma=.5 method=value_iteration env.slip=.25"),
            ("audit", "algo=sarsa env.slip=.3 gamma=.7"),
        ],
        8,
    ),
)
def test_what_tests_compose_is_what_hydra_composes(name, line):
    """`composed` sets numbers in a copy: the same settings and the same errors, whatever was composed earlier."""
    given = line.split()

    def outcome(compose: Callable[[], Config]) -> object:
        try:
            return compose()
        except HydraException as error:
            return type(error), str(error)

    wanted = outcome(lambda: from_hydra(by_hydra(*opened(given), name=name)))
    for _ in range(2):
        assert outcome(lambda: composed(*given, name=name)) == wanted
