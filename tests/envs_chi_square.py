"""Samples against the model that they should come from."""

import numpy as np
from scipy.stats import chi2

FALSE_ALARM = 1e-3  # of a whole test, whatever the number of pairs (Holm)


def assert_samples(mdp, obs, action, next_obs, reward, terminated):
    """Every outcome is one of the model's, and none of the pairs (s, a) has frequencies that chance would not explain.

    All arrays of one shape.
    """
    rewards = np.unique(mdp.reward.astype(np.float32))

    def number(pair, successor, gain, end):
        """One integer for each different (pair, s', r, end)."""
        place = np.minimum(np.searchsorted(rewards, gain), len(rewards) - 1)
        assert (rewards[place] == gain).all(), "a reward that the model does not have"
        return ((pair.astype(np.int64) * mdp.n_states + successor) * len(rewards) + place) * 2 + end

    pair_of = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))
    known = number(pair_of, mdp.next_state, mdp.reward.astype(np.float32), mdp.terminated)
    pairs = mdp.pair_index[obs.ravel(), action.ravel()]
    seen = number(pairs, next_obs.ravel(), reward.ravel().astype(np.float32), terminated.ravel())
    distinct, counts = np.unique(seen, return_counts=True)
    assert np.isin(distinct, known).all(), "an outcome that the model does not have"
    order = np.argsort(known)
    observed = np.zeros(mdp.n_outcomes)
    observed[order[np.searchsorted(known[order], distinct)]] = counts
    levels = []
    for pair in range(mdp.n_pairs):
        rows = slice(mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1])
        levels.append(_level(observed[rows], mdp.probability[rows]))
    _assert_by_chance(levels)


def assert_starts(mdp, states):
    """The states [n] may be draws from the model's start distribution."""
    observed = np.bincount(states.ravel(), minlength=mdp.n_states)
    possible = mdp.start > 0
    assert not observed[~possible].any()
    _assert_by_chance([_level(observed[possible], mdp.start[possible])])


def _level(observed, probability):
    """The p-value of Pearson's test; rare outcomes are put together until 5 of them are expected."""
    total = observed.sum()
    order = np.argsort(probability)
    expected, found = [0.0], [0.0]
    for k in order:
        if expected[-1] >= 5:
            expected.append(0.0)
            found.append(0.0)
        expected[-1] += total * probability[k]
        found[-1] += observed[k]
    if len(expected) < 2:
        return 1.0
    expected, found = np.array(expected), np.array(found)
    return float(chi2.sf(((found - expected) ** 2 / expected).sum(), len(expected) - 1))


def _assert_by_chance(levels):
    levels = np.sort(levels)
    limits = FALSE_ALARM / np.arange(len(levels), 0, -1)
    assert (levels > limits)[0], f"p = {levels[0]:.2g} for the most suspicious of {len(levels)} pairs"
