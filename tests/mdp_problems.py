"""The models of the book, written out by hand (independent of `rlnet.envs`), and random ones."""

from __future__ import annotations

import numpy as np

from rlnet.mdp import FiniteMDP

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left


def figure_4_1() -> FiniteMDP:
    """4×4, two terminal corners, −1 a step (S&B example 4.1)."""
    outcomes = {}
    for s in range(16):
        outcomes[s] = {}
        for a, (dr, dc) in enumerate(MOVES):
            if s not in (0, 15):
                t = min(max(s // 4 + dr, 0), 3) * 4 + min(max(s % 4 + dc, 0), 3)
                outcomes[s][a] = [(1.0, t, -1.0, t in (0, 15))]
    return FiniteMDP.from_outcomes(outcomes)


def example_3_5() -> FiniteMDP:
    """5×5, A→A' +10, B→B' +5, off the grid −1; continuing (S&B examples 3.5 and 3.8)."""
    outcomes = {s: {} for s in range(25)}
    for s in range(25):
        for a, (dr, dc) in enumerate(MOVES):
            r, c = s // 5 + dr, s % 5 + dc
            if s in (1, 3):
                outcomes[s][a] = [(1.0, 21, 10.0, False)] if s == 1 else [(1.0, 13, 5.0, False)]
            elif 0 <= r < 5 and 0 <= c < 5:
                outcomes[s][a] = [(1.0, 5 * r + c, 0.0, False)]
            else:
                outcomes[s][a] = [(1.0, s, -1.0, False)]
    return FiniteMDP.from_outcomes(outcomes)


def cliff() -> FiniteMDP:
    """4×12, state 36 starts, 47 ends, −1 a step, −100 and back to the start on the cliff (S&B example 6.6)."""
    outcomes = {}
    for s in [*range(37), 47]:
        outcomes[s] = {}
        for a, (dr, dc) in enumerate(MOVES):
            r, c = min(max(s // 12 + dr, 0), 3), min(max(s % 12 + dc, 0), 11)
            t = 12 * r + c
            if s != 47:
                outcomes[s][a] = [(1.0, 36, -100.0, False)] if 37 <= t <= 46 else [(1.0, t, -1.0, t == 47)]
    return FiniteMDP.from_outcomes(outcomes, n_states=48, n_actions=4, start=np.eye(48)[36])


def random_walk(n: int = 1000, reach: int = 100) -> FiniteMDP:
    """One action: a jump of 1..reach to either side, −1 past the left end, +1 past the right (S&B example 9.1)."""
    jumps = np.concatenate([-np.arange(1, reach + 1), np.arange(1, reach + 1)])
    state = np.repeat(np.arange(n), len(jumps))
    there = state + np.tile(jumps, n)
    reward = np.where(there < 0, -1.0, np.where(there >= n, 1.0, 0.0))
    return FiniteMDP.from_coo(
        state,
        np.zeros_like(state),
        np.clip(there, 0, n - 1),
        np.full(len(state), 0.5 / reach),
        reward,
        reward != 0,
        n_states=n,
        start=np.eye(n)[n // 2 - 1],
    )


def dense(mdp: FiniteMDP) -> tuple[np.ndarray, np.ndarray]:
    """(transition [S, A, S] of what goes on, expected reward [S, A]), by plain loops over the outcomes."""
    transition = np.zeros((mdp.n_states, mdp.n_actions, mdp.n_states))
    reward = np.zeros((mdp.n_states, mdp.n_actions))
    for s in range(mdp.n_states):
        for i in range(mdp.pair_ptr[s], mdp.pair_ptr[s + 1]):
            for k in range(mdp.outcome_ptr[i], mdp.outcome_ptr[i + 1]):
                reward[s, mdp.pair_action[i]] += mdp.probability[k] * mdp.reward[k]
                if not mdp.terminated[k]:
                    transition[s, mdp.pair_action[i], mdp.next_state[k]] += mdp.probability[k]
    return transition, reward


def random_mdp(rng: np.random.Generator, ends: float | None = None) -> FiniteMDP:
    """Up to 9 states: A(s) by chance, states without actions, ends, shared successors, rewards of either sign.

    `ends`: the chance that an outcome ends the episode; drawn if None.
    """
    n_states, n_actions = int(rng.integers(1, 10)), int(rng.integers(1, 5))
    ends = float(rng.choice([0.0, 0.1, 0.5])) if ends is None else ends
    terminal = rng.random(n_states) < 0.15
    terminal[rng.integers(n_states)] = False
    counts = rng.integers(1, n_actions + 1, size=n_states) * ~terminal
    state, action = np.nonzero(rng.random((n_states, n_actions)).argsort(axis=1) < counts[:, None])
    pair = np.repeat(np.arange(len(state)), rng.integers(1, 4, size=len(state)))
    size = len(pair)
    chance, to = rng.exponential(size=size), rng.integers(n_states, size=size)
    whole = rng.random() < 0.5  # whole rewards: exact ties
    reward = rng.integers(-2, 3, size=size) if whole else rng.normal(size=size) * 10.0 ** rng.integers(-2, 3, size=size)
    return FiniteMDP.from_coo(
        state[pair],
        action[pair],
        to,
        chance / np.bincount(pair, chance)[pair],
        reward.astype(float),
        terminal[to] | (rng.random(size) < ends),
        n_states=n_states,
        n_actions=n_actions,
        terminal=terminal,
    )
