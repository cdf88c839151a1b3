"""Compiled sweeps over a packed model. Imported only where a problem is large enough to pay for numba.

Nothing here checks an index: `FiniteMDP` did. `like` is a tuple with as many entries as a pair has outcomes (none: the
rows are ragged, read `outcome_ptr`): its length is a constant of the compiled code, so that the inner loop unrolls.
All of them release the GIL; sweeps work on the states lo..hi−1.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Sums may be reassociated: the certificate's rounding bound holds for every order. NaN and infinity keep their meaning.
_FAST = {"contract", "reassoc", "nsz"}
compiled = njit(nogil=True, cache=True, fastmath=_FAST)


@compiled
def pack_outcomes(
    lo, hi, outcome_ptr, next_state, probability, reward, terminated, width, ptr, successor, chance, mean, size
):
    """Outcomes of the pairs lo..hi−1 that go on, duplicates added up, padded to `width` per pair (width 0: unpadded,
    `ptr` is filled, and lo must be 0).

    Also the expected reward of each pair and Σ p |r|. Returns whether any outcome ends.
    """
    leaks, end = False, 0
    for i in range(lo, hi):
        begin = i * width if width > 0 else end
        end = begin
        total = 0.0
        scale = 0.0
        for k in range(outcome_ptr[i], outcome_ptr[i + 1]):
            total += probability[k] * reward[k]
            scale += probability[k] * abs(reward[k])
            if terminated[k]:
                leaks = True
                continue
            at = end
            if width > 0:  # short rows: looking back is cheap
                for j in range(begin, end):
                    if successor[j] == next_state[k]:
                        at = j
            if at == end:
                successor[at] = next_state[k]
                chance[at] = 0.0
                end += 1
            chance[at] += probability[k]
        if width > 0:
            for j in range(end, begin + width):
                successor[j] = successor[begin] if end > begin else 0
                chance[j] = 0.0
        else:
            ptr[i + 1] = end
        mean[i] = total if abs(total) > 1e-15 * scale else 0.0
        size[i] = scale
    return leaks


@compiled
def merge_duplicates(outcome_ptr, next_state, probability, reward, terminated, ptr):
    """Adds up outcomes of a pair that agree in all but probability, moving the rest together in place. Fills `ptr`,
    returns how many are left. Quadratic in the length of a row."""
    count = 0
    for i in range(len(outcome_ptr) - 1):
        begin = count
        for k in range(outcome_ptr[i], outcome_ptr[i + 1]):
            at = count
            for j in range(begin, count):
                if next_state[j] == next_state[k] and reward[j] == reward[k] and terminated[j] == terminated[k]:
                    at = j
                    break
            if at < count:
                probability[at] += probability[k]
            else:
                next_state[at] = next_state[k]
                probability[at] = probability[k]
                reward[at] = reward[k]
                terminated[at] = terminated[k]
                count += 1
        ptr[i + 1] = count
    return count


@compiled
def reach(lo, hi, pair_ptr, outcome_ptr, successor, chance, width):
    """(the largest |s' − s|: how far along the index one sweep can carry a change; the largest chance of any pair to
    go up the index, or down: what a sweep in that direction hands on)."""
    far, most = 0, 0.0
    for s in range(lo, hi):
        first, last = pair_ptr[s], pair_ptr[s + 1]
        for i in range(first, last):
            up, down = 0.0, 0.0
            for k in range(
                i * width if width > 0 else outcome_ptr[i], (i + 1) * width if width > 0 else outcome_ptr[i + 1]
            ):
                if chance[k] > 0.0:
                    far = max(far, abs(successor[k] - s))
                    if successor[k] > s:
                        up += chance[k]
                    elif successor[k] < s:
                        down += chance[k]
            most = max(most, up, down)
    return far, most


@compiled
def outcomes(i, like, outcome_ptr):
    """(first, last + 1) outcome of pair i."""
    width = len(like)
    if width > 0:
        return i * width, i * width + width
    return outcome_ptr[i], outcome_ptr[i + 1]


@compiled
def expected(i, like, outcome_ptr, successor, chance, v):
    """Σ p v(s') of pair i."""
    begin, end = outcomes(i, like, outcome_ptr)
    total = 0.0
    for k in range(begin, end):
        total += chance[k] * v[successor[k]]
    return total


@compiled
def backup(lo, hi, like, pair_ptr, outcome_ptr, reward, successor, chance, gamma, bonus, v, out, choice):
    """out = max_a (r + bonus + γ P v) and its pair; returns the least and the largest change."""
    least, most = np.inf, -np.inf
    for s in range(lo, hi):
        best, pair = -np.inf, -1
        for i in range(pair_ptr[s], pair_ptr[s + 1]):
            q = reward[i] + gamma * expected(i, like, outcome_ptr, successor, chance, v)
            if q > best:
                best, pair = q, i
        out[s] = best + bonus if pair >= 0 else 0.0
        choice[s] = pair
        least, most = min(least, out[s] - v[s]), max(most, out[s] - v[s])
    return least, most


@compiled
def backup_in_place(
    lo, hi, forward, like, pair_ptr, outcome_ptr, reward, successor, chance, gamma, bonus, v, ignore, choice
):
    """Gauss-Seidel: v = max_a (r + bonus + γ P v) state by state. Returns (largest change, first and last state
    that changed by more than `ignore`)."""
    change, first, last = 0.0, hi, lo
    for j in range(hi - lo):
        s = lo + j if forward else hi - 1 - j
        best, pair = -np.inf, -1
        for i in range(pair_ptr[s], pair_ptr[s + 1]):
            q = reward[i] + gamma * expected(i, like, outcome_ptr, successor, chance, v)
            if q > best:
                best, pair = q, i
        choice[s] = pair
        if pair >= 0:
            d = abs(best + bonus - v[s])
            v[s] = best + bonus
            change = max(change, d)
            if d > ignore:
                first, last = min(first, s), max(last, s)
    return change, first, last


@compiled
def action_values(lo, hi, like, pair_ptr, outcome_ptr, reward, successor, chance, gamma, v, q):
    """q = r + γ P v of every pair of the states."""
    for i in range(pair_ptr[lo], pair_ptr[hi]):
        q[i] = reward[i] + gamma * expected(i, like, outcome_ptr, successor, chance, v)


@compiled
def gather(lo, hi, like, choice, reward, successor, chance, held, r, to, p):
    """The rows of a policy next to each other, so that its sweeps read no other action's: those that are not `held`
    already."""
    width = len(like)
    for s in range(lo, hi):
        i = choice[s]
        if i != held[s]:
            held[s] = i
            if i >= 0:
                r[s] = reward[i]
                for k in range(width):
                    to[s * width + k] = successor[i * width + k]
                    p[s * width + k] = chance[i * width + k]


@compiled
def follow_in_place(
    lo, hi, forward, like, choice, outcome_ptr, reward, successor, chance, gamma, bonus, v, ignore, relax
):
    """Gauss-Seidel for a policy, over-relaxed: v += relax (r + bonus + γ P v − v). Returns (largest change,
    first and last state that changed by more than `ignore`). The rows are gathered ones if not ragged."""
    change, first, last = 0.0, hi, lo
    for j in range(hi - lo):
        s = lo + j if forward else hi - 1 - j
        if choice[s] >= 0:
            i = s if len(like) > 0 else choice[s]
            new = reward[i] + bonus + gamma * expected(i, like, outcome_ptr, successor, chance, v)
            d = abs(new - v[s])
            v[s] += relax * (new - v[s])
            change = max(change, d)
            if d > ignore:
                first, last = min(first, s), max(last, s)
    return change, first, last


@compiled
def follow(lo, hi, like, choice, outcome_ptr, reward, successor, chance, gamma, bonus, v, out):
    """Jacobi for a policy: out = r + bonus + γ P v; the least and the largest change. Rows as in `follow_in_place`."""
    least, most = np.inf, -np.inf
    for s in range(lo, hi):
        out[s] = 0.0
        if choice[s] >= 0:
            i = s if len(like) > 0 else choice[s]
            out[s] = reward[i] + bonus + gamma * expected(i, like, outcome_ptr, successor, chance, v)
        least, most = min(least, out[s] - v[s]), max(most, out[s] - v[s])
    return least, most
