"""Server process of one learner, for `rlnet.bench.train`: SPEC in JSON, then lines of JSON come back.

`mode` of the spec: turns (a line when ready, then one for each line of stdin), whole (so many steps, from building
the learner on, compilation included), solve (until 20 greedy episodes of CartPole return 475 in the mean).
"""

import importlib
import json
import os
import sys
import time
from typing import Any

EPISODES, ENOUGH, EVERY = 20, 475.0, 2_048  # greedy episodes, their mean return, steps between two looks


def say(**numbers: Any) -> None:
    """A line of JSON."""
    print(json.dumps(numbers), flush=True)


def turns(learner: Any, spec: dict[str, Any]) -> None:
    """Warm up, say ready, then a turn of about `seconds` for each line of stdin."""
    members, numbers = spec["members"], spec["numbers"]
    least = members * (numbers["envs"] * numbers["rollout"] if spec["kind"] == "ppo" else 500)
    learner.turn(members * int(1.2 * numbers.get("starts", 0)) + least)  # fills the replay, compiles
    began = time.perf_counter()
    done = learner.turn(least)
    steps = max(least, int(done / (time.perf_counter() - began) * spec["seconds"]))
    say(ready=time.time() - spec["began"])
    for _ in sys.stdin:
        began, used = time.perf_counter(), time.process_time()
        done = learner.turn(steps)
        say(seconds=time.perf_counter() - began, processor=time.process_time() - used, steps=done)


def mean_return(layers: list, enough: float = 0.0) -> float:
    """Of 20 greedy episodes of Gymnasium's CartPole-v1: the same check, by the same code, for every learner.

    As soon as the mean cannot reach `enough` any more, what it could still be at most.
    """
    import gymnasium
    import numpy as np

    envs = gymnasium.make_vec("CartPole-v1", EPISODES, vectorization_mode="vector_entry_point")
    obs, _ = envs.reset(seed=1)
    running, total, left = np.ones(EPISODES, bool), np.zeros(EPISODES), envs.spec.max_episode_steps
    while running.any() and total.sum() + left * running.sum() >= enough * EPISODES:
        x = obs
        for k, (weight, bias) in enumerate(layers):
            x = (np.tanh(x) if k else x) @ weight + bias
        obs, reward, terminated, truncated, _ = envs.step(x.argmax(-1))
        total += reward * running
        running &= ~(terminated | truncated)
        left -= 1
    return float(total.mean() + left * running.mean())


def solve(learner: Any, spec: dict[str, Any]) -> None:
    """Learn until CartPole is solved or time is up; says the seconds since the process began, and the steps."""
    steps, reached = 0, 0.0
    while reached < ENOUGH and time.time() - spec["began"] < spec["limit"]:
        steps += learner.turn(EVERY)
        reached = mean_return(learner.actor(), ENOUGH)
    say(seconds=time.time() - spec["began"], processor=time.process_time(), steps=steps, reached=reached)


def main() -> None:
    """Build the learner, do what the mode asks."""
    spec = json.loads(sys.argv[1])
    os.sched_setaffinity(0, spec["cores"])
    if spec["learner"] in ("sb3", "cleanrl", "tianshou"):
        import torch

        torch.set_num_threads(spec["threads"])
    module = importlib.import_module(f"peers.{spec['learner']}")
    began, used = time.perf_counter(), time.process_time()
    learner = module.make(spec)
    if spec["mode"] == "whole":
        done = learner.turn(spec["steps"])
        say(seconds=time.perf_counter() - began, processor=time.process_time() - used, steps=done)
    else:
        {"turns": turns, "solve": solve}[spec["mode"]](learner, spec)


if __name__ == "__main__":
    main()
