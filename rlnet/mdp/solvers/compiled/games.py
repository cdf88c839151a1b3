"""Compiled passes over a game: the order of its states, and values by backward induction in that order.

`order` lists every state after those that its moves lead to, so that one pass settles all values. `weight` is π of each
pair. Nothing here checks an index: `FiniteMDP` did.
"""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(nogil=True, cache=True)


@compiled
def backward_order(pair_ptr, outcome_ptr, next_state, terminated, order, moves):
    """Fill `order` [S] with the states, every one after its successors, and `moves` [S] with the most moves that may
    still be made from each; how many states were placed: fewer than S where some can be come back to (Kahn 1962)."""
    n = len(pair_ptr) - 1
    before = np.zeros(n + 1, np.int64)
    left = np.zeros(n, np.int64)
    rising = True
    for s in range(n):
        for k in range(outcome_ptr[pair_ptr[s]], outcome_ptr[pair_ptr[s + 1]]):
            if not terminated[k]:
                before[next_state[k] + 1] += 1
                left[s] += 1
                rising = rising and next_state[k] > s
    if rising:  # states are numbered in the order of play: no search is needed
        for j in range(n):
            s = n - 1 - j
            order[j], most = s, np.int64(pair_ptr[s] < pair_ptr[s + 1])
            for k in range(outcome_ptr[pair_ptr[s]], outcome_ptr[pair_ptr[s + 1]]):
                if not terminated[k]:
                    most = max(most, moves[next_state[k]] + 1)
            moves[s] = most
        return n
    for s in range(n):
        before[s + 1] += before[s]
    place, source = before[:-1].copy(), np.empty(before[n], np.int64)
    size = 0
    for s in range(n):
        for k in range(outcome_ptr[pair_ptr[s]], outcome_ptr[pair_ptr[s + 1]]):
            if not terminated[k]:
                source[place[next_state[k]]] = s
                place[next_state[k]] += 1
        moves[s] = np.int64(pair_ptr[s] < pair_ptr[s + 1])
        if left[s] == 0:
            order[size] = s
            size += 1
    head = 0
    while head < size:
        s = order[head]
        head += 1
        for j in range(before[s], before[s + 1]):
            t = source[j]
            moves[t] = max(moves[t], moves[s] + 1)
            left[t] -= 1
            if left[t] == 0:
                order[size] = t
                size += 1
    return size


@compiled
def negamax(order, gamma, v, q, pair_ptr, outcome_ptr, next_state, probability, reward, carried):
    """Fill q [P] and v [S] with the values of optimal play; `carried` [K]: the sign, 0 where the game ends."""
    for j in range(len(order)):
        s = order[j]
        best = -np.inf
        for i in range(pair_ptr[s], pair_ptr[s + 1]):
            total = 0.0
            for k in range(outcome_ptr[i], outcome_ptr[i + 1]):
                total += probability[k] * (reward[k] + gamma * carried[k] * v[next_state[k]])
            q[i] = total
            best = max(best, total)
        v[s] = best if pair_ptr[s] < pair_ptr[s + 1] else 0.0


@compiled
def self_play(order, gamma, weight, v, q, pair_ptr, outcome_ptr, next_state, probability, reward, carried):
    """Fill q [P] and v [S] with the values of a policy that plays both sides."""
    for j in range(len(order)):
        s = order[j]
        value = 0.0
        for i in range(pair_ptr[s], pair_ptr[s + 1]):
            total = 0.0
            for k in range(outcome_ptr[i], outcome_ptr[i + 1]):
                total += probability[k] * (reward[k] + gamma * carried[k] * v[next_state[k]])
            q[i] = total
            value += weight[i] * total
        v[s] = value


@compiled
def responses(order, gamma, weight, best, held, pair_ptr, outcome_ptr, next_state, probability, reward, carried):
    """Fill best [S], what the player who moves gets by the best response to a policy, and held [S], what he gets where
    he follows the policy and the other one responds best."""
    for j in range(len(order)):
        s = order[j]
        most, mean = -np.inf, 0.0
        for i in range(pair_ptr[s], pair_ptr[s + 1]):
            own, met = 0.0, 0.0
            for k in range(outcome_ptr[i], outcome_ptr[i + 1]):
                to, factor = next_state[k], gamma * carried[k]
                if carried[k] < 0:
                    own += probability[k] * (reward[k] + factor * held[to])
                    met += probability[k] * (reward[k] + factor * best[to])
                else:
                    own += probability[k] * (reward[k] + factor * best[to])
                    met += probability[k] * (reward[k] + factor * held[to])
            most = max(most, own)
            mean += weight[i] * met
        acts = pair_ptr[s] < pair_ptr[s + 1]
        best[s], held[s] = most if acts else 0.0, mean
