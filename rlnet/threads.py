"""How many threads torch gets, and how they count.

Networks that have their own way in numpy (`Network.in_numpy`: small tables, perceptrons) leave nothing to torch that
would repay a second thread: measured on two cores (64×64 network, DQN and PPO on CartPole, all of a run), two threads
over one gave 0.93 and 1.05 with 64 members, 0.93 with 256. For other networks small products lose more by being handed
to a second thread than it saves: 0.99 with one member, 1.2 with 16, 1.4 with 64. Where another program computes on the
same cores, waiting for each other makes two threads 3 to 50 times slower. So the work of an update must be clearly
worth it. Exact dynamic programming splits its sweeps by itself (`rlnet.mdp.packed`).

numpy's OpenBLAS always gets one: with two, products as small as those of a 64×64 network were five times slower.

The moments that Adam keeps for a unit that is no longer active shrink to denormal numbers and stay there, because
0.9 times the smallest of them is rounded to itself. Arithmetic with those is done in microcode: a third of them made an
Adam step of 4,610 parameters take 109 µs in place of 6. Training counts them as zero.
"""

import os

import torch
from threadpoolctl import threadpool_limits

from rlnet.config import EpochsConfig, ReplayConfig
from rlnet.run import Run

PER_THREAD = 2**24  # multiply-adds of one update that repay a thread: 16 million, about a millisecond


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(run: Run) -> int:
    """Multiply-adds of a forward pass of one update: members × rows × parameters, as if each met every row."""
    algo = run.config.algo
    if isinstance(algo, ReplayConfig):
        rows = algo.batch * algo.n_step
    elif isinstance(algo, EpochsConfig):
        rows = algo.envs * algo.rollout // algo.minibatches
    else:
        rows = algo.envs * (1 if run.problem.algorithm.one_by_one else algo.rollout)
    return len(run.steps) * rows * run.learner.layout.size


def set_threads(run: Run) -> int:
    """Give torch the threads of the config, or by default one for each `PER_THREAD` of its work; never more than cores.

    Where OMP_NUM_THREADS is set, the default keeps to it. From here on this thread, and those that it starts, take
    denormal numbers for zero, where the processor can.

    Returns:
        How many.
    """
    wanted, most = run.config.threads, cores()
    if wanted is None:
        said = os.environ.get("OMP_NUM_THREADS", "")
        plain = any(network.in_numpy is None for network in run.problem.setting.networks.values())
        wanted = min(work(run) // PER_THREAD if plain else 1, int(said) if said.isdigit() else most)
    count = max(1, min(wanted, most))
    torch.set_flush_denormal(True)
    threadpool_limits(1, user_api="blas")
    torch.set_num_threads(count)
    return count
