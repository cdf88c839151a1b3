"""Compiled sweeps over a packed model. Imported only where a problem is large enough to pay for numba.

Nothing here checks an index: `FiniteMDP` did. K, the outcomes per pair, is a constant of the compiled code (0: read
from `outcome_ptr`), so that the inner loop unrolls. All of them release the GIL and work on the states lo..hi−1.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
from numba import njit

# Sums may be reassociated: the certificate's rounding bound holds for every order. NaN and infinity keep their meaning.
_FAST = {"contract", "reassoc", "nsz"}
compiled = njit(nogil=True, cache=True, fastmath=_FAST)


@compiled
def pack_outcomes(outcome_ptr, next_state, probability, reward, terminated, width, ptr, successor, chance, mean, size):
    """Outcomes that go on, duplicates added up, padded to `width` per pair (width 0: unpadded, and `ptr` is filled).

    Also the expected reward of each pair and Σ p |r|. Returns whether any outcome ends.
    """
    leaks, end = False, 0
    for i in range(len(outcome_ptr) - 1):
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
def reach(pair_ptr, outcome_ptr, successor, chance, width):
    """The largest |s' − s|: how far along the index one sweep can carry a change."""
    far = 0
    for s in range(len(pair_ptr) - 1):
        first, last = pair_ptr[s], pair_ptr[s + 1]
        begin = first * width if width > 0 else outcome_ptr[first]
        end = last * width if width > 0 else outcome_ptr[last]
        for k in range(begin, end):
            if chance[k] > 0.0:
                far = max(far, abs(successor[k] - s))
    return far


@cache
def sweeps(K: int) -> SimpleNamespace:
    """The sweeps for K outcomes per pair: `backup`, `backup_in_place`, `gather`, `follow`, `follow_in_place`."""

    @compiled
    def backup(lo, hi, pair_ptr, outcome_ptr, reward, successor, chance, gamma, bonus, v, out, choice):
        """out = max_a (r + bonus + γ P v) and its pair; returns the least and the largest change."""
        least, most = np.inf, -np.inf
        for s in range(lo, hi):
            best, pair = -np.inf, -1
            for i in range(pair_ptr[s], pair_ptr[s + 1]):
                total = 0.0
                begin = i * K if K > 0 else outcome_ptr[i]
                end = begin + K if K > 0 else outcome_ptr[i + 1]
                for k in range(begin, end):
                    total += chance[k] * v[successor[k]]
                q = reward[i] + gamma * total
                if q > best:
                    best, pair = q, i
            out[s] = best + bonus if pair >= 0 else 0.0
            choice[s] = pair
            least, most = min(least, out[s] - v[s]), max(most, out[s] - v[s])
        return least, most

    @compiled
    def backup_in_place(
        lo, hi, forward, pair_ptr, outcome_ptr, reward, successor, chance, gamma, bonus, v, ignore, choice
    ):
        """Gauss-Seidel: v(s) = max_a (r + bonus + γ P v), each state seeing the newest values; as `follow_in_place`."""
        change, first, last = 0.0, hi, lo
        for j in range(hi - lo):
            s = lo + j if forward else hi - 1 - j
            best, pair = -np.inf, -1
            for i in range(pair_ptr[s], pair_ptr[s + 1]):
                total = 0.0
                begin = i * K if K > 0 else outcome_ptr[i]
                end = begin + K if K > 0 else outcome_ptr[i + 1]
                for k in range(begin, end):
                    total += chance[k] * v[successor[k]]
                q = reward[i] + gamma * total
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
    def action_values(lo, hi, pair_ptr, outcome_ptr, reward, successor, chance, gamma, v, q):
        """q = r + γ P v of every pair of the states."""
        for i in range(pair_ptr[lo], pair_ptr[hi]):
            total = 0.0
            begin = i * K if K > 0 else outcome_ptr[i]
            end = begin + K if K > 0 else outcome_ptr[i + 1]
            for k in range(begin, end):
                total += chance[k] * v[successor[k]]
            q[i] = reward[i] + gamma * total

    @compiled
    def gather(lo, hi, choice, reward, successor, chance, row, r, to, p):
        """The rows of a policy next to each other, so that its sweeps read no other action's (K > 0)."""
        for s in range(lo, hi):
            i = choice[s]
            row[s] = s if i >= 0 else -1
            if i >= 0:
                r[s] = reward[i]
                for k in range(K):
                    to[s * K + k] = successor[i * K + k]
                    p[s * K + k] = chance[i * K + k]

    @compiled
    def follow_in_place(lo, hi, forward, row, outcome_ptr, reward, successor, chance, gamma, bonus, v, ignore, relax):
        """Gauss-Seidel for a policy, over-relaxed: v += relax (r + bonus + γ P v − v). Returns (largest change,
        first and last state that changed by more than `ignore`)."""
        change, first, last = 0.0, hi, lo
        for j in range(hi - lo):
            s = lo + j if forward else hi - 1 - j
            i = row[s]
            if i >= 0:
                total = 0.0
                begin = i * K if K > 0 else outcome_ptr[i]
                end = begin + K if K > 0 else outcome_ptr[i + 1]
                for k in range(begin, end):
                    total += chance[k] * v[successor[k]]
                new = reward[i] + bonus + gamma * total
                d = abs(new - v[s])
                v[s] += relax * (new - v[s])
                change = max(change, d)
                if d > ignore:
                    first, last = min(first, s), max(last, s)
        return change, first, last

    @compiled
    def follow(lo, hi, row, outcome_ptr, reward, successor, chance, gamma, bonus, v, out):
        """Jacobi for a policy: out = r + bonus + γ P v; the least and the largest change."""
        least, most = np.inf, -np.inf
        for s in range(lo, hi):
            i = row[s]
            out[s] = 0.0
            if i >= 0:
                total = 0.0
                begin = i * K if K > 0 else outcome_ptr[i]
                end = begin + K if K > 0 else outcome_ptr[i + 1]
                for k in range(begin, end):
                    total += chance[k] * v[successor[k]]
                out[s] = reward[i] + bonus + gamma * total
            least, most = min(least, out[s] - v[s]), max(most, out[s] - v[s])
        return least, most

    return SimpleNamespace(
        action_values=action_values,
        backup=backup,
        backup_in_place=backup_in_place,
        gather=gather,
        follow=follow,
        follow_in_place=follow_in_place,
    )
