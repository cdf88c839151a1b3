"""Modules of the user are found in the folder where a command is called, whatever names them."""

import sys

import pytest
from support import make_run

from rlnet.config.import_paths import search_here

MODULE = """
import gymnasium
import torch


class Own(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(0, 1, (2,)), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.low, {}

    def step(self, action):
        return self.observation_space.low, 1.0, True, False, {}


class Same(gymnasium.Wrapper):
    pass


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 8)

    def forward(self, x):
        return self.layer(x)


def game(state=5):
    return {take: (state - take, float(state == take), state == take) for take in (1, 2) if take <= state}


def reward(prompt, completion):
    return 1.0


def loss(log_prob, old_log_prob, reference_log_prob, mask, reward, group, beta):
    return -(log_prob * mask * reward[:, None]).sum(1).mean()


gymnasium.register("NAME-v0", entry_point=Own)
"""
NAMED = {
    "env.id": ("env=gymnasium", "env.id=NAME:NAME-v0"),
    "env.wrappers": ("env=cartpole", "env.wrappers=[NAME.Same]"),
    "env.rules": ("env=game", "env.rules=NAME:game", "algo=dqn"),
    "env.reward": ("env=tokens_tiny", "env.task=function", "env.reward=NAME:reward", "env.reference_steps=1"),
    "network.target": ("env=cartpole", "network=module", "network.target=NAME.Net"),
    "algo.options.loss": ("env=tokens_nano", "algo=completion_loss", "algo.options.loss=NAME:loss", "network=tabular"),
}


@pytest.mark.parametrize("named", NAMED)
def test_a_module_in_the_current_folder_is_found(named, tmp_path, monkeypatch):
    name = "own_" + named.replace(".", "_")
    (tmp_path / f"{name}.py").write_text(MODULE.replace("NAME", name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    run = make_run(*(option.replace("NAME", name) for option in NAMED[named]))
    run.collector.close()
    assert name in sys.modules
    assert sys.path[-1] == str(tmp_path)  # behind what is installed


def test_the_current_folder_is_searched_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/installed"])
    search_here()
    search_here()
    assert sys.path == ["/installed", str(tmp_path)]
