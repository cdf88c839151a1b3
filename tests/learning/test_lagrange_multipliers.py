"""A chance constraint: its exact optimum in closed form, and what is learned under it by dual ascent."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import composed, finish, make_run, quick, run_on, update

from rlnet.compare.constraint import constrained_optimum
from rlnet.compare.constraint_bound import best_of_all_policies
from rlnet.compare.risk import Risk
from rlnet.config import ConfigError
from rlnet.data.rollout import Rollout
from rlnet.envs import make, preset
from rlnet.experiment.comparison_files import document, objective
from rlnet.learning.lagrange_multipliers import Constraint
from rlnet.learning.workers import Workers
from rlnet.mdp import FiniteMDP, evaluate, event_probability, solve

pytestmark = pytest.mark.usefixtures("without_pictures")

PPO = ("algo=ppo", "network=tabular", "algo.envs=64", "algo.rollout=8", "algo.hyper.entropy_coefficient=0")
ROAD = ("env=highway", "env.sight=2", "env.max_speed=2", "env.traffic_speed=1")


def gambles(*choices: tuple[float, float]) -> FiniteMDP:
    """One state, in which an action pays a sum, and with a probability the event happens; then the episode ends."""
    rows = [[(1 - p, 0, pay, True), (p, 1, pay, True)] for pay, p in choices]
    mdp = FiniteMDP.from_outcomes({0: dict(enumerate(rows))}, n_states=2, start=np.array([1.0, 0.0]))
    return replace(mdp, events={"loss": np.asarray(mdp.next_state) == 1})


# Safe, in between, bold: return 1, 2, 3 at a probability of 0, .1, .5.
THREE = ((1.0, 0.0), (2.0, 0.1), (3.0, 0.5))


def optimum(mdp, limit, gamma=1.0, horizon=None):
    return constrained_optimum(Risk(mdp, next(iter(mdp.events)), solve(mdp, gamma), horizon), limit)


@pytest.mark.parametrize(
    ("limit", "ret", "multiplier"),
    [(0.7, 3.0, 0.0), (0.5, 3.0, 0.0), (0.3, 2.5, 2.5), (0.1, 2.0, None), (0.05, 1.5, 10.0), (0.0, 1.0, None)],
)
def test_the_optimum_of_three_gambles_is_that_of_the_closed_form(limit, ret, multiplier):
    # Between two gambles the return is linear in the probability: J* = 1 + 10·d up to .1, then 2 + 2.5·(d − .1).
    found = optimum(gambles(*THREE), limit)
    assert found.ret == pytest.approx(ret, abs=1e-9)
    assert found.probability == pytest.approx(min(limit, 0.5), abs=1e-9)
    if multiplier is not None:
        assert found.multiplier == pytest.approx(multiplier, abs=1e-6)


def test_a_gamble_below_the_line_between_two_others_is_never_taken():
    found = optimum(gambles((1.0, 0.0), (1.2, 0.2), (3.0, 0.4)), 0.2)
    assert (found.safer.probability, found.bolder.probability) == pytest.approx((0.0, 0.4))
    assert found.ret == pytest.approx(2.0)


def test_of_several_events_one_is_to_be_chosen():
    mdp = gambles(*THREE)
    mdp = replace(mdp, events={**mdp.events, "win": mdp.reward == 3.0})
    with pytest.raises(ConfigError, match=r"constraint\.event=null: the events of .* are loss, win; choose one"):
        run_on(mdp, *PPO, "gamma=1", "constraint.limit=0.1")


def test_no_policy_below_the_least_risk():
    assert optimum(gambles((1.0, 0.2), (2.0, 0.3)), 0.1) is None
    with pytest.raises(ConfigError, match=r"constraint\.limit=0\.1: is below what can be had; .* is 0\.2"):
        run_on(gambles((1.0, 0.2), (2.0, 0.3)), *PPO, "gamma=1", "constraint.limit=0.1")


def test_a_limit_that_only_a_policy_with_a_clock_could_keep_is_said():
    # To stay is a loss of .3 in a step; to go is none now, and one of .5 in the next. In two steps: stay, then go.
    rows = {
        0: {0: [(0.7, 0, 0.0, False), (0.3, 0, -1.0, True)], 1: [(1.0, 1, 0.0, False)]},
        1: {0: [(0.5, 0, 0.0, False), (0.5, 0, -1.0, True)]},
    }
    mdp = FiniteMDP.from_outcomes(rows, start=np.array([1.0, 0.0]))
    mdp = replace(mdp, events={"loss": mdp.terminated})
    with pytest.raises(ConfigError, match=r"any policy attains is 0\.3, by one that knows the steps left"):
        run_on(mdp, *PPO, "gamma=0.9", "constraint.limit=0.35", max_steps=2)


def test_a_limit_that_only_a_policy_without_end_could_keep_is_said():
    rows = {0: {0: [(1.0, 0, -1.0, False)], 1: [(0.5, 0, -1.0, True), (0.5, 0, -3.0, True)]}}
    mdp = FiniteMDP.from_outcomes(rows)
    mdp = replace(mdp, events={"loss": mdp.reward == -3.0})
    with pytest.raises(ConfigError, match=r"any policy attains is 0, by one that goes on for ever at a cost"):
        run_on(mdp, *PPO, "gamma=1", "constraint.limit=0.2")


def test_limits_are_problems_of_their_own_and_a_high_price_is_no_divergence():
    run = run_on(gambles(*THREE), *PPO, "gamma=1", "vary.limit=[0.05,0.3]", "constraint.multiplier=500", "steps=20000")
    tables, comparison = finish(run).compare()
    # The optimal probability is that of the optimum under each limit, not of ties at λ*.
    assert comparison.scalars["exact/loss_probability_optimal"] == pytest.approx([0.05, 0.3])
    priced = replace(tables, v=np.full_like(tables.v, -450.0))  # as a multiplier of 500 has it
    told = document(run.config, run.problem, priced, run.steps.tolist(), [-1, -1], comparison.scalars)
    assert "2 problems (γ = 1, P(loss) ≤ 0.05; γ = 1, P(loss) ≤ 0.3) are not ranked" in told["verdict"]
    assert not any(member["diverged_because"] for member in told["members"])


def test_no_mixture_of_random_policies_is_better_than_the_optimum():
    mdp = make(preset("highway", sight=2, max_speed=2, traffic_speed=1)).mdp
    ended = replace(mdp, terminated=mdp.terminated | (np.arange(mdp.n_outcomes) % 3 == 0))  # all drives end
    limit = 0.5 * optimum(ended, 0.9).probability
    found, rng = optimum(ended, limit), np.random.default_rng(0)
    assert found.probability == pytest.approx(limit, abs=1e-9)
    # γ = 1, no time limit: the Lagrangian at λ* bounds the return of every policy.
    for _ in range(20):
        policy = rng.dirichlet(np.ones(5) * 0.3, size=mdp.n_states)
        ret = ended.start @ evaluate(ended, policy, 1.0).v
        p = ended.start @ event_probability(ended, policy, "crash")
        assert ret - found.multiplier * (p - limit) <= found.ret + 1e-6


@pytest.mark.slow
def test_ppo_mixes_two_gambles_on_the_frontier():
    run = run_on(
        gambles(*THREE), *PPO, "gamma=1", "vary.limit=[0.3,0.05]", "constraint.rate=0.01", "steps=60_000",
        "optimizer.learning_rate=0.05",
    )  # fmt: skip
    policies = []
    while int(run.steps.min()) < run.config.steps:
        update(run)
        policies.append(run.tables().policy[:, 0])
    # Dual ascent circles about the optimum: the mean of its policies is near it.
    mean = np.mean(policies[len(policies) // 2 :], axis=0)
    risk, ret = mean @ [0.0, 0.1, 0.5], mean @ [1.0, 2.0, 3.0]
    assert risk == pytest.approx([0.3, 0.05], abs=0.05)
    assert ret == pytest.approx([2 + 2.5 * (risk[0] - 0.1), 1 + 10 * risk[1]], abs=0.1)
    scores = run.compare()[1].scalars
    assert scores["exact/constraint_multiplier"] == pytest.approx([2.5, 10.0], abs=1e-5)
    assert scores["exact/constrained_optimal_return"] == pytest.approx([2.5, 1.5])
    assert ((scores["exact/regret"] >= -1e-9) & (scores["exact/regret"] < 0.1)).all()  # no policy above the frontier
    lacks = scores["exact/constraint_gap"] + scores["exact/constraint_multiplier"] * scores["exact/constraint_excess"]
    np.testing.assert_allclose(lacks, scores["exact/regret"], atol=1e-9)
    assert objective(run.problem) == "reward − 2.5, 10·1[loss], the exact multiplier of the constraint"


@pytest.mark.slow
def test_dqn_is_bold_and_safe_in_turn_at_the_rate_of_the_limit():
    # A greedy policy is one gamble at a time: the multiplier swings about λ* = 2.5, and the mean risk is the limit.
    run = run_on(
        gambles(*THREE), "algo=dqn", "network=tabular", "gamma=1", "constraint.limit=0.3", "constraint.rate=0.01",
        "steps=40_000", "schedule=constant", "schedule.value=0", "algo.envs=16", "optimizer.learning_rate=0.05",
    )  # fmt: skip
    rates, prices = [], []
    for _ in range(run.config.steps // 64):
        update(run)
        logged = run.constraint.logged()
        rates.append(float(logged["constraint/event_rate"]))
        prices.append(float(logged["constraint/multiplier"]))
    half = len(rates) // 2
    assert np.nanmean(rates[half:]) == pytest.approx(0.3, abs=0.02)
    assert np.mean(prices[half:]) == pytest.approx(2.5, abs=0.3)


def column(*numbers):
    return torch.tensor(numbers).unsqueeze(-1)


def rollout_of(event, ended):
    """Rows [T, 1, N] with these flags and a reward of 1."""
    event, ended = (torch.tensor(x, dtype=torch.bool).unsqueeze(1) for x in (event, ended))
    zero, one = torch.zeros(event.shape), torch.ones(event.shape)
    flags = {"terminated": ended, "truncated": ended & False, "valid": one.bool(), "event": event}
    return Rollout(
        obs=zero.long(), next_obs=zero.long(), action=zero.long(), reward=one, start_discount=one, weight=one, **flags
    )


def test_multipliers_climb_by_the_episodes_that_had_the_event():
    settings = replace(composed().constraint, limit=column(0.25), rate=column(0.5), multiplier=column(1.0))
    own, active = Constraint(settings, 2), torch.ones(1, dtype=torch.bool)
    # Environment 0 has the event twice before its episode ends, which is one episode with it; environment 1 none.
    rows = rollout_of([[1, 0], [1, 0], [0, 0]], [[0, 1], [0, 0], [1, 0]])
    assert own.charged(rows).reward[:, 0].tolist() == [[0, 1], [0, 1], [1, 1]]
    own.observe(rows, 0, active, active)
    assert own.multiplier.item() == pytest.approx(1 + 0.5 * (1 - 0.25 * 2))
    logged = own.logged()
    assert logged["constraint/event_rate"].item() == 0.5
    assert own.logged()["constraint/event_rate"].isnan().all()
    for _ in range(20):  # never below 0, and the running episode of environment 1 had none
        own.observe(rollout_of([[0, 0]], [[1, 1]]), 0, active, active)
    assert own.multiplier.item() == 0.0
    own.observe(rollout_of([[1, 1]], [[1, 1]]), 0, ~active, active)
    assert own.multiplier.item() == 0.0
    own.logged()
    own.observe(rollout_of([[1, 1]], [[1, 1]]), 0, active, ~active)  # counted, but the multiplier stays
    assert own.multiplier.item() == 0.0
    assert own.logged()["constraint/event_rate"].item() == 1


def test_multipliers_stay_as_they_are_until_their_share_of_the_run_is_done():
    own = (*PPO, "gamma=0.9", "steps=2000", "constraint.limit=0.01", "constraint.multiplier=3", "constraint.after=0.5")
    run, moved = run_on(walk(), *own, max_steps=5), []
    while int(run.steps.min()) < run.config.steps:
        before, price = int(run.steps[0]), prices(run).item()
        update(run)
        moved.append((before >= 1000, prices(run).item() != price))
    assert {late for late, _ in moved} == {True, False}
    assert all(late == changed for late, changed in moved)
    with pytest.raises(ConfigError, match=r"constraint.after=1.0: must be a share of the run in \[0, 1\)"):
        run_on(walk(), *PPO, "constraint.limit=0.1", "constraint.after=1")


@pytest.mark.parametrize("algo", quick(["dqn", "ppo"], 1))
def test_members_have_multipliers_of_their_own_that_a_resumed_run_goes_on_with(algo):
    settings = (f"algo={algo}", "algo.envs=3", "constraint.rate=0.5", "gamma=0.9", "network=tabular", "steps=900")
    settings += ("algo.learning_starts=100",) if algo == "dqn" else ("algo.rollout=20", "algo.minibatches=2")
    mdp = walk()
    whole, part, again = (run_on(mdp, *settings, "seeds=2", "vary.limit=[0.02,0.2]", max_steps=5) for _ in range(3))
    finish(whole)
    update(part, 7)
    again.load_state_dict(part.state_dict())
    finish(again)
    with closing(Workers(shared := run_on(mdp, *settings, "seeds=2", "vary.limit=[0.02,0.2]", max_steps=5), 2)) as two:
        while int(shared.steps.min()) < 900:
            two.advance(1)
        stored = two.state_dict()
    assert prices(whole).unique().numel() == 4
    for own in (again.state_dict(), stored):
        assert torch.equal(own["constraint"]["multiplier"], prices(whole))
    assert torch.equal(again.learner.theta, whole.learner.theta)
    assert torch.equal(stored["constraint"]["happened"], whole.state_dict()["constraint"]["happened"])
    alone = finish(run_on(mdp, *settings, "seed=1", "constraint.limit=0.2", max_steps=5))
    assert torch.equal(prices(alone), prices(whole)[3:])
    np.testing.assert_allclose(alone.learner.theta, whole.learner.theta[3:], atol=1e-5)


def test_a_run_under_a_constraint_leaves_its_exact_optimum(tmp_path):
    mdp = walk()
    run = run_on(mdp, *PPO, "gamma=0.9", "steps=2000", "constraint.limit=0.1", max_steps=5)
    tables, comparison = finish(run).compare()
    scalars = {name: x.tolist() for name, x in comparison.scalars.items()}
    told = document(run.config, run.problem, tables, run.steps.tolist(), [-1], comparison.scalars)
    exact = optimum(mdp, 0.1, 0.9, 5)
    assert scalars["exact/constrained_optimal_return"] == pytest.approx([exact.ret])
    (event,) = told["events"]
    assert event["constraint"]["probability"] == pytest.approx(0.1)
    assert event["constraint"]["multiplier"] == pytest.approx(exact.multiplier)
    of_all = best_of_all_policies(Risk(mdp, "loss", solve(mdp, 0.9), 5), 0.1, exact.multiplier)
    assert event["constraint"]["optimal_return_of_all_policies"] == pytest.approx(of_all)
    assert of_all > exact.ret
    # The charge is no part of the picture: there the event costs nothing where it ends the episode.
    assert event["members"][0]["return"] == pytest.approx(scalars["exact/constrained_return"][0])
    assert "0·1[loss]" not in told["objective"]


def walk() -> FiniteMDP:
    """Two states with a safe and a bold way from one to the other, for ever; the bold one may end in a loss."""
    rows = {s: {0: [(1.0, 1 - s, 0.0, False)], 1: [(0.8, 1 - s, 1.0, False), (0.2, s, 0.0, True)]} for s in (0, 1)}
    mdp = FiniteMDP.from_outcomes(rows, start=np.array([0.5, 0.5]))
    return replace(mdp, events={"loss": mdp.terminated})


def prices(run):
    return run.constraint.multiplier


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((*ROAD, "constraint.limit=-1"), r"constraint\.limit=-1.*: must be a probability in \[0, 1\)"),
        ((*ROAD, "constraint.limit=2"), r"constraint\.limit=2.*: must be a probability in \[0, 1\)"),
        ((*ROAD, "constraint.after=0.5"), r"constraint\.after=0\.5: needs a constraint\.limit"),
        ((*ROAD, "constraint.limit=nan"), r"constraint\.limit=nan: must be a probability in \[0, 1\)"),
        ((*ROAD, "vary.limit=[0.1,1]"), r"constraint\.limit=1\.0: must be a probability"),
        (
            (*ROAD, "constraint.limit=0.1", "constraint.rate=0"),
            r"constraint\.rate=0.*: must be a finite number above 0",
        ),
        ((*ROAD, "constraint.multiplier=-1"), r"constraint\.multiplier=-1.*: must be a finite number, at least 0"),
        ((*ROAD, "constraint.event=crash"), r"constraint\.event=crash: needs a constraint\.limit"),
        ((*ROAD, "constraint.limit=0.1", "constraint.event=win"), "win: the events of env=highway are crash"),
        (("constraint.limit=0.1",), r"constraint\.limit=0\.1: env=gridworld names no event"),
        (
            (*ROAD, "algo=td0", "exploration=none", "schedule=none", "constraint.limit=0.1"),
            "algo=td0: cannot be constrained: it evaluates a given policy",
        ),
        (
            (*ROAD, "algo=soft_q", "exploration=softmax", "constraint.limit=0.1"),
            "algo=soft_q: cannot be constrained: the entropy",
        ),
    ],
)
def test_what_cannot_be_constrained_is_said_in_one_sentence(overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_run(*overrides)
