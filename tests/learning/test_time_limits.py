"""Time limits cut episodes and end nothing: the truncation probe, for every algorithm that bootstraps, in every mode.

One state, a reward of 1 a step, γ = .99, cut after 10 steps: V = 1/(1 − γ) = 100. A learner that takes the cut for an
end is drawn to 9.174; one that takes the reset of NEXT_STEP, whose reward is 0, for a transition, below 100, too.
"""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from support import composed, quick, update

from rlnet import algos
from rlnet.algos.context import Q, V
from rlnet.envs import GymnasiumSimulation, OnDevice
from rlnet.envs.actions import Actions
from rlnet.envs.base import Environment
from rlnet.envs.encoding import layout_of
from rlnet.experiment.problem import assemble
from rlnet.learning.training_state import TrainingState
from rlnet.mdp import FiniteMDP

MODES, GAMMA, LIMIT = list(AutoresetMode), 0.99, 10


class Probe(gymnasium.Env):
    """One state and one action, for ever; `real`: the state and the action are numbers of no consequence."""

    def __init__(self, real=False, ends=None):
        self.observation_space = spaces.Box(0, 1, (1,)) if real else spaces.Discrete(1)
        self.action_space = spaces.Box(-1, 1, (1,)) if real else spaces.Discrete(1)
        self.real, self.ends, self.age = real, ends, 0

    def _seen(self):
        return np.ones(1, np.float32) if self.real else 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self._seen(), {}

    def step(self, action):
        self.age += 1
        return self._seen(), 1.0, self.age == self.ends, False, {}


def environment(mode, real=False, limit=LIMIT, ends=None):
    """The probe, stepped by its own code in an autoreset mode."""
    env = Probe(real)
    mdp = None if real else FiniteMDP.from_arrays(np.ones((1, 1, 1)), np.ones((1, 1)))

    def one():
        probe = Probe(real, ends)
        return probe if limit is None else TimeLimit(probe, limit)

    def build(seeds, envs, device):
        vectors = [SyncVectorEnv([one] * envs, autoreset_mode=mode) for _ in seeds]
        simulation = GymnasiumSimulation(vectors, seeds, "probe")
        return simulation if device is None else OnDevice(simulation, device)

    actions, layout = Actions(env.action_space), layout_of(env.observation_space) if real else None
    features = None if real else np.ones((1, 1), np.float32)
    about = ("probe", mdp, actions.n, actions.bounds, None if real else 1, (1,) if real else (), features, limit, build)
    return Environment(*about, layout=layout, actions=actions)


def learned(name, probe, first, *overrides, updates=12):
    """V of the only state after some updates, from a first value."""
    torch.set_num_threads(1)
    algorithm = algos.load(name)
    acting = ("exploration=greedy",) if algorithm.acting.explores else ()
    replayed = ("algo.learning_starts=32", "algo.batch=16") if algorithm.data.replay else ()
    envs = 1 if algorithm.traces == "dutch" else 2
    own = (f"gamma={GAMMA}", f"network.initial_value={first}", f"algo.envs={envs}", "seeds=2", "steps=100000")
    config = composed("env=random_walk", f"algo={name}", *acting, *replayed, *own, "env.length=5", *overrides)
    run = TrainingState(config, assemble(config, probe))
    update(run, updates)
    seen = run.collect().state
    if V in algorithm.roles:
        return run.problem.context.v(run.learner.params, seen)[-1].detach().mean(-1)
    return run.trained().value(seen)[-1].mean(-1)


def bootstrapping(real=False):
    """All algorithms that learn values, but not from complete returns alone; those for Discrete or for real actions."""
    records = {name: algos.load(name) for name in algos.names()}
    bootstraps = [name for name, one in records.items() if not one.data.complete_returns and set(one.roles) & {V, Q}]
    return [name for name in bootstraps if (records[name].acting.continuous if real else records[name].acting.discrete)]


OWN = {
    **dict.fromkeys(("soft_q", "sac_discrete"), ("algo.hyper.temperature=0.1",)),
    "alphazero": ("algo.options.simulations=2", "algo.rollout=10", "algo.updates=8"),
}
TABULAR = ("network=tabular", "optimizer=sgd", "optimizer.learning_rate=0.5")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", quick(bootstrapping(), ["dqn", "td_lambda"]))
def test_the_value_is_that_of_the_task_without_limit(name, mode):
    probe = environment(mode)
    np.testing.assert_allclose(learned(name, probe, 100.0, *TABULAR, *OWN.get(name, ())), 100.0, atol=0.02)
    below = learned(name, probe, 60.0, *TABULAR, *OWN.get(name, ()), updates=40)
    assert ((below > 60.0) & (below <= 100.01)).all(), below


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", quick(bootstrapping(real=True), ["actor_critic"]))
def test_real_actions_have_the_value_of_the_task_without_limit(name, mode):
    """A linear network begins at its first value; the entropy of soft actor-critic weighs next to nothing."""
    own = ("network=linear", "optimizer.learning_rate=0.001")
    own += ("algo.hyper.temperature=1e-6", "algo.hyper.automatic=0") if name == "sac" else ()
    few, more = (2, 6) if name == "ppo" else (30, 100)  # PPO takes many optimiser steps in each
    np.testing.assert_allclose(learned(name, environment(mode, real=True), 100.0, *own, updates=few), 100.0, atol=0.5)
    below = learned(name, environment(mode, real=True), 60.0, *own, updates=more)
    assert ((below > 60.0) & (below < 100.0)).all(), below


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", quick(["q_learning", "a2c", "dqn"], 2))
@pytest.mark.parametrize(
    ("limit", "ends", "value"), [(None, None, 100.0), (1, None, 100.0), (LIMIT, 1, 1.0), (1, 1, 1.0)]
)
def test_tasks_without_end_and_episodes_of_one_step(name, mode, limit, ends, value):
    """Cut in its first step, the task is still worth 100; ended in it, also where it is cut at the same time, 1."""
    probe = environment(mode, limit=limit, ends=ends)
    np.testing.assert_allclose(learned(name, probe, value, *TABULAR), value, atol=0.01)
    other = float(learned(name, probe, value - 0.5, *TABULAR)[0])
    assert value - 0.5 < other <= value + 0.001
