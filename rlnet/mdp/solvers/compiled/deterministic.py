"""Compiled passes over deterministic models: values back from the ends, and lengths of paths."""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(nogil=True, cache=True)


@compiled
def walk_back(pair_ptr, reward, successor, chance, gamma, bonus, v, visits):
    """Fill `v` with the best value over paths to an end, for one successor per pair (chance 0: the pair ends).

    A queue from the ends backwards: with equal rewards every state is settled when it is first reached (breadth-first),
    so the time is linear in the pairs; else states are looked at again where a better path comes late, `visits` in all
    at most. Every value is that of a real path, or, where none leads to an end, the least reward for ever.
    """
    n = len(pair_ptr) - 1
    begin = np.zeros(n + 1, np.int64)
    for i in range(len(successor)):
        if chance[i] > 0.0:
            begin[successor[i] + 1] += 1
    for s in range(n):
        begin[s + 1] += begin[s]
    source, through = np.empty(begin[n], np.int64), np.empty(begin[n], np.int64)
    place, queue, waiting = begin[:-1].copy(), np.empty(n, np.int64), np.zeros(n, np.bool_)
    head, size, least = 0, 0, np.inf
    for s in range(n):
        v[s] = -np.inf if pair_ptr[s] < pair_ptr[s + 1] else 0.0
        for i in range(pair_ptr[s], pair_ptr[s + 1]):
            least = min(least, reward[i] + bonus)
            if chance[i] > 0.0:
                at = place[successor[i]]
                source[at], through[at] = s, i
                place[successor[i]] += 1
            else:
                v[s] = max(v[s], reward[i] + bonus)
        if pair_ptr[s] < pair_ptr[s + 1] and v[s] > -np.inf:
            queue[size] = s
            waiting[s] = True
            size += 1
    while size > 0 and visits > 0:
        s = queue[head]
        head, size, visits = (head + 1) % n, size - 1, visits - 1
        waiting[s] = False
        for k in range(begin[s], begin[s + 1]):
            q = reward[through[k]] + bonus + gamma * v[s]
            if q > v[source[k]]:
                v[source[k]] = q
                if not waiting[source[k]]:
                    waiting[source[k]] = True
                    queue[(head + size) % n] = source[k]
                    size += 1
    for s in range(n):
        if v[s] == -np.inf:
            v[s] = least / (1.0 - gamma) if gamma < 1.0 else 0.0


@compiled
def path_lengths(choice, successor, chance, steps):
    """Fill `steps` with the steps to the end of a policy with one successor per pair; inf where it never ends."""
    n = len(choice)
    state = np.zeros(n, np.int8)  # 0 new, 1 on the present path, 2 known
    path = np.empty(n, np.int64)
    for first in range(n):
        length, s = 0, first
        while state[s] == 0:
            state[s] = 1
            path[length] = s
            length += 1
            if choice[s] < 0 or chance[choice[s]] == 0.0:
                steps[s] = 0.0 if choice[s] < 0 else 1.0
                state[s] = 2
                length -= 1
                break
            s = successor[choice[s]]
        if state[s] == 1:
            steps[s] = np.inf  # the path has come round to itself
        for k in range(length - 1, -1, -1):
            t = path[k]
            steps[t] = steps[successor[choice[t]]] + 1.0
            state[t] = 2


@compiled
def back_from_ends(pair_state, ptr, successor, chance, ends, begin, pairs, n):
    """Fill `pairs` [m] with the pair of each state (their first ones are `begin`) that is likeliest to come a step
    nearer to an end, on a breadth-first walk back from the ends. Whether the end can be reached from all of them.
    """
    edges = np.zeros(n + 1, np.int64)
    for k in range(ptr[0], ptr[-1]):
        edges[successor[k] + 1] += 1
    for s in range(n):
        edges[s + 1] += edges[s]
    place, source = edges[:-1].copy(), np.empty(edges[n], pair_state.dtype)
    steps, queue, size = np.full(n, n + 1, np.int32), np.empty(n, pair_state.dtype), 0
    for i in range(len(pair_state)):
        s = pair_state[i]
        for k in range(ptr[i], ptr[i + 1]):
            source[place[successor[k]]] = s
            place[successor[k]] += 1
        if ends[i] and steps[s] > 1:
            steps[s] = 1
            queue[size] = s
            size += 1
    head = 0
    while head < size:
        s = queue[head]
        head += 1
        for k in range(edges[s], edges[s + 1]):
            t = source[k]
            if steps[t] > n:
                steps[t] = steps[s] + 1
                queue[size] = t
                size += 1
    if size < len(begin):
        return False
    for j in range(len(begin)):
        best, last = -1.0, begin[j + 1] if j + 1 < len(begin) else len(pair_state)
        for i in range(begin[j], last):
            total, nearer = 0.0, 0.0
            for k in range(ptr[i], ptr[i + 1]):
                total += chance[k]
                if steps[successor[k]] < steps[pair_state[i]]:
                    nearer += chance[k]
            likely = nearer + max(1.0 - total, 0.0) if ends[i] else nearer
            if likely > best:
                best, pairs[j] = likely, i
    return True
