"""A user's own environment and algorithm, from a module in the folder where the command is called."""

import json

import pytest
from commands.test_main import called

from rlnet.config import ENVIRONMENTS, ConfigError
from rlnet.config.registry import Registry
from rlnet.envs import GridworldConfig

PLUGIN = '''
import numpy as np

from rlnet.algos.algorithm import Acting, Algorithm, Judged, Q, SemiGradient, Target, by_values
from rlnet.algos.loss_terms import one_step
from rlnet.config import EnvConfig, register_algorithm, register_environment
from rlnet.envs import Environment, from_model
from rlnet.mdp import FiniteMDP


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
'''


def test_an_environment_and_an_algorithm_of_ones_own_are_one_file(tmp_path):
    (tmp_path / "my_module.py").write_text(PLUGIN, encoding="utf-8")
    own = ("plugins=[my_module]", "env=two_doors", "env.prize=3", "algo=my_q", "network=tabular")
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
    registry = Registry("env.kind", ())
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
