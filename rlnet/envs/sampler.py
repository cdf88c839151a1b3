"""Sampling the outcomes of a finite model, in numpy or torch."""

from bisect import bisect_right

import numpy as np
import torch

from rlnet.mdp import FiniteMDP
from rlnet.numerics.random_streams import Array

MANY = 128  # From so many outcomes at a time on, each is searched among those of its pair alone.


class Sampler:
    """The transition function of a finite model, as lookups in flat tables.

    The outcomes of all pairs stand in one array of keys, pair + cumulative probability within the pair, which rises
    from 0 to P. The outcome of (pair, u) is then one binary search for pair + u. The sum is rounded to a multiple of
    2⁻⁵² · P, which shifts a probability by no more than that.

    Args:
        mdp: the model.
        device: on which it works with tensors; None: with arrays of numpy.

    Raises:
        ValueError: episodes would begin in a terminal state.
    """

    pairs: Array  # int64 [S], or [S·A] where the model is not `regular`
    keys: Array  # float64 [K]
    first: Array  # int64 [P], the first outcome of each pair
    last: Array  # int64 [P], the last one
    next_state: Array  # int64 [K]
    reward: Array  # float32 [K]
    terminated: Array  # bool [K]
    sign: Array | None  # float32 [K], of a game
    begin: Array  # int64, the states in which episodes begin
    start: Array  # float64, their cumulative probabilities

    def __init__(self, mdp: FiniteMDP, device: torch.device | str | None = None) -> None:
        bad = np.flatnonzero((mdp.start > 0) & mdp.terminal)
        if len(bad):
            name = f" ({mdp.labels[bad[0]]})" if mdp.labels is not None else ""
            raise ValueError(f"start: state {bad[0]}{name} is terminal, an episode cannot begin there")
        self.n_actions = mdp.n_actions
        # Outcomes of probability 0 go: the clamp to a pair's last outcome must find one that can happen.
        self._kept = kept = np.flatnonzero(mdp.probability > 0)
        ptr = np.searchsorted(kept, mdp.outcome_ptr)
        keys = _cumulative(mdp.probability[kept], ptr) + np.repeat(np.arange(mdp.n_pairs), np.diff(ptr))
        begin = np.flatnonzero(mdp.start > 0)
        start = np.cumsum(mdp.start[begin])
        # Where every state has every action or none, pair_ptr[s] + a is the pair.
        self.regular = bool(np.isin(np.diff(mdp.pair_ptr), (0, mdp.n_actions)).all())
        pairs = mdp.pair_ptr[:-1] if self.regular else mdp.pair_index.reshape(-1)
        tables = {
            "pairs": pairs.astype(np.int64),
            "keys": keys,
            "first": ptr[:-1].astype(np.int64),
            "last": ptr[1:] - 1,
            "next_state": mdp.next_state[kept].astype(np.int64),
            "reward": mdp.reward[kept].astype(np.float32),
            "terminated": np.array(mdp.terminated[kept]),
            "sign": None if mdp.sign is None else mdp.sign[kept].astype(np.float32),
            "begin": begin,
            "start": start / start[-1],
        }
        for name, table in tables.items():
            if table is None:
                setattr(self, name, None)
                continue
            whole = np.ascontiguousarray(table)
            setattr(self, name, whole if device is None else torch.from_numpy(whole).to(device))
        self._library = np if device is None else torch
        self.deterministic = len(kept) == mdp.n_pairs
        most = int(np.diff(ptr).max(initial=1)) - 1
        self._steps = [2**k for k in reversed(range(most.bit_length()))]  # of a search among a pair's outcomes
        if device is None:  # which give numbers of Python
            self._views = memoryview(self.pairs), memoryview(self.keys), memoryview(self.last)

    def of_outcomes(self, values: np.ndarray) -> Array:
        """Numbers of the model's outcomes [K] as numbers of the outcomes that are sampled."""
        own = np.ascontiguousarray(values[self._kept])
        return own if self._library is np else torch.from_numpy(own).to(self.keys.device)

    def pair(self, state: Array, action: Array) -> Array:
        """The pair of each (state, action), int64 like both; −1 where the action is not available.

        Actions must lie in 0 .. A − 1: this is not checked. With `regular` models, states must not be terminal.
        """
        if self.regular:
            return self.pairs.take(state) + action
        return self.pairs.take(state * self.n_actions + action)

    def outcome(self, pair: Array, u: Array) -> Array:
        """The outcome of each pair that the uniform number u ∈ [0, 1) (float64) selects, int64 like `pair`."""
        if self.deterministic:
            return pair
        found = pair + u
        several = self._library is np and pair.size >= MANY
        index = self._within(pair, found) if several else self._search(self.keys, found)
        # pair + u may have been rounded to pair + 1, which is where the next pair begins.
        return self._library.minimum(index, self.last.take(pair))

    def _within(self, pair: np.ndarray, found: np.ndarray) -> np.ndarray:
        """`_search` among the outcomes of each pair, in numpy; that of all keys waits for memory."""
        index = self.first.take(pair)
        for step in self._steps:
            index += step * (self.keys.take(index + (step - 1), mode="clip") <= found)
        return index

    def outcome_of_one(self, state: int, action: int, u: float) -> int:
        """`outcome` of one (state, action) of a `regular` model in numpy."""
        pairs, keys, last = self._views
        pair = pairs[state] + action
        if self.deterministic:
            return pair
        # Up to the last outcome, which is left where none before it is above.
        return bisect_right(keys, pair + u, last[pair - 1] + 1 if pair else 0, last[pair])

    def first_state(self, u: Array) -> Array:
        """The state in which an episode begins that the uniform number u ∈ [0, 1) (float64) selects.

        int64 like u; of shape [1] where there is only one.
        """
        if len(self.begin) == 1:
            return self.begin
        return self.begin.take(self._search(self.start, u))

    def _search(self, rising: Array, u: Array) -> Array:
        """Binary search: how many numbers are not above u."""
        if self._library is np:
            return rising.searchsorted(u, "right")
        return torch.searchsorted(rising, u.contiguous(), right=True)


def _cumulative(probability: np.ndarray, ptr: np.ndarray) -> np.ndarray:
    """Cumulative sums within the rows `ptr`, the last one of each row exactly 1."""
    if len(probability) == len(ptr) - 1:
        return np.ones_like(probability)
    total = np.cumsum(probability)
    before = np.concatenate([[0.0], total])[ptr[:-1]]
    total -= np.repeat(before, np.diff(ptr))
    np.minimum(total, 1.0, out=total)
    total[ptr[1:] - 1] = 1.0
    return total
