"""The shape of the house: imports point downwards, and every config composes."""

import ast
from pathlib import Path

import pytest
from support import CONFIGS, ROOT, composed

# From the top down; a module may import those below it, and its own package.
LAYERS = (
    "bench",
    "cli",
    "report.summary",
    "report.audited",
    "audit",
    "exact",
    "train",
    "diagnosis",
    "verdict",
    "report",
    "shares",
    "threads",
    "update",
    "run",
    "record",
    "folder",
    "checkpoint",
    "cadence",
    "build",
    "policies",
    "learner",
    "acting",
    "slopes",
    "collect",
    "replay",
    "priorities",
    "algos",
    "distributions",
    "explore",
    "compare",
    "traces",
    "returns",
    "derivatives",
    "data",
    "nets",
    "envs",
    "validate",
    "trust",
    "mdp",
    "statistics",
    "rng",
    "members",
    "interrupt",
    "files",
    "memory",
    "config",
)


def layer_of(module: str) -> int:
    """Index in LAYERS of `rlnet.x.y`: the longest name that fits."""
    parts = module.removeprefix("rlnet").lstrip(".").split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in LAYERS:
            return LAYERS.index(name)
    raise AssertionError(f"{module} has no place in LAYERS")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("rlnet.")}


def modules() -> list[Path]:
    return [path for path in sorted((ROOT / "rlnet").rglob("*.py")) if path != ROOT / "rlnet" / "__init__.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = layer_of(module)
    for name in imports(path):
        try:
            target = layer_of(name)
        except AssertionError:  # a name inside of a module, whose module is checked too
            continue
        assert target >= own, f"{module} imports {name}, which stands above it"


def test_returns_imports_torch_alone_and_mdp_nothing_of_the_rest():
    assert imports(ROOT / "rlnet" / "returns.py") == set()
    for path in (ROOT / "rlnet" / "mdp").glob("*.py"):
        assert {name for name in imports(path) if not name.startswith("rlnet.mdp")} == set(), path


def test_scripts_are_thin():
    for path in (ROOT / "scripts").glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 45, f"{path.name} has {len(lines)} lines: what it does belongs into rlnet"


GROUPS = ("env", "algo", "network", "exploration", "schedule", "optimizer")


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
    assert getattr(config, group).name == ("linear" if name in ("decay", "correction") else name)
