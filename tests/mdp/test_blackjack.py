"""Blackjack from its rules: S&B Fig. 5.2 and Example 5.4, simulation by the environment itself, variants refused."""

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.blackjack import BlackjackEnv
from gymnasium.wrappers import TransformReward
from support import quick

from rlnet.mdp import FiniteMDP, NoModelError, evaluate, solve
from rlnet.mdp.from_env.blackjack import dealer_ends

STICK, HIT = 0, 1


def model(**rules):
    return FiniteMDP.from_env(gymnasium.make("Blackjack-v1", **rules))


def states(mdp):
    """State → (sum, dealer's card, usable ace, natural)."""
    return [(*obs, int("natural" in label)) for obs, label in zip(mdp.observations, mdp.labels, strict=True)]


def test_the_optimal_policy_is_that_of_figure_5_2():
    """Hard hands: stick on 17, on 13 against 2–6, on 12 against 4–6. With a usable ace: on 19, on 18 against 2–8.

    (The notch at the dealer's ace is what the book notes as its sole difference from Thorp 1966.)
    """
    mdp = model(sab=True)
    solution = solve(mdp, 1.0)
    for s, (total, dealer, usable, natural) in enumerate(states(mdp)):
        if not 12 <= total <= 21 or natural:
            continue
        low = 4 if total == 12 else 2
        hard = total >= 17 or (total >= 12 and low <= dealer <= 6)
        soft = total >= 19 or (total == 18 and dealer not in (1, 9, 10))
        assert solution.policy[s].argmax() == (STICK if (soft if usable else hard) else HIT), (total, dealer, usable)


@pytest.mark.parametrize(
    ("rules", "value"),
    [({"sab": False}, -0.0466), ({"sab": True}, -0.0431), ({"natural": True, "sab": False}, -0.0257)],
)
def test_the_optimal_value_of_the_start(rules, value):
    """Without naturals −0.0466. A natural that wins against a 21 of three cards gains P(natural)·P(such a 21).

    One that pays 1.5 gains half of P(natural)·P(the dealer has less), by hand from the dealer's ends.
    """
    mdp = model(**rules)
    found = float(mdp.start @ solve(mdp, 1.0).v)
    assert found == pytest.approx(value, abs=5e-5)
    natural = 8 / 169
    ends = [(p / 13 * (4 if card == 10 else 1), *end) for card in range(1, 11) for end, p in dealer_ends(card).items()]
    drawn = sum(p for p, total, own in ends if total == 21 and not own)
    less = sum(p for p, total, _ in ends if total < 21)
    gain = natural * drawn if rules["sab"] else natural * less / 2 if rules.get("natural") else 0.0
    plain = model(sab=False)
    assert found - float(plain.start @ solve(plain, 1.0).v) == pytest.approx(gain, abs=1e-12)


def test_the_state_of_example_5_4():
    """Dealer shows a deuce, sum 13 with a usable ace, stick only on 20 and 21: the value is about −0.27726."""
    mdp = model(sab=True)
    named = states(mdp)
    policy = np.array([STICK if total >= 20 else HIT for total, *_ in named])
    value = evaluate(mdp, policy, 1.0).v[named.index((13, 2, 1, 0))]
    assert value == pytest.approx(-0.27726, abs=0.001)


@pytest.mark.parametrize("rules", quick([{"sab": True}, {"natural": True, "sab": False}], 1))
def test_returns_of_the_environment_itself_are_those_of_the_model(rules):
    """Mean over 8,000 episodes of 'stick from 17 on', within 4.5 standard errors."""
    mdp, env = model(**rules), gymnasium.make("Blackjack-v1", **rules).unwrapped
    exact = mdp.start @ evaluate(mdp, np.array([STICK if t >= 17 else HIT for t, *_ in states(mdp)]), 1.0).v
    env.reset(seed=1)
    found = []
    for _ in range(8_000):
        (total, *_), _ = env.reset()
        ended = False
        while not ended:
            (total, *_), reward, ended, *_ = env.step(STICK if total >= 17 else HIT)
        found.append(reward)
    assert abs(np.mean(found) - exact) < 4.5 * np.std(found) / len(found) ** 0.5


def test_what_plays_by_other_rules_has_no_such_model():
    class Kind(BlackjackEnv):
        pass

    for env in (Kind(), TransformReward(gymnasium.make("Blackjack-v1"), lambda reward: 2 * reward)):
        with pytest.raises(NoModelError):
            FiniteMDP.from_env(env)


def test_the_trial_refuses_rules_that_were_changed_underneath(monkeypatch):
    import gymnasium.envs.toy_text.blackjack as game

    monkeypatch.setattr(game, "draw_card", lambda rng: int(rng.integers(1, 11)))
    with pytest.raises(NoModelError, match="more or less frequent"):
        model()
    monkeypatch.setattr(game, "cmp", lambda a, b: 3.0)
    with pytest.raises(NoModelError, match="which the rules exclude"):
        model()
