"""Counts of visits to pairs of states and actions."""

import numpy as np
import torch

from rlnet.numerics.random_streams import Array

FEW = 32  # so many rows of one member are counted one by one in less time than numpy's calls take


def count_visits(visits: Array, obs: Array, action: Array, valid: Array, active: Array) -> None:
    """Add the valid (member, state, action) of active members, bool [M], in [T, M, N] rows to visits [M, S, A]."""
    members, states, actions = visits.shape
    if members == 1 and isinstance(visits, np.ndarray) and obs.size <= FEW:
        rows = zip(obs.ravel().tolist(), action.ravel().tolist(), (valid & active).ravel().tolist(), strict=True)
        for state, taken, counts in rows:
            visits[0, state, taken] += counts
        return
    first = np.arange(0, members * states, states)[:, None]
    if isinstance(visits, np.ndarray):
        index, counts = (obs + first) * actions + action, valid & active[:, None]
        counts = 1 if counts.all() else counts.reshape(-1).astype(np.int64)
        np.add.at(visits.reshape(-1), index.reshape(-1), counts)
    else:
        index, counts = (obs + torch.from_numpy(first).to(obs.device)) * actions + action, valid & active[:, None]
        visits.view(-1).scatter_add_(0, index.reshape(-1), counts.reshape(-1).long())
