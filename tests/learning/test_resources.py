"""Threads of torch: chosen from the workload, or as asked for, never more than there are cores."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from support import make_run
from threadpoolctl import threadpool_info, threadpool_limits

from rlnet.config import ConfigError
from rlnet.learning import resources


@pytest.fixture(autouse=True)
def as_before():
    before = torch.get_num_threads()
    with threadpool_limits():
        yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), 1),  # one small network
        (("algo=dqn", "env=cartpole", "seeds=16", "network.activation=silu"), 1),
        (("algo=dqn", "env=cartpole", "seeds=64", "network.activation=silu"), 2),
        (("algo=ppo", "env=cartpole", "seeds=64", "network.activation=silu"), 4),
        (("algo=ppo", "env=cartpole", "seeds=64"), 1),  # in numpy
        (("algo=ppo", "env=cartpole", "seeds=64", "threads=1"), 1),
        (("threads=3",), 3),
        (("threads=64",), 8),
    ],
)
def test_threads_follow_the_work_unless_told(overrides, expected, monkeypatch):
    monkeypatch.setattr(resources, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run = make_run(*overrides)
    assert resources.set_threads(run) == torch.get_num_threads() == expected


def test_the_default_keeps_to_what_the_environment_says_and_a_number_does_not(monkeypatch):
    monkeypatch.setattr(resources, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert resources.set_threads(make_run("algo=ppo", "env=cartpole", "seeds=64", "network.activation=silu")) == 3
    assert resources.set_threads(make_run("threads=5")) == 5


def test_cores_are_those_that_the_process_may_use():
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert resources.cores() == 1
    finally:
        os.sched_setaffinity(0, mine)
    assert resources.cores() == len(mine)


def test_a_number_of_threads_below_one_is_refused():
    with pytest.raises(ConfigError, match="threads=0: must be at least 1, or null"):
        make_run("threads=0")


def test_numpy_multiplies_with_one_thread_and_denormal_numbers_count_as_zero():
    small = np.full(8, 1e-40, np.float32)  # the least normal number is 1.2e-38
    assert (small * np.float32(0.5) > 0).all()
    resources.set_threads(make_run("threads=2"))
    assert {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"} == {1}
    assert (small * np.float32(0.5) == 0).all()
    assert (torch.from_numpy(small) * 0.5 == 0).all()


FORKED = """
import os, time
import torch
from rlnet.learning.resources import before_fork

torch.set_num_threads(4)  # as on a machine with four cores
x = torch.ones(1000, 1000)
(x @ x).exp()
before_fork()
child = os.fork()
if child == 0:
    torch.set_num_threads(4)
    (x @ x).exp()
    os._exit(7)
for _ in range(600):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        break
    time.sleep(0.05)
else:
    os.kill(child, 9)
(x @ x).exp()
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.slow
def test_a_process_that_is_forked_after_parallel_work_does_parallel_work():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "7"
