"""v* in exact fractions by trying every deterministic policy, and random models of odd shapes and mixed scales."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np

from rlnet.mdp import FiniteMDP, ImproperPolicyError, UnboundedValueError


def table(mdp: FiniteMDP) -> list[list[tuple[Fraction, dict[int, Fraction]]]]:
    """For each state its pairs as (expected reward, chance of each successor); chances are made to sum to 1."""
    pairs = [[] for _ in range(mdp.n_states)]
    for i, s in enumerate(mdp.pair_state):
        outcomes = range(mdp.outcome_ptr[i], mdp.outcome_ptr[i + 1])
        chance = {k: Fraction(float(mdp.probability[k])) for k in outcomes}
        total = sum(chance.values())
        reward, to = Fraction(0), {}
        for k in outcomes:
            p, t = chance[k] / total, int(mdp.next_state[k])
            reward += p * Fraction(float(mdp.reward[k]))
            if not mdp.terminated[k]:
                to[t] = to.get(t, Fraction(0)) + p
        pairs[s].append((reward, to))
    return pairs


def solved(matrix: list[list[Fraction]], b: list[Fraction]) -> list[Fraction]:
    """x with matrix x = b by elimination."""
    n, rows = len(b), [[*row, x] for row, x in zip(matrix, b, strict=True)]
    for i in range(n):
        pivot = next(r for r in range(i, n) if rows[r][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(n):
            if r != i and rows[r][i] != 0:
                factor = rows[r][i] / rows[i][i]
                rows[r] = [x - factor * y for x, y in zip(rows[r], rows[i], strict=True)]
    return [rows[i][n] / rows[i][i] for i in range(n)]


def closed_classes(rows: list[dict[int, Fraction]], acts: list[bool]) -> list[list[int]]:
    """The sets of states that a chain, once inside, goes round for ever."""
    n = len(rows)
    reach = [{s, *rows[s]} for s in range(n)]
    for _ in range(n):
        reach = [set().union(*(reach[t] for t in reach[s])) for s in range(n)]
    whole = [acts[s] and sum(rows[s].values()) == 1 for s in range(n)]
    loops = {tuple(sorted(reach[s])) for s in range(n) if all(whole[t] and s in reach[t] for t in reach[s])}
    return [list(loop) for loop in loops]


def mean_reward(loop: list[int], rows: list[dict[int, Fraction]], reward: list[Fraction]) -> Fraction:
    """The mean reward of a closed class: the distribution x = x P, Σ x = 1, times the rewards."""
    matrix = [[rows[t].get(s, Fraction(0)) - (s == t) for t in loop] for s in loop]
    matrix[-1] = [Fraction(1)] * len(loop)
    share = solved(matrix, [Fraction(0)] * (len(loop) - 1) + [Fraction(1)])
    return sum(x * reward[s] for x, s in zip(share, loop, strict=True))


def policy_value(rows, reward, acts, gamma: Fraction):
    """[S] of one policy, None where it is worth −∞ at γ = 1; UnboundedValueError where a loop pays."""
    n, lost, free = len(rows), set(), set()
    if gamma == 1:
        for loop in closed_classes(rows, acts):
            if mean_reward(loop, rows, reward) > 0:
                return UnboundedValueError
            (lost if any(reward[s] for s in loop) else free).update(loop)
        while more := {s for s in range(n) if s not in lost and any(t in lost for t in rows[s])}:
            lost |= more
    keep = [s for s in range(n) if s not in lost and s not in free]
    matrix = [[(s == t) - gamma * rows[s].get(t, Fraction(0)) for t in keep] for s in keep]
    v = dict(zip(keep, solved(matrix, [reward[s] for s in keep]), strict=True))
    return [None if s in lost else v.get(s, Fraction(0)) for s in range(n)]


def exact(mdp: FiniteMDP, gamma: float):
    """v* as fractions [S], or the class of the error that says why there is none."""
    pairs = table(mdp)
    acts, best = [bool(p) for p in pairs], [None] * mdp.n_states
    for chosen in itertools.product(*(p or [(Fraction(0), {})] for p in pairs)):
        v = policy_value([to for _, to in chosen], [r for r, _ in chosen], acts, Fraction(gamma))
        if isinstance(v, type):
            return v
        best = [b if x is None else x if b is None else max(b, x) for b, x in zip(best, v, strict=True)]
    return ImproperPolicyError if None in best else best


def scaled_mdp(rng: np.random.Generator) -> FiniteMDP:
    """1 to 5 states: dyadic or other chances, rare ends, rewards of several scales, free and cancelling loops."""
    n, n_actions = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    ends, rare = float(rng.choice([0.0, 0.1, 0.5, 1.0])), rng.random() < 0.2
    scale, free = 10.0 ** rng.choice([[0, 0, 0], [0, -6, 0], [0, 0, 9], [0, 12, 0], [-6, 0, 9]]), rng.random() < 0.4
    height = rng.integers(-3, 4, size=n) * float(rng.random() < 0.4)  # rewards h(s) − h(s') cancel round every loop
    outcomes = {}
    for s in range(n):
        outcomes[s] = {}
        for a in range(int(rng.integers(rng.random() > 0.1, n_actions + 1))):
            count = int(rng.integers(1, 4))
            chance = [[1.0], [0.5, 0.5], [0.25, 0.5, 0.25]][count - 1]
            if rng.random() < 0.4:
                chance = (w := rng.exponential(size=count)) / w.sum()
            to, over = rng.integers(n, size=count), rng.random(count) < ends
            if height.any():
                reward = np.where(over, rng.integers(-2, 3, size=count), height[s] - height[to])
            else:
                reward = rng.integers(-2, 3, size=count) * rng.choice(scale) * (rng.random() > free)
            row = [(float(p), int(t), float(r), bool(e)) for p, t, r, e in zip(chance, to, reward, over, strict=True)]
            if rare and rng.random() < 0.5:
                few = float(10.0 ** -rng.integers(3, 8))
                row = [(p * (1.0 - few), t, r, False) for p, t, r, _ in row] + [(few, s, 0.0, True)]
            outcomes[s][a] = row
    bare = {s for s in range(n) if not outcomes[s]}
    outcomes = {
        s: {a: [(p, t, r, e or t in bare) for p, t, r, e in row] for a, row in actions.items()}
        for s, actions in outcomes.items()
    }
    return FiniteMDP.from_outcomes(outcomes, n_states=n, n_actions=n_actions, start=np.full(n, 1.0 / n))
