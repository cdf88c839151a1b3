"""Sampling profile of rlnet's training, and its distance to the bare arithmetic: KIND MEMBERS SECONDS.

A timer interrupts the run a thousand times a second and the stack tells which part is at work, so that nothing in the
run has to be wrapped. A call into torch or numpy counts for the part that made it.
"""

import json
import signal
import sys
import time
from collections import Counter
from itertools import pairwise
from types import FrameType
from typing import Any

import torch

# From the outermost frame inwards, the first that fits names the part: (part, file ends with or folder, functions).
PARTS = (
    ("sampling", "rlnet/data/replay_buffer.py", ()),
    ("sampling", "rlnet/data/rollout.py", ()),
    ("backward", "torch/autograd/", ()),
    ("backward", "rlnet/nets/numpy/perceptron.py", ("backward",)),
    ("forward", "rlnet/nets/", ()),
    ("optimiser", "rlnet/learning/optimizers.py", ()),
    ("optimiser", "rlnet/learning/learner.py", ("follow",)),
    ("environment", "rlnet/envs/", ()),
    ("acting", "rlnet/learning/acting.py", ()),
    ("acting", "rlnet/numerics/random_streams.py", ()),
    ("forward", "rlnet/algos/", ()),
    ("collecting", "rlnet/data/collector.py", ()),
    ("learning, the rest", "rlnet/learning/learner.py", ()),
)
INNER = ("collecting", "learning, the rest")  # only where nothing further inside fits


def part_of(frame: FrameType | None) -> str:
    """The part that a stack belongs to."""
    stack = []
    while frame is not None:
        stack.append((frame.f_code.co_filename, frame.f_code.co_name))
        frame = frame.f_back
    found = "other"
    for file, function in reversed(stack):
        for part, where, functions in PARTS:
            if where in file and (not functions or function in functions):
                found = part
                if part not in INNER:
                    return part
                break
    return found


def shares(turn: Any, seconds: float) -> dict[str, float]:
    """The share of each part in the time of `turn`, repeated for so many seconds."""
    counts: Counter[str] = Counter()
    signal.signal(signal.SIGPROF, lambda _, frame: counts.update([part_of(frame)]))
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        turn()
    signal.setitimer(signal.ITIMER_PROF, 0)
    return {part: count / counts.total() for part, count in counts.most_common()}


def operations(kind: str, numbers: dict[str, Any], inputs: int, outputs: int) -> float:
    """Floating-point operations that updates need for one step of one environment: matrix products of a 64×64 network.

    A forward pass takes 2·rows·Σ in·out. The backward pass takes twice that, less the gradient of the first layer's
    input, which nobody needs. PPO has two networks, DQN a second forward pass for its targets.
    """
    sizes = [list(pairwise((inputs, 64, 64, last))) for last in ((outputs, 1) if kind == "ppo" else (outputs,))]
    forward = 2.0 * sum(i * o for layers in sizes for i, o in layers)
    first = 2.0 * sum(layers[0][0] * layers[0][1] for layers in sizes)
    if kind == "ppo":
        return numbers["epochs"] * (3 * forward - first)
    return numbers["batch"] / numbers["train"] * (4 * forward - first)


def product_rate(members: int, rows: int, seconds: float = 0.5) -> float:
    """Operations per second of [M, rows, 64]×[M, 64, 64] on the cores of this process, the best of many."""
    x, y = torch.randn(members, rows, 64), torch.randn(members, 64, 64)
    out, best, began = torch.empty(members, rows, 64), 0.0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        torch.bmm(x, y, out=out)
        best = max(best, 2.0 * members * rows * 64 * 64 / (time.perf_counter() - start))
    return best


def main() -> None:
    """Measure one kind; a line of JSON."""
    from rlnet.bench.peers import rlnet_run
    from rlnet.bench.train_process import NUMBERS

    kind, members, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    numbers = NUMBERS[kind]
    learner = rlnet_run.make({"kind": kind, "members": members, "seed": 0, "numbers": numbers})
    learner.turn(members * (numbers.get("starts", 0) + 512))
    began = time.process_time()  # of the clock, unless somebody else computes on this core
    done = learner.turn(members * 2_048)
    rate = done / (time.process_time() - began)
    parts = shares(lambda: learner.turn(1), seconds)
    result: dict[str, Any] = {"kind": kind, "members": members, "steps_per_second": rate, "parts": parts}
    if kind in ("ppo", "dqn"):
        rows = numbers["batch"] if kind == "dqn" else numbers["envs"] * numbers["rollout"] // numbers["minibatches"]
        need, limit = operations(kind, numbers, 4, 2) * rate, product_rate(members, rows)
        result |= {"operations_per_second": need, "product_rate": limit, "fraction": need / limit}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
