"""Choice of threads and processes, and floating-point modes.

Networks that act in numpy (`Network.in_numpy`: tables, perceptrons) do not gain from a second torch thread: measured on
two cores (64×64 network, DQN and PPO on CartPole, whole runs), the speed of two threads over one was 0.93 and 1.05 with
64 members, 0.93 with 256. For other networks it was 0.99 with one member, 1.2 with 16, 1.4 with 64: small products lose
more by synchronisation than a second thread saves. Where another program computes on the same cores, waiting for each
other makes two threads 3 to 50 times slower. So a second thread needs a large update. Exact dynamic programming splits
its sweeps by itself (`rlnet.mdp.solvers.compiled.sweeps`).

Members in two processes (`rlnet.learning.workers`) gave 1.56 (DQN) to 1.87 (PPO) times the steps of one, 64 members.

numpy's OpenBLAS always gets one: with two, products as small as those of a 64×64 network were five times slower.

The moments that Adam keeps for a unit that is no longer active shrink to denormal numbers and stay there, because
0.9 times the smallest of them is rounded to itself. Arithmetic with those is done in microcode: a third of them made an
Adam step of 4,610 parameters take 109 µs in place of 6. Training counts them as zero.
"""

import ctypes
import multiprocessing
import os
import sys

import torch
from threadpoolctl import threadpool_info, threadpool_limits

from rlnet.config import EpochsConfig, ReplayConfig, require
from rlnet.config.population import most_parts
from rlnet.learning.training_state import TrainingState

PAUSE_HARD = 2  # omp_pause_hard: the threads end
PER_THREAD = 2**24  # multiply-adds of one update that repay a thread: 16 million, about a millisecond
MEMBERS_EACH, STEPS_EACH = 4, 100_000  # members, and steps of all of them together, that repay a process


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(run: TrainingState) -> int:
    """Workload of an update, in multiply-adds: members × rows × parameters."""
    algo = run.config.algo
    if isinstance(algo, ReplayConfig):
        rows = algo.batch * algo.n_step
    elif isinstance(algo, EpochsConfig):
        rows = algo.envs * algo.rollout // algo.minibatches
    else:
        rows = algo.envs * (1 if run.problem.algorithm.update.row_by_row else algo.rollout)
    return len(run.steps) * rows * run.learner.layout.size


def set_threads(run: TrainingState, processes: int = 1) -> int:
    """Set the threads of torch: those of the config, or one for each `PER_THREAD` of the workload, up to the cores.

    Where OMP_NUM_THREADS is set, the default keeps to it. From here on this thread, and those that it starts, take
    denormal numbers for zero, where the processor can.

    Args:
        run: whose work it is.
        processes: how many like this one share the cores.

    Returns:
        How many.
    """
    wanted, most = run.config.threads, max(cores() // processes, 1)
    if wanted is None:
        plain = any(network.in_numpy is None for network in run.problem.context.networks.values())
        wanted = min(work(run) // PER_THREAD if plain else 1, _allowed(most))
    count = max(1, min(wanted, most))
    torch.set_flush_denormal(True)
    threadpool_limits(1, user_api="blas")
    torch.set_num_threads(count)
    return count


def before_fork() -> None:
    """Stop the threads of OpenMP, for which a forked child would wait forever; they begin again when needed."""
    for library in threadpool_info():
        if library["user_api"] == "openmp":
            loaded = ctypes.CDLL(library["filepath"])
            if hasattr(loaded, "omp_pause_resource_all"):  # OpenMP 5.0
                loaded.omp_pause_resource_all(PAUSE_HARD)


def _allowed(most: int) -> int:
    """A limit from the environment variables, where they set one."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(most, int(said)) if said.isdigit() else most


def processes(run: TrainingState) -> int:
    """The number of worker processes for the members: that of the config, or chosen from the workload.

    Raises:
        ConfigError: the config asks for several that cannot be.
    """
    config = run.config
    wanted, sides = config.processes, most_parts(config)
    if wanted == 1 or (sides == 1 and wanted is None):
        return 1
    if wanted is None:
        steps = int((config.steps - run.steps).clamp(min=0).sum())
        room = _allowed(cores()) // (config.threads or 1)
        wanted = min(room, sides, len(run.steps) // MEMBERS_EACH, steps // STEPS_EACH)
        return wanted if wanted > 1 and not config.compile and _why_not(run) is None else 1
    allowed = f"must be at most {sides}, the number of seeds or the longest list of vary, whichever is more"
    require(wanted <= sides, "processes", wanted, allowed)
    why = _why_not(run)
    require(why is None, "processes", wanted, f"must be 1: {why}")
    return wanted


def _why_not(run: TrainingState) -> str | None:
    """The reason why several processes cannot be used; None where they can."""
    if run.config.device != "cpu":
        return f"device={run.config.device} is not shared between processes"
    if "fork" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        return "this system cannot fork processes safely"
    return run.collector.state_dict()["simulation"].get("reason")
