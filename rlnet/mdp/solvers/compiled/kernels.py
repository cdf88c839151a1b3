"""Numba kernels: backups and sweeps over a model's arrays. Imported only for problems large enough to need them.

Nothing here checks an index: `FiniteMDP` did. Indices are made unsigned (`U`): a signed one is tested for a negative
value at every access, which takes longer than the arithmetic. `like` and `row` are tuples with as many entries as most
pairs have outcomes, and as the gathered rows of a policy have: their lengths are constants of the compiled code, so
that the inner loops unroll. The two kinds of rows are told apart in the sweeps themselves, since a branch in a function
that they call would count references to its arrays at every call. All release the GIL; sweeps work on the states
lo..hi−1.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Sums may be reassociated: the certificate's rounding bound holds for every order. NaN and infinity keep their meaning.
_FAST = {"contract", "reassoc", "nsz"}
compiled = njit(nogil=True, cache=True, fastmath=_FAST)
U = np.uintp  # mixed with a signed integer it would become a float


@compiled
def survey(lo, hi, pair_ptr, outcome_ptr, next_state, probability, reward, terminated, mean, size, best):
    """The expected reward of each pair, Σ p |r|, and the largest expected reward of each state, 0 without pairs.

    Returns (whether any outcome ends, whether one that ends names a state that acts, the largest |s' − s|: how far
    along the index one sweep can carry a change, the largest chance of any pair to go up the index, or down: what a
    sweep in that direction hands on; 1 where changes go far).
    """
    ends, misleads, far, most = False, False, 0, 0.0
    enough = (len(pair_ptr) - 1) // 4
    for s in range(U(lo), U(hi)):
        top = -np.inf
        for i in range(U(pair_ptr[s]), U(pair_ptr[s + U(1)])):
            total, scale, up, down = 0.0, 0.0, 0.0, 0.0
            for k in range(U(outcome_ptr[i]), U(outcome_ptr[i + U(1)])):
                total += probability[k] * reward[k]
                scale += probability[k] * abs(reward[k])
                if terminated[k]:
                    t = U(next_state[k])
                    ends = True
                    misleads = misleads or pair_ptr[t] < pair_ptr[t + U(1)]
                elif far <= enough:
                    step = np.int64(next_state[k]) - np.int64(s)
                    far = max(far, abs(step))
                    if step > 0:
                        up += probability[k]
                    elif step < 0:
                        down += probability[k]
            most = max(most, up, down)
            mean[i] = total if abs(total) > 1e-15 * scale else 0.0
            size[i] = scale
            top = max(top, mean[i])
        best[s] = top if top > -np.inf else 0.0
    return ends, misleads, far, most if far <= enough else 1.0


@compiled
def well_formed(lo, hi, outcome_ptr, next_state, probability, reward, n_states, tolerance):
    """Whether the pairs lo..hi−1 pass `validation.check_outcomes`."""
    good = True
    for i in range(U(lo), U(hi)):
        total = 0.0
        for k in range(U(outcome_ptr[i]), U(outcome_ptr[i + U(1)])):
            good &= (next_state[k] >= 0) & (next_state[k] < n_states)
            good &= (abs(reward[k]) < np.inf) & (probability[k] >= 0.0)
            total += probability[k]
        good &= abs(total - 1.0) <= tolerance
    return good


@compiled
def merge_duplicates(outcome_ptr, columns, ptr, to, p, r, ended):
    """Outcomes of a pair that agree in all but probability added up, rows that do not sum to 1 divided by their sum.

    `columns` (next_state, probability, reward, terminated) go to `to`, `p`, `r` and `ended`; fills `ptr`, returns how
    many there are. Quadratic in the length of a row.
    """
    next_state, probability, reward, terminated = columns
    count = U(0)
    for i in range(U(len(outcome_ptr) - 1)):
        begin, total = count, 0.0
        for k in range(U(outcome_ptr[i]), U(outcome_ptr[i + U(1)])):
            total += probability[k]
            at = begin
            while at < count and not (to[at] == next_state[k] and r[at] == reward[k] and ended[at] == terminated[k]):
                at += U(1)
            if at == count:
                to[at], p[at], r[at], ended[at] = next_state[k], 0.0, reward[k], terminated[k]
                count += U(1)
            p[at] += probability[k]
        if abs(total - 1.0) > 1e-15 * (count - begin):
            for at in range(begin, count):
                p[at] /= total
        ptr[i + U(1)] = count
    return count


@compiled
def fixed(begin, like, successor, chance, v):
    """Expected next value Σ p v(s') of as many outcomes as `like` has entries."""
    total = 0.0
    for j in range(len(like)):
        k = begin + U(j)
        total += chance[k] * v[U(successor[k])]
    return total


@compiled
def loose(begin, end, successor, chance, v):
    """Expected next value Σ p v(s') of the outcomes begin..end−1."""
    total = 0.0
    for k in range(begin, end):
        total += chance[k] * v[U(successor[k])]
    return total


@compiled
def backup(lo, hi, like, pair_ptr, outcome_ptr, reward, successor, chance, gamma, bonus, v, out, choice, kept):
    """out = max_a (r + bonus + γ P v) and its pair; r + γ P v of every pair in `kept` [P], unless that is empty.
    Returns the least and the largest change of v, and how many states chose another pair than before."""
    least, most, other, keep = np.inf, -np.inf, 0, len(kept) > 0
    for s in range(U(lo), U(hi)):
        best, pair = -np.inf, -1
        for i in range(U(pair_ptr[s]), U(pair_ptr[s + U(1)])):
            begin, end = U(outcome_ptr[i]), U(outcome_ptr[i + U(1)])
            if end - begin == U(len(like)):
                q = reward[i] + gamma * fixed(begin, like, successor, chance, v)
            else:
                q = reward[i] + gamma * loose(begin, end, successor, chance, v)
            if keep:
                kept[i] = q
            if q > best:
                best, pair = q, np.int64(i)
        new = best + bonus if pair >= 0 else 0.0
        out[s] = new
        other += choice[s] != pair
        choice[s] = pair
        least, most = min(least, new - v[s]), max(most, new - v[s])
    return least, most, other


@compiled
def backup_in_place(
    lo, hi, forward, like, pair_ptr, outcome_ptr, reward, successor, chance, gamma, bonus, v, ignore, chains, choice
):
    """Gauss-Seidel: v = max_a (r + bonus + γ P v) state by state. Returns (largest change, first and last state that
    changed by more than `ignore`).

    The states are cut into `len(chains)` stretches, swept in turns, a state of each: a state that waits for the one
    before it would leave the processor idle.
    """
    change, first, last = 0.0, hi, lo
    stretch = (hi - lo + len(chains) - 1) // len(chains)
    for j in range(stretch):
        for part in range(len(chains)):
            at = lo + part * stretch + (j if forward else stretch - 1 - j)
            if at >= hi:
                break
            s = U(at)
            best, pair = -np.inf, -1
            for i in range(U(pair_ptr[s]), U(pair_ptr[s + U(1)])):
                begin, end = U(outcome_ptr[i]), U(outcome_ptr[i + U(1)])
                if end - begin == U(len(like)):
                    q = reward[i] + gamma * fixed(begin, like, successor, chance, v)
                else:
                    q = reward[i] + gamma * loose(begin, end, successor, chance, v)
                if q > best:
                    best, pair = q, np.int64(i)
            choice[s] = pair
            if pair >= 0:
                d = abs(best + bonus - v[s])
                v[s] = best + bonus
                change = max(change, d)
                if d > ignore:
                    first, last = min(first, at), max(last, at)
    return change, first, last


@compiled
def action_values(lo, hi, like, pair_ptr, outcome_ptr, reward, successor, chance, gamma, v, q):
    """Action values q = r + γ P v of every pair of the states."""
    for i in range(U(pair_ptr[lo]), U(pair_ptr[hi])):
        begin, end = U(outcome_ptr[i]), U(outcome_ptr[i + U(1)])
        if end - begin == U(len(like)):
            q[i] = reward[i] + gamma * fixed(begin, like, successor, chance, v)
        else:
            q[i] = reward[i] + gamma * loose(begin, end, successor, chance, v)


@compiled
def tabulate(lo, hi, pair_ptr, pair_action, q, slack, table, policy):
    """q [S, A], −inf where there is no pair, and the policy, uniform over the pairs within `slack` of the best."""
    for s in range(U(lo), U(hi)):
        first, last = U(pair_ptr[s]), U(pair_ptr[s + U(1)])
        best, count = -np.inf, 0
        for i in range(first, last):
            best = max(best, q[i])
        for i in range(first, last):
            count += q[i] >= best - slack
        table[s, :] = -np.inf
        policy[s, :] = 0.0
        for i in range(first, last):
            a = U(pair_action[i])
            table[s, a] = q[i]
            if q[i] >= best - slack:
                policy[s, a] = 1.0 / count


@compiled
def gather(lo, hi, row, outcome_ptr, choice, reward, successor, chance, gamma, held, r, to, p):
    """The rows of a policy, p = γ P, next to each other, so that its sweeps read no other action's: those that are not
    `held` already. Filled up to the length of `row` with chance 0; rows of states that do not act stay 0."""
    width = U(len(row))
    for s in range(U(lo), U(hi)):
        if choice[s] != held[s]:
            held[s] = choice[s]
            i = U(choice[s])
            begin, end = U(outcome_ptr[i]), U(outcome_ptr[i + U(1)])
            r[s] = reward[i]
            for j in range(len(row)):
                k, at = begin + U(j), s * width + U(j)
                to[at], p[at] = s, 0.0
                if k < end:
                    to[at], p[at] = successor[k], gamma * chance[k]


@compiled
def follow_in_place(lo, hi, ways, row, choice, outcome_ptr, reward, successor, chance, gamma, bonus, v, relax, chains):
    """Gauss-Seidel for a policy, over-relaxed: v += relax (r + bonus + γ P v − v), a sweep for each of `ways` (True:
    forwards); the largest change of the last. `chains` as in `backup_in_place`. Rows are gathered ones (one a state),
    or those that `choice` names, if `row` is empty."""
    change, width = 0.0, U(len(row))
    stretch = (hi - lo + len(chains) - 1) // len(chains)
    for forward in ways:
        change = 0.0
        for j in range(stretch):
            for part in range(len(chains)):
                at = lo + part * stretch + (j if forward else stretch - 1 - j)
                if at >= hi:
                    break
                s = U(at)
                # Whether a state acts cannot be predicted. Where nothing depends on it (its row is 0), it is not asked.
                extra = bonus if bonus != 0.0 and choice[s] >= 0 else 0.0
                if len(row) > 0:
                    d = reward[s] + extra + fixed(s * width, row, successor, chance, v) - v[s]
                elif choice[s] >= 0:
                    i = U(choice[s])
                    begin, end = U(outcome_ptr[i]), U(outcome_ptr[i + U(1)])
                    d = reward[i] + extra + gamma * loose(begin, end, successor, chance, v) - v[s]
                else:
                    d = 0.0
                v[s] += relax * d
                change = max(change, abs(d))
    return change


@compiled
def follow(lo, hi, row, choice, outcome_ptr, reward, successor, chance, gamma, bonus, v, out):
    """Jacobi for a policy: out = r + bonus + γ P v; the least and the largest change. Rows as in `follow_in_place`."""
    least, most, width = np.inf, -np.inf, U(len(row))
    for s in range(U(lo), U(hi)):
        new = bonus if bonus != 0.0 and choice[s] >= 0 else 0.0
        if len(row) > 0:
            new += reward[s] + fixed(s * width, row, successor, chance, v)
        elif choice[s] >= 0:
            i = U(choice[s])
            begin, end = U(outcome_ptr[i]), U(outcome_ptr[i + U(1)])
            new += reward[i] + gamma * loose(begin, end, successor, chance, v)
        out[s] = new
        least, most = min(least, new - v[s]), max(most, new - v[s])
    return least, most
