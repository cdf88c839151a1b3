"""The finite model of Gymnasium's Blackjack, from its rules (S&B Example 5.1), tried on the environment itself.

Cards come from an infinite deck, so what a player knows is the state: (sum, dealer's card, usable ace). With naturals
it is also whether the hand is one (the first two cards make 21), which the observation does not show but its age does.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np

from rlnet.mdp.errors import NoModelError
from rlnet.mdp.model.finite_mdp import FiniteMDP

CARDS = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}
STICK, HIT = 0, 1
EPISODES, LEVEL = 4000, 1e-7  # of the trial; the probability that it refuses a right model
State = tuple[int, int, int, int]  # sum, dealer's card, usable ace, natural
Outcome = tuple[State, float, bool]
Hand = tuple[int, int]  # sum, usable ace


def with_card(hand: Hand, card: int) -> Hand:
    """The hand after another card; an ace counts 11 where that does not bust."""
    total, usable = hand
    total, usable = (total + 11, 1) if card == 1 and total + 11 <= 21 else (total + card, usable)
    return (total - 10, 0) if total > 21 and usable else (total, usable)


def of_two(first: int) -> dict[Hand, float]:
    """The hands of a first card and one that is drawn."""
    hands: dict[Hand, float] = defaultdict(float)
    for card, p in CARDS.items():
        hands[with_card(with_card((0, 0), first), card)] += p
    return hands


@cache
def dealer_ends(card: int) -> dict[tuple[int, bool], float]:
    """The dealer's (final sum, 0 where it busts; whether it is a natural), who hits below 17."""
    ends: dict[tuple[int, bool], float] = defaultdict(float)

    def play(hand: Hand, p: float, natural: bool) -> None:
        if hand[0] >= 17:
            ends[hand[0] if hand[0] <= 21 else 0, natural] += p
            return
        for drawn, q in CARDS.items():
            play(with_card(hand, drawn), p * q, False)

    for hand, p in of_two(card).items():
        play(hand, p, hand[0] == 21)
    return ends


def payoff(total: int, natural: bool, dealer: int, dealer_natural: bool, rules: tuple[bool, bool]) -> float:
    """The reward of sticking, by the rules (natural, sab) of the environment."""
    pays, sab = rules
    reward = float(total > dealer) - float(total < dealer)
    if sab and natural and not dealer_natural:
        return 1.0
    return 1.5 if not sab and pays and natural and reward == 1.0 else reward


def outcomes_of(state: State, action: int, rules: tuple[bool, bool]) -> dict[Outcome, float]:
    """The distribution of (successor, reward, terminated)."""
    total, dealer, usable, natural = state
    found: dict[Outcome, float] = defaultdict(float)
    if action == HIT:
        for card, p in CARDS.items():
            hand, more = with_card((total, usable), card)
            found[(hand, dealer, more, 0), -1.0 if hand > 21 else 0.0, hand > 21] += p
        return found
    for (final, dealer_natural), p in dealer_ends(dealer).items():
        found[state, payoff(total, bool(natural), final, dealer_natural, rules), True] += p
    return found


def is_blackjack(env: Any) -> bool:
    """Whether this is Gymnasium's own environment, not a variant of it."""
    from gymnasium.envs.toy_text import blackjack

    return type(env.unwrapped) is blackjack.BlackjackEnv


def blackjack(env: Any) -> FiniteMDP:
    """The model of the environment with its rules (`natural`, `sab`); `observations` [S] are what it shows.

    Raises:
        NoModelError: what is stepped does not agree with it.
    """
    rules = bool(env.unwrapped.natural), bool(env.unwrapped.sab)
    start: dict[State, float] = defaultdict(float)
    for dealer, p in CARDS.items():
        for first, q in CARDS.items():
            for (total, usable), r in of_two(first).items():
                start[total, dealer, usable, int(total == 21)] += p * q * r
    number: dict[State, int] = {}
    pending, model = sorted(start), dict[State, list[dict[Outcome, float]]]()
    for state in pending:
        number.setdefault(state, len(number))
        if state in model or state[0] > 21:
            continue
        model[state] = [outcomes_of(state, action, rules) for action in (STICK, HIT)]
        pending += [there for own in model[state] for there, _, _ in own if there not in number]
    _try(env, model, start)
    rows = [
        (number[s], a, number[there], p, reward, ended)
        for s, both in model.items()
        for a, own in enumerate(both)
        for (there, reward, ended), p in own.items()
    ]
    begins = np.zeros(len(number))
    begins[[number[s] for s in start]] = list(start.values())
    shown = np.empty(len(number), dtype=object)
    shown[:] = [state[:3] for state in number]
    labels = tuple(f"{t} against {d}{', usable ace' * u}{', natural' * n}" for t, d, u, n in number)
    states, actions, successors, chances, rewards, ends = (np.array(column) for column in zip(*rows, strict=True))
    return FiniteMDP.from_coo(
        states,
        actions,
        successors,
        chances,
        rewards,
        ends,
        n_states=len(number),
        n_actions=2,
        start=begins,
        labels=labels,
        observations=shown,
    )


def _try(env: Any, model: dict[State, list[dict[Outcome, float]]], start: dict[State, float]) -> None:
    """Play a copy at random, and compare how often what came with how often it should."""
    from scipy.stats import chi2

    one, rng = copy.deepcopy(env.unwrapped), np.random.default_rng(0)
    one.render_mode = None
    counts: dict[Any, dict[Any, int]] = defaultdict(lambda: defaultdict(int))
    for episode in range(EPISODES):
        obs = one.reset(seed=0)[0] if episode == 0 else one.reset()[0]
        state: State = (int(obs[0]), int(obs[1]), int(obs[2]), int(obs[0] == 21))
        counts["start"][state] += 1
        ended = False
        while not ended:
            if state not in model:
                raise _refused(env, f"it is in {state[:3]}, which no episode reaches by the rules")
            action = int(rng.integers(2))
            obs, reward, ended, *_ = one.step(action)
            natural = state[3] if action == STICK else 0
            there: State = (int(obs[0]), int(obs[1]), int(obs[2]), natural)
            counts[state, action][there, float(reward), bool(ended)] += 1
            state = there
    statistic, freedom = 0.0, 0
    for key, seen in counts.items():
        expected = start if key == "start" else model[key[0]][key[1]]
        strange = set(seen) - set(expected)
        if strange:
            raise _refused(env, f"{key} is followed by {strange.pop()}, which the rules exclude")
        total, rest = sum(seen.values()), np.zeros(2)
        cells = 0
        for what, p in expected.items():
            if total * p >= 5:
                statistic, cells = statistic + (seen.get(what, 0) - total * p) ** 2 / (total * p), cells + 1
            else:
                rest += seen.get(what, 0), total * p
        if rest[1] >= 5:
            statistic, cells = statistic + (rest[0] - rest[1]) ** 2 / rest[1], cells + 1
        freedom += max(cells - (rest[1] == 0 or rest[1] >= 5), 0)  # one fewer where the cells hold all of it
    if chi2.sf(statistic, max(freedom, 1)) < LEVEL:
        raise _refused(env, "outcomes are more or less frequent than they should be")


def _refused(env: Any, why: str) -> NoModelError:
    return NoModelError(
        f"{type(env.unwrapped).__name__}: the rules of the game are not the model of what is stepped: {why}"
    )
