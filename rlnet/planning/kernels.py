"""Compiled kernels of batched tree search: selection (PUCT or Gumbel), expansion, backup.

Axes: B trees, K nodes of each, A actions. Each kernel works on one tree `b`; trees are independent of each other.
Sources: AlphaZero (Silver et al. 2018) for PUCT; Danihelka et al. 2022 and its reference implementation mctx for the
Gumbel searches.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

compiled = njit(nogil=True, cache=True)


class Trees(NamedTuple):
    """B search trees; node 0 is the root. An edge is a node and an action; values are those of the node's mover."""

    prior: np.ndarray  # float32 [B, K, A], the prior policy; −1 where an action is not available
    child: np.ndarray  # int32 [B, K, A], the node behind an edge; −1 where there is none yet
    visits: np.ndarray  # int32 [B, K, A], simulations that took the edge
    total: np.ndarray  # float64 [B, K, A], the sum of their returns
    value: np.ndarray  # float64 [B, K], the value that the network gives; 0 where the episode is over
    seen: np.ndarray  # int32 [B, K], 1 + simulations that went on from the node
    parent: np.ndarray  # int32 [B, K]
    action: np.ndarray  # int32 [B, K], of the edge that leads here
    reward: np.ndarray  # float64 [B, K], of that edge
    discount: np.ndarray  # float64 [B, K], of that edge: γ·sign, 0 where the episode ended
    size: np.ndarray  # int32 [B], nodes so far


class Numbers(NamedTuple):
    """Parameters of selection. Where `gumbel` has no rows, selection is by PUCT."""

    growth: np.ndarray  # float64 [K + 1], by the simulations n of a node: log((1 + n)/base + 1) of c(n)
    init: np.ndarray  # float64 [B], the rest of c(n)
    scale: np.ndarray  # float64 [B], the size of values: Q/scale meets the exploration bonus
    gumbel: np.ndarray  # float64 [B, A], noise of the root
    considered: np.ndarray  # int32 [A + 1, simulations], by actions considered: the visits of who is visited next
    most: int  # actions considered at the root
    visit_offset: np.ndarray  # float64 [B], c_visit
    value_weight: np.ndarray  # float64 [B], c_scale


@compiled
def puct(t, n, b, k):
    """argmax_a Q(a)/scale + c(n)·P(a)·√n/(1 + N(a)) (Silver et al. 2018); an action without visits has the value of its
    node so far."""
    mean = t.value[b, k]
    for a in range(t.prior.shape[2]):
        mean += t.total[b, k, a]
    mean /= t.seen[b, k]
    best, chosen = -np.inf, -1
    bonus = math.sqrt(t.seen[b, k]) * (n.init[b] + n.growth[t.seen[b, k]])
    for a in range(t.prior.shape[2]):
        if t.prior[b, k, a] >= 0.0:
            visits = t.visits[b, k, a]
            q = t.total[b, k, a] / visits if visits > 0 else mean
            score = q / n.scale[b] + bonus * t.prior[b, k, a] / (1 + visits)
            if score > best:
                best, chosen = score, a
    return chosen


@compiled
def completed(t, n, b, k, out):
    """σ of the completed action values into `out` [A]: (c_visit + max N)·c_scale·q, q rescaled to [0, 1] over the
    available actions (`qtransform_completed_by_mix_value` of mctx; Danihelka et al. 2022, eq. 8 and appendix D)."""
    weight, share, visited, most = 0.0, 0.0, 0, 0
    for a in range(len(out)):
        visits = t.visits[b, k, a]
        if visits > 0:
            p = max(t.prior[b, k, a], 1e-38)
            weight += p * t.total[b, k, a] / visits
            share += p
            visited += visits
            most = max(most, visits)
    mixed = t.value[b, k]
    if visited > 0:
        mixed = (mixed + visited * weight / share) / (visited + 1)
    low, high = np.inf, -np.inf
    for a in range(len(out)):
        if t.prior[b, k, a] >= 0.0:
            q = t.total[b, k, a] / t.visits[b, k, a] if t.visits[b, k, a] > 0 else mixed
            out[a] = q
            low, high = min(low, q), max(high, q)
    factor = (n.visit_offset[b] + most) * n.value_weight[b] / max(high - low, 1e-8)
    for a in range(len(out)):
        out[a] = (out[a] - low) * factor


@compiled
def improved(t, n, b, k, out):
    """π' = softmax(log π + σ(completed Q)) into `out` [A]; 0 where an action is not available."""
    completed(t, n, b, k, out)
    top = -np.inf
    for a in range(len(out)):
        p = t.prior[b, k, a]
        out[a] = np.log(max(p, 1e-38)) + out[a] if p >= 0.0 else -np.inf
        top = max(top, out[a])
    total = 0.0
    for a in range(len(out)):
        out[a] = np.exp(out[a] - top)
        total += out[a]
    for a in range(len(out)):
        out[a] /= total


@compiled
def gumbel_interior(t, n, b, k, scratch):
    """argmax_a π'(a) − N(a)/(1 + Σ N): visits follow the improved policy."""
    improved(t, n, b, k, scratch)
    best, chosen = -np.inf, -1
    for a in range(len(scratch)):
        if t.prior[b, k, a] >= 0.0:
            score = scratch[a] - t.visits[b, k, a] / t.seen[b, k]
            if score > best:
                best, chosen = score, a
    return chosen


@compiled
def gumbel_root(t, n, b, due, scratch):
    """Of the actions with `due` visits the one with the largest g + log π + σ(completed Q)."""
    completed(t, n, b, np.int64(0), scratch)
    best, chosen = -np.inf, -1
    for a in range(len(scratch)):
        p = t.prior[b, 0, a]
        if p >= 0.0 and t.visits[b, 0, a] == due:
            score = n.gumbel[b, a] + np.log(max(p, 1e-38)) + scratch[a]
            if score > best:
                best, chosen = score, a
    return chosen


@compiled
def descend(t, n, b, scratch):
    """Selection: descend from the root to the edge (node, action) that leaves the tree or ends the episode."""
    k = np.int64(0)
    while True:
        if len(n.gumbel) == 0:
            a = puct(t, n, b, k)
        elif k > 0:
            a = gumbel_interior(t, n, b, k, scratch)
        else:
            legal = 0
            for i in range(len(scratch)):
                legal += t.prior[b, 0, i] >= 0.0
            a = gumbel_root(t, n, b, np.int64(n.considered[min(legal, n.most), t.seen[b, 0] - 1]), scratch)
        node = t.child[b, k, a]
        if node < 0 or t.discount[b, node] == 0.0:
            return k, a
        k = np.int64(node)


@compiled
def clear(t, b, k):
    """Reset the statistics of node k."""
    for a in range(t.child.shape[2]):
        t.child[b, k, a] = -1
        t.visits[b, k, a] = 0
        t.total[b, k, a] = 0.0
    t.seen[b, k] = 1


@compiled
def grow(t, b, k, a, reward, discount, prior, value):
    """Expansion: add the child of edge (k, a) with its prior [A] and value, unless it exists; returns the child."""
    node = np.int64(t.child[b, k, a])
    if node < 0:
        node = np.int64(t.size[b])
        t.size[b] += 1
        clear(t, b, node)
        t.child[b, k, a] = node
        t.parent[b, node], t.action[b, node] = k, a
        t.reward[b, node], t.discount[b, node] = reward, discount
        t.value[b, node] = value if discount != 0.0 else 0.0
        for i in range(len(prior)):
            t.prior[b, node, i] = prior[i]
    return node


@compiled
def backup(t, b, node):
    """Backup: propagate the value of a node to the root, G ← r + γ·sign·G along every edge."""
    ret = t.value[b, node]
    while node > 0:
        ret = t.reward[b, node] + t.discount[b, node] * ret
        k, a = t.parent[b, node], t.action[b, node]
        t.visits[b, k, a] += 1
        t.total[b, k, a] += ret
        t.seen[b, k] += 1
        node = k


@compiled
def plant(t, lo, hi, prior, value):
    """Initialise trees lo..hi−1 with the priors [B, A] and values [B] of their roots."""
    for b in range(lo, hi):
        clear(t, b, np.int64(0))
        t.size[b] = 1
        t.value[b, 0] = value[b]
        t.discount[b, 0] = 1.0
        for a in range(prior.shape[1]):
            t.prior[b, 0, a] = prior[b, a]


@compiled
def select(t, n, lo, hi, node, action):
    """Selection in trees lo..hi−1: writes the selected edges to `node` and `action` [B]."""
    scratch = np.empty(t.prior.shape[2])
    for b in range(lo, hi):
        node[b], action[b] = descend(t, n, b, scratch)


@compiled
def extend(t, lo, hi, node, action, reward, discount, prior, value, into):
    """Expansion and backup of one simulation in trees lo..hi−1; writes the reached nodes to `into` [B]."""
    for b in range(lo, hi):
        into[b] = grow(t, b, node[b], action[b], reward[b], discount[b], prior[b], value[b])
        backup(t, b, np.int64(into[b]))


@compiled
def simulate(t, n, lo, hi, simulations, root, table, gamma, pair, successor, reward, sign, priors, values):
    """All simulations of trees lo..hi−1 of a finite model whose states have been evaluated before.

    Tree b begins in state `root[b]`, with the network of `priors[table[b]]` [S, A] and `values[table[b]]` [S]; it
    discounts by `gamma[b]`.
    """
    scratch, state = np.empty(t.prior.shape[2]), np.empty(simulations + 1, np.int64)
    for b in range(lo, hi):
        prior, value = priors[table[b]], values[table[b]]
        state[0] = root[b]
        for _ in range(simulations):
            k, a = descend(t, n, b, scratch)
            i = pair[state[k], a]
            after = successor[i]
            node = grow(t, b, k, a, reward[i], gamma[b] * sign[i], prior[after], value[after])
            state[node] = after
            backup(t, b, node)


@compiled
def read(t, n, lo, hi, visits, value, policy, best):
    """Visits of the root [B, A], its mean value [B], and for Gumbel the improved policy [B, A] and the action [B]."""
    scratch = np.empty(t.prior.shape[2])
    for b in range(lo, hi):
        total, most = t.value[b, 0], np.int64(0)
        for a in range(t.prior.shape[2]):
            visits[b, a] = t.visits[b, 0, a]
            total += t.total[b, 0, a]
            most = max(most, np.int64(visits[b, a]))
        value[b] = total / t.seen[b, 0]
        if len(n.gumbel) > 0:
            improved(t, n, b, np.int64(0), policy[b])
            best[b] = gumbel_root(t, n, b, most, scratch)
