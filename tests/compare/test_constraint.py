"""The exact optimum under a chance constraint, against a linear program and where the frontier is out of order."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog

from rlnet.compare.constraint import constrained_optimum
from rlnet.compare.constraint_bound import best_of_all_policies
from rlnet.compare.risk import Risk
from rlnet.compare.sentence import sentence
from rlnet.mdp import FiniteMDP, solve


def optimum(mdp, limit, gamma=1.0, horizon=None):
    return constrained_optimum(Risk(mdp, "loss", solve(mdp, gamma), horizon), limit)


def best_by_linear_program(mdp: FiniteMDP, limit: float) -> float:
    """The largest J at γ = 1 over the expected numbers of (s, a), at most `limit` events: Altman (1999), chapter 3."""
    flow = np.zeros((mdp.n_states, mdp.n_pairs))
    flow[mdp.pair_state, np.arange(mdp.n_pairs)] = 1.0
    pair = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))
    on = ~mdp.terminated
    np.add.at(flow, (mdp.next_state[on], pair[on]), -mdp.probability[on])
    gain = np.bincount(pair, mdp.probability * mdp.reward)
    risk = np.bincount(pair, mdp.probability * mdp.events["loss"])
    found = linprog(-gain, A_ub=risk[None], b_ub=[limit], A_eq=flow, b_eq=mdp.start)
    assert found.success
    return -float(found.fun)


@pytest.mark.parametrize("seed", range(6))
def test_without_a_discount_no_policy_at_all_is_better(seed):
    rng = np.random.default_rng(seed)
    n, actions, k = 5, 3, 3
    state, action = np.repeat(np.arange(n), actions * k), np.tile(np.repeat(np.arange(actions), k), n)
    chance = rng.dirichlet(np.ones(k), size=n * actions).ravel()
    ends = np.tile([False, False, True], n * actions)
    mdp = FiniteMDP.from_coo(
        state,
        action,
        rng.integers(n, size=len(state)),
        chance,
        rng.normal(size=len(state)),
        ends,
        start=np.ones(n) / n,
    )
    mdp = replace(mdp, events={"loss": mdp.terminated & (rng.random(mdp.n_outcomes) < 0.6)})
    risk = Risk(mdp, "loss", solve(mdp, 1.0), None)
    for share in (0.0, 0.3, 0.8):
        limit = risk.least + share * (risk.of_optimal - risk.least) + 1e-9
        found = constrained_optimum(risk, limit)
        assert found.ret == pytest.approx(best_by_linear_program(mdp, limit), abs=1e-5)
        assert found.probability <= limit + 1e-9


def test_a_loss_that_comes_late_is_discounted_yet_as_probable():
    # Return, discounted losses, probability: bold 3, .5, .5; late 2, .225, .9; safe 0. By the number of losses the
    # neighbours of a limit of .4 are late and safe, worth .89; bold and safe are worth .8·3.
    mdp = FiniteMDP.from_coo(
        [0, 0, 0, 0, 1, 2, 2],
        [0, 0, 1, 2, 0, 0, 0],
        [1, 2, 1, 0, 2, 1, 2],
        [0.5, 0.5, 1.0, 1.0, 1.0, 0.9, 0.1],
        [3.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0],
        [True, True, False, True, False, True, True],
        start=np.array([1.0, 0.0, 0.0]),
    )
    mdp = replace(mdp, events={"loss": mdp.terminated & (mdp.next_state == 1)})
    found = optimum(mdp, 0.4, gamma=0.5)
    assert (found.ret, found.probability) == pytest.approx((0.8 * 3.0, 0.4))
    assert (found.safer.probability, found.bolder.probability) == pytest.approx((0.0, 0.5))
    assert found.multiplier == pytest.approx(3.0 / 0.5)


def test_the_safest_policy_is_found_where_the_discount_hides_it():
    # A loss of .9 that comes 60 steps later counts less than one of .5 now, whatever a loss costs; it pays more, too.
    n = 60
    rows = [(0, 0, 0, 0.5, 1.0, True), (0, 0, 1, 0.5, 1.0, True), (0, 1, 1, 1.0, 2.0, False)]
    rows += [(s, 0, s + 1, 1.0, 0.0, False) for s in range(1, n)]
    rows += [(n, 0, 0, 0.9, 0.0, True), (n, 0, 1, 0.1, 0.0, True)]
    mdp = FiniteMDP.from_coo(*zip(*rows, strict=True), start=np.eye(n + 1)[0])
    mdp = replace(mdp, events={"loss": mdp.terminated & (mdp.next_state == 0)})
    found = optimum(mdp, 0.7, gamma=0.5)
    assert (found.ret, found.probability) == pytest.approx((1.5, 0.7))
    assert optimum(mdp, 0.4, gamma=0.5) is None


def test_an_event_that_happens_for_ever_has_a_price_too():
    # To stay is a loss in every step; to leave costs 1. The number of losses is infinite, their probability is not.
    mdp = FiniteMDP.from_outcomes({0: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 0, -1.0, True)]}})
    mdp = replace(mdp, events={"loss": ~mdp.terminated})
    found = optimum(mdp, 0.25)
    assert (found.ret, found.probability) == pytest.approx((-0.75, 0.25))
    assert np.isfinite(found.multiplier)


@pytest.mark.parametrize(("seed", "gamma"), [(0, 0.8), (1, 0.8), (2, 0.8), (3, 0.8), (0, 0.0), (1, 0.0), (2, 1.0)])
def test_a_policy_that_knows_the_steps_left_is_the_best_of_all(seed, gamma):
    rng, steps = np.random.default_rng(seed), 3
    state, action, to = (x.ravel() for x in np.indices((2, 2, 2)))
    chance = rng.dirichlet(np.ones(2), size=4).ravel()
    ends = np.tile([False, False, False, True], 2)
    mdp = FiniteMDP.from_coo(state, action, to, chance, rng.normal(size=8), ends, start=np.array([0.5, 0.5]))
    mdp = replace(mdp, events={"loss": rng.random(8) < 0.4})
    risk = Risk(mdp, "loss", solve(mdp, gamma), steps)
    loss, best = mdp.events["loss"], risk.optimal.v

    def place(choices):  # (P, J) of one action for each step and state, then of the best ones; the event counts once
        p, v, free = np.zeros(2), best, best  # free: the value once the event has happened, when nothing counts
        for act in reversed(choices):
            rows = [slice(*mdp.outcome_ptr[[2 * s + act[s], 2 * s + act[s] + 1]]) for s in (0, 1)]
            on = ~mdp.terminated
            after = np.where(loss, free[mdp.next_state], v[mdp.next_state]) * on
            p, v = (
                np.array([mdp.probability[r] @ x[r] for r in rows])
                for x in (np.where(loss, 1.0, p[mdp.next_state] * on), mdp.reward + gamma * after)
            )
        return mdp.start @ p, mdp.start @ v

    single = list(product((0, 1), repeat=2))
    places = [place(choices) for choices in product(single, repeat=steps)]
    low, high = min(places)[0], max(places, key=lambda x: x[1])[0]
    limit = 0.5 * (low + high)
    safe, bold = ([x for x in places if (x[0] <= limit) == fits] for fits in (True, False))
    mixed = [a[1] + (limit - a[0]) / (b[0] - a[0]) * (b[1] - a[1]) for a in safe for b in bold]
    multiplier = constrained_optimum(risk, limit).multiplier
    found = best_of_all_policies(risk, limit, multiplier)
    assert found == pytest.approx(max([a[1] for a in safe] + mixed), abs=2e-3)
    assert found >= constrained_optimum(risk, limit).ret - 1e-9
    assert best_of_all_policies(replace(risk, horizon=None), limit, 1.0) is None


@pytest.mark.parametrize(
    ("excess", "multiplier", "said"),
    [
        (0.02, 0.0, "its return is 3, under the constraint 4 can be had, and its risk is 0.02 above the limit."),
        (-0.02, 0.0, "and its risk is 0.02 below the limit."),
        (0.0, 0.0, "and its risk is at the limit."),
        (0.0, 2.5, "its return without λ* = 2.5, which J and J* charge for the event, is 3, under"),
    ],
)
def test_the_verdict_says_whether_the_limit_is_kept(excess, multiplier, said):
    scalars = {"exact/return": 3.0, "exact/optimal_return": 4.0, "exact/regret": 1.0, "exact/optimal_action_rate": 0.5}
    assert "under the constraint" not in sentence(scalars, "optimal", "greedy")
    scalars |= {"exact/constrained_return": 3.0, "exact/constrained_optimal_return": 4.0}
    scalars |= {"exact/constraint_excess": excess, "exact/constraint_multiplier": multiplier}
    assert said in sentence(scalars, "optimal", "greedy")
