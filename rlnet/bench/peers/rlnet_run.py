"""rlnet itself: the loop of `rlnet.learning.training_loop` without the files."""

from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

from rlnet.commands.arguments import loading
from rlnet.config import VERSION_BASE, Config, register

with loading():  # as scripts/train.py does it
    from rlnet.config.validation import from_hydra
    from rlnet.experiment.problem import build
    from rlnet.learning.resources import processes, set_threads
    from rlnet.learning.training_state import TrainingState
    from rlnet.learning.updates import learn, updates_until
    from rlnet.learning.workers import Workers

CONFIGS = Path(__file__).parents[3] / "configs"
ENVS = {"ppo": ("env=cartpole",), "dqn": ("env=cartpole",), "grid": ("env=gridworld",), "table": ("env=gridworld",)}
ENVS["lake"] = ("env=frozen_lake", "++env.kwargs.map_name=8x8")


def composed(overrides: list[str]) -> Config:
    """The checked config of a training run."""
    register()
    with initialize_config_dir(str(CONFIGS), **VERSION_BASE):
        return from_hydra(compose("train", overrides))


def overrides(spec: dict[str, Any]) -> list[str]:
    """The command line of a run like that of the peers."""
    n = spec["numbers"]
    same = ["steps=1_000_000_000", f"seeds={spec['members']}", f"seed={spec['seed']}", *ENVS[spec["kind"]]]
    if spec["kind"] == "table":
        return [*same, "network=tabular"]
    same += ["schedule@optimizer.schedule=constant", "optimizer.schedule.value=1"]
    same += [f"optimizer.learning_rate={n['learning_rate']}", f"gamma={n['gamma']}", "network.hidden=[64,64]"]
    if spec["kind"] == "ppo":
        own = ["algo=ppo", f"algo.envs={n['envs']}", f"algo.rollout={n['rollout']}", f"algo.epochs={n['epochs']}"]
        own += [f"algo.minibatches={n['minibatches']}", f"algo.hyper.lambda_={n['lambda']}"]
        own += [f"algo.hyper.clip={n['clip']}", f"algo.hyper.entropy_coefficient={n['entropy']}"]
        return [*same, *own, "network.activation=tanh", "optimizer.max_grad_norm=0.5"]
    own = ["algo=dqn", "algo.envs=1", f"algo.rollout={n['train']}", f"algo.capacity={n['capacity']}"]
    own += [f"algo.batch={n['batch']}", f"algo.learning_starts={n['starts']}"]
    own += [f"algo.target_every={n['target'] // n['train']}", "schedule=constant", f"schedule.value={n['epsilon']}"]
    return [*same, *own]


class Turns:
    """A training run of rlnet in turns; it chooses threads and processes for the cores that it may use."""

    def __init__(self, spec: dict[str, Any]) -> None:
        config = composed([*overrides(spec), *spec.get("extra", [])])
        self.run = TrainingState(config, build(config))
        set_threads(self.run)
        count = processes(self.run)
        self._workers = Workers(self.run, count) if count > 1 else None

    def turn(self, steps: int) -> int:
        """At least so many steps of all members together."""
        run, before = self.run, int(self.run.steps.sum())
        while int(run.steps.sum()) - before < steps:
            left = steps - (int(run.steps.sum()) - before)
            updates = updates_until(run.config, run.steps, int(run.steps.max()) + -(-left // len(run.steps)))
            if self._workers is not None:
                self._workers.advance(updates)
            else:
                for _ in range(updates):
                    learn(run, run.collect())
        return int(run.steps.sum()) - before

    def actor(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The layers of the first member's policy."""
        params = {name: tensor[0].detach().numpy() for name, tensor in self.run.learner.params["pi"].items()}
        return [(params[f"weight{k}"], params[f"bias{k}"]) for k in range(len(params) // 2)]


make = Turns
