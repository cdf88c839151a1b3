"""How many threads torch gets."""

import os

import torch

from rlnet.config import Config


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(config: Config) -> int:
    """Give torch the threads of the config, or by default those that the size of the work repays; how many."""
    count = min(config.threads or 1, cores())
    torch.set_num_threads(count)
    return count
