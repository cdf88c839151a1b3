"""An environment that shows pictures, of which a model is found by exploring it."""

from functools import cache

import gymnasium
import numpy as np
from gymnasium import spaces

from rlnet.envs import Environment, make, preset


class Passage(gymnasium.Env):
    """A row of cells that shows a picture and whether one stands at an end; the right end pays less the later it is."""

    action_space = spaces.Discrete(3, start=1)

    def __init__(self, length=4, limit=7, late=0.9, chance=False, runs=False):
        self.length, self.limit, self.late, self.chance, self.runs = length, limit, late, chance, runs
        parts = {"picture": spaces.Box(0, 255, (1, length), np.uint8), "end": spaces.Discrete(2)}
        self.observation_space = spaces.Dict(parts)

    def _seen(self):
        picture = np.zeros((1, self.length), np.uint8)
        picture[0, self.place] = 255
        return {"picture": picture, "end": int(self.place in (0, self.length - 1))}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.age = 0
        return self._seen(), {}

    def step(self, action):
        wind = self.chance and self.np_random.random() < 0.5
        self.place = min(max(self.place + int(action) - 2, 0), self.length - 1) if not wind else 0
        self.age += 1
        won = self.place == self.length - 1
        reward = 1 - self.late * self.age / self.limit if won else 0.0
        return self._seen(), reward, won, not won and not self.runs and self.age >= self.limit, {}


gymnasium.register("rlnet-test/Passage-v0", entry_point=Passage)


def passage(truth="explore", max_states=1000, **kwargs):
    return preset("gymnasium", id="rlnet-test/Passage-v0", kwargs=kwargs, truth=truth, max_states=max_states)


@cache
def explored(**kwargs) -> Environment:
    """With its model, which takes half a second to find."""
    return make(passage(**kwargs))
