"""Evaluation in environments with processes of their own: few of them, which play one episode after the other."""

import gymnasium
import numpy as np
from gymnasium import spaces
from support import make_run

from rlnet.learning.evaluation import play

LENGTHS = 2, 9_999, 3  # of the first, second and third episode of an environment
MOST, GAMMA = 7, 0.5


class Uneven(gymnasium.Env):
    """Every step earns 1; the episodes of `LENGTHS`, then of one step each."""

    observation_space, action_space = spaces.Box(0.0, 1.0, (1,), np.float32), spaces.Discrete(2)
    episodes = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = (*LENGTHS, *[1] * 100)[self.episodes]
        self.episodes += 1
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}


gymnasium.register("Uneven-v0", entry_point=Uneven)


def test_few_processes_play_all_episodes_each_its_part(monkeypatch):
    made, make_vec = [], gymnasium.make_vec
    monkeypatch.setattr(gymnasium, "make_vec", lambda name, n, **more: made.append(n) or make_vec(name, n, **more))
    run = make_run(
        "env=gymnasium", "env.id=Uneven-v0", "env.stepping=async", "algo=dqn", "algo.envs=2", "seeds=2",
        f"gamma={GAMMA}", "network.hidden=[4]", f"evaluation.max_steps={MOST}", "logger=none",
    )  # fmt: skip
    run.collector.close()
    made.clear()
    found, calibration = play(run.trained(), "greedy", 1, 10, with_values=True)
    assert made == [4, 4]  # of each member; as many as in training would be 2
    lengths = [2] * 4 + [MOST] * 4 + [3] * 2  # environment n plays the episodes n, n + 4 and n + 8
    cut = [False] * 4 + [True] * 4 + [False] * 2
    for m in range(2):
        assert found["length"][m].tolist() == found["return"][m].tolist() == lengths
        assert found["cut"][m].tolist() == cut
        assert found["terminated"][m].tolist() == np.logical_not(cut).tolist()
        np.testing.assert_allclose(found["discounted"][m], [2 * (1 - GAMMA**length) for length in lengths])
        for episode, obtained in ((0, [1.5, 1.0]), (3, [1.5, 1.0]), (9, [1.75, 1.5, 1.0])):
            of_it = calibration["episode"][m] == episode
            assert calibration["obtained"][m, of_it].tolist() == obtained
        first = calibration["obtained"][m, calibration["episode"][m] == 5]  # of a cut one the rest is what V predicts
        value = calibration["predicted"][m, 0]  # one observation, one value
        np.testing.assert_allclose(first[0], 2 * (1 - GAMMA**MOST) + GAMMA**MOST * value)
