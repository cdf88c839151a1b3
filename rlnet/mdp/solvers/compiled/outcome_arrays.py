"""The outcomes of a model as the arrays that sweeps read."""

from __future__ import annotations

import numpy as np

from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.index_type import index_dtype
from rlnet.mdp.operators.bellman import System

REPEATED = 1.5  # outcomes per successor from which merging those of one successor pays
SAMPLE = 1000  # pairs that are looked at to tell


def source(model: FiniteMDP | System) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """(pair_ptr, outcome_ptr, (next_state, probability, reward, terminated)); with one outcome per pair at most, one
    per pair."""
    if isinstance(model, FiniteMDP):
        columns = (model.next_state, model.probability, model.reward, model.terminated)
        return model.pair_ptr, model.outcome_ptr, columns
    p = model.transition
    ptr = np.zeros(model.n + 1, dtype=index_dtype(p.shape[0]))
    np.cumsum(np.bincount(model.pair_state, minlength=model.n), out=ptr[1:])
    index, chance, outcome_ptr = p.indices.astype(index_dtype(p.shape[1]), copy=False), p.data, p.indptr
    counts = np.diff(outcome_ptr)
    if counts.max(initial=0) == 1 and len(index) < len(counts):
        filled, index, chance = counts == 1, np.zeros(len(counts), index.dtype), np.zeros(len(counts))
        index[filled], chance[filled] = p.indices, p.data
        outcome_ptr = np.arange(len(counts) + 1, dtype=outcome_ptr.dtype)
    # The expected reward is known; the outcomes here only carry the probabilities.
    return ptr, outcome_ptr, (index, chance, np.zeros(len(index)), np.zeros(len(index), dtype=bool))


def repeats(mdp: FiniteMDP) -> bool:
    """Whether outcomes of a pair often share their successor, which a sweep would look up again and again."""
    pairs = np.linspace(0, mdp.n_pairs - 1, min(SAMPLE, mdp.n_pairs)).astype(int)
    counts = np.diff(mdp.outcome_ptr)[pairs]
    row = np.repeat(np.arange(len(pairs)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    to = mdp.next_state[mdp.outcome_ptr[pairs][row] + within]
    return len(row) > REPEATED * len(np.unique(row.astype(np.int64) * mdp.n_states + to))
