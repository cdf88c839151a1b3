"""One learner in a process of its own, for `rlnet.bench.train`: NAME KIND MEMBERS STEPS, then a line for each turn.

Answers are lines of JSON: {"ready": seconds to get there}, then {"seconds", "steps"} for each turn. All learners have
the same network (64, 64), minibatches, learning rate and number of updates; rlnet is imported only where NAME is rlnet.
"""

import json
import sys
import time

DQN = {"learning_rate": 2.5e-4, "batch": 128, "capacity": 10_000, "starts": 1_000, "train": 10, "target": 500}
PPO = {"learning_rate": 2.5e-4, "envs": 4, "rollout": 128, "epochs": 4, "minibatches": 4, "lambda": 0.95, "clip": 0.2}
ENVS = {"dqn": "CartPole-v1", "ppo": "CartPole-v1", "lake": "FrozenLake-v1"}
TOTAL = 500_000  # the steps that schedules are stretched over


def rlnet(kind: str, members: int):
    """Turns of `rlnet.run.Run`: a function steps → steps done."""
    from pathlib import Path

    import torch
    from hydra import compose, initialize_config_dir

    from rlnet.build import build
    from rlnet.config import register
    from rlnet.run import Run
    from rlnet.train import learn
    from rlnet.validate import from_hydra

    options = ["env=cartpole", f"seeds={members}", f"steps={TOTAL}", "optimizer.learning_rate=2.5e-4"]
    if kind == "lake":
        options[0] = "env=frozen_lake"
        options += ["env.kwargs.map_name=8x8"]
    if kind == "ppo":
        options += ["algo=ppo", "algo.envs=4", "algo.rollout=128", "network.activation=tanh"]
        options += ["algo.hyper.entropy_coefficient=0.01", "optimizer.max_grad_norm=0.5"]
    else:
        options += ["algo=dqn", "algo.envs=1", "algo.rollout=10", "algo.capacity=10000", "algo.target_every=50"]
        options += ["schedule.fraction=0.5"]
    torch.set_num_threads(1)
    register()
    with initialize_config_dir(str(Path(__file__).parents[2] / "configs"), version_base="1.3"):
        config = from_hydra(compose("train", options))
    run = Run(config, build(config))

    def turn(steps: int) -> int:
        before = int(run.steps.sum())
        while int(run.steps.sum()) - before < steps:
            learn(run, run.collect())
        return int(run.steps.sum()) - before

    return turn


def sb3(kind: str, members: int):
    """Stable-Baselines3 on the CPU; one seed."""
    import gymnasium
    import stable_baselines3
    import torch
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    kwargs = {"env_kwargs": {"map_name": "8x8"}} if kind == "lake" else {}
    rate = {"learning_rate": 2.5e-4, "device": "cpu", "policy_kwargs": {"net_arch": [64, 64]}}
    if kind == "ppo":
        env = make_vec_env(ENVS[kind], PPO["envs"])
        numbers = {"n_steps": 128, "batch_size": 128, "n_epochs": 4, "ent_coef": 0.01}
        model = stable_baselines3.PPO("MlpPolicy", env, **numbers, **rate)
    else:
        env = gymnasium.make(ENVS[kind], **kwargs.get("env_kwargs", {}))
        numbers = {"batch_size": 128, "buffer_size": 10_000, "learning_starts": 1_000, "train_freq": 10}
        numbers |= {"target_update_interval": 500, "exploration_fraction": 0.5}
        model = stable_baselines3.DQN("MlpPolicy", env, **numbers, **rate)
    first = [True]

    def turn(steps: int) -> int:
        before = model.num_timesteps * (not first[0])
        model.learn(steps, reset_num_timesteps=first[0])
        first[0] = False
        return model.num_timesteps - before

    return turn


def cleanrl(kind: str, members: int):
    """The loops of CleanRL, written again from their documented hyperparameters."""
    import torch
    from cleanrl_loops import DqnLoop, PpoLoop  # beside this file

    torch.set_num_threads(1)
    return (PpoLoop(PPO) if kind == "ppo" else DqnLoop(DQN, ENVS[kind])).turn


def purejaxrl(kind: str, members: int):
    """PPO in JAX, rollout and update in one compiled scan, vmapped over members (after Lu et al. 2022)."""
    from jax_ppo import Ppo  # beside this file

    return Ppo(PPO, members).turn


def main() -> None:
    """Build, say ready, then a turn for each line of stdin."""
    began = time.perf_counter()
    name, kind, members, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    turn = {"rlnet": rlnet, "sb3": sb3, "cleanrl": cleanrl, "purejaxrl": purejaxrl}[name](kind, members)
    turn(steps)  # fills the replay, compiles, warms up
    print(json.dumps({"ready": time.perf_counter() - began}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        done = turn(steps)
        print(json.dumps({"seconds": time.perf_counter() - began, "steps": done}), flush=True)


if __name__ == "__main__":
    main()
