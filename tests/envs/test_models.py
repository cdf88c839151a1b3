"""Models of environments whose observations are no indices: explored, believed, and scored against in training."""

import numpy as np
import pytest
from passages import explored, passage
from support import composed, finish, make_run, quick, quick_rows, skip_without_extras

from rlnet.compare import Tables
from rlnet.config import ConfigError, RunFailed
from rlnet.envs import make, preset
from rlnet.envs.state_rows import StateRows
from rlnet.experiment.problem import assemble
from rlnet.learning.training_state import TrainingState
from rlnet.mdp import evaluate, solve


@pytest.mark.parametrize(("length", "limit"), quick_rows([(4, 7), (2, 1)], 1))
def test_time_that_no_observation_shows_is_a_part_of_the_state(length, limit):
    environment = make(passage(length=length, limit=limit))
    mdp = environment.mdp
    places = {(0, 0)}  # by hand: what can be reached, (place, time)
    for t in range(limit):
        alive = [p for p, at in places if at == t and p < length - 1]
        places |= {(min(max(p + d, 0), length - 1), t + 1) for p in alive for d in (-1, 0, 1)}
    assert mdp.n_states == len(places)
    assert len(environment.states.rows) == len({p for p, _ in places})
    for gamma in (1.0, 0.9):
        n = length - 1
        assert mdp.start @ solve(mdp, gamma).v == pytest.approx(gamma ** (n - 1) * (1 - 0.9 * n / limit))


def test_observations_that_are_states_are_the_states():
    mdp = make(passage(late=0.0, runs=True)).mdp  # no state holds the time, in which nothing happens
    assert mdp.n_states == 4
    assert solve(mdp, 0.9).v[:3] == pytest.approx([0.81, 0.9, 1.0])


@pytest.mark.parametrize(
    ("kwargs", "max_states", "message"),
    [
        ({"chance": True}, 1000, "Passage has no model .* acts by chance: a step draws random numbers"),
        ({"runs": True}, 50, "Passage has more than max_states=50 states"),
    ],
)
def test_what_cannot_be_explored_is_refused_in_a_sentence(kwargs, max_states, message):
    with pytest.raises(ConfigError, match=f"^env.truth=explore: {message}$"):
        make(passage(max_states=max_states, **kwargs))


def test_settings_of_the_truth():
    assert make(passage("auto")).mdp is None
    assert make(preset("frozen_lake", truth="none")).mdp is None
    with pytest.raises(ConfigError, match=r"^env\.truth=some: allowed are auto, explore"):
        make(passage("some"))
    with pytest.raises(ConfigError, match=r"^env\.max_states=0: must be at least 1"):
        make(passage(max_states=0))
    with pytest.raises(ConfigError, match=r"^env\.truth=explore: .* its actions are Box.*, not Discrete"):
        make(preset("pendulum", truth="explore"))


def run_on(environment, *overrides):
    hidden = () if "network=linear" in overrides else ("network.hidden=[8]",)
    config = composed("env=gymnasium", "env.id=rlnet-test/Passage-v0", *hidden, *overrides)
    return TrainingState(config, assemble(config, environment))


RIGHT = ("steps=3000", "network=linear", "algo.policy=[1,1,2]", "algo.envs=4", "algo.rollout=5")
RIGHT += ("optimizer.learning_rate=0.02",)


@pytest.mark.parametrize("acting", quick([(), ("algo.behaviour=0.5",)], 1))
def test_values_of_a_given_policy_where_states_are_shown_as_pictures(acting):
    run = finish(run_on(explored(late=0.0, runs=True), "algo=td0", "gamma=0.9", *RIGHT, *acting))
    p, exact = np.array([1, 1, 2]) / 4, np.zeros(4)
    for _ in range(500):  # v(s) = Σ p·(r + .9·v(s')), the right end pays 1 and ends
        exact[:3] = [
            sum(q * (1.0 if s + d == 3 else 0.9 * exact[max(s + d, 0)]) for q, d in zip(p, (-1, 0, 1), strict=True))
            for s in range(3)
        ]
    tables, comparison = run.compare()
    assert tables.policy[0][:3] == pytest.approx(np.tile(p, (3, 1)))
    place = run.problem.mdp.observations
    order = [int(seen["picture"].argmax()) for seen in place]
    assert run.problem.exact[0].v.shape == (4,)
    np.testing.assert_allclose(tables.v[0][np.argsort(order)[:3]], exact[:3], atol=0.05)
    taken = run.tried()[0].sum(0) / run.tried().sum()
    acts = p if not acting else 0.5 * p + 0.5 / 3
    np.testing.assert_allclose(taken, acts, atol=4 * np.sqrt(0.25 / 3000))
    assert comparison.scalars["exact/v_rmse"][0] < 0.05


def test_a_given_policy_must_act_alike_in_states_that_look_alike():
    message = r"^algo\.policy=optimal: acts differently in states \d+ and \d+, which look alike"
    with pytest.raises(ConfigError, match=message):  # with too little time left all actions are worth as much
        run_on(explored(), "algo=td0", "algo.policy=optimal")
    with pytest.raises(ConfigError, match=r"^algo\.behaviour=optimal: (acts differently|never takes action)"):
        run_on(explored(), "algo=td0", "algo.behaviour=optimal")
    run = run_on(explored(), "algo=td0", "algo.policy=[1,1,2]")
    alive, states = np.flatnonzero(~explored().mdp.terminal), explored().states
    looked_up = run.problem.context.given_policy[0][states.states(states.rows[states.of_state[alive]])]
    np.testing.assert_allclose(looked_up, np.tile([0.25, 0.25, 0.5], (len(alive), 1)))


@pytest.mark.slow
def test_search_in_a_model_whose_states_are_shown_as_pictures():
    small = ("algo.options.simulations=8", "steps=400", "algo.envs=4", "algo.rollout=20", "algo.learning_starts=20")
    run = finish(run_on(explored(late=0.0, runs=True), "algo=alphazero", "gamma=0.9", *small, "algo.batch=16"))
    tables, comparison = run.compare()
    assert comparison.scalars["exact/optimal_return"][0] == pytest.approx(0.81)
    with pytest.raises(ConfigError, match=r"algo=alphazero searches .*; here 22 states look like others"):
        run_on(explored(), "algo=alphazero")
    assert tables.searched is not None
    played = evaluate(run.problem.mdp, tables.searched[0] * run.problem.mdp.available, 0.9)
    assert run.problem.mdp.start @ played.v == pytest.approx(0.81)  # two steps ahead are seen by any network


@pytest.mark.slow
def test_scores_of_states_that_look_alike():
    run = finish(run_on(explored(), "algo=q_learning", "seeds=2", "steps=304", "algo.envs=2", "algo.rollout=19"))
    environment, (tables, comparison) = run.problem.environment, run.compare()
    alike, mdp = environment.states.of_state, environment.mdp
    for r in range(len(environment.states.rows)):
        for table in (tables.q, tables.policy * 1, run.tried()):
            some = table[:, (alike == r) & ~mdp.terminal]
            assert (some == some[:, :1]).all()
    assert run.visits.sum((1, 2)).tolist() == [304, 304]
    assert comparison.scalars["exact/optimal_return"] == pytest.approx(1 - 0.9 * 3 / 7 * np.ones(2), abs=0.02)
    assert (comparison.scalars["exact/coverage"] > 0.9).all()
    # A policy that goes right in every picture is the best one.
    right = np.zeros_like(tables.policy)
    right[..., 2] = 1.0
    regret = run.problem.score(Tables(right, None, None, None), run.tried()).scalars["exact/regret"]
    assert regret == pytest.approx(np.zeros(2), abs=1e-9)
    alone = finish(run_on(explored(), "algo=q_learning", "seed=1", "steps=304", "algo.envs=2", "algo.rollout=19"))
    assert (alone.tried()[0] == run.tried()[1]).all()


def test_state_of_a_row():
    rows = np.array([[1, 0, -0.0], [0, 1, 0], [1, 0, 0], [0, 0, 2]], np.float32)
    states = StateRows(rows)
    assert states.states(rows[[[1, 2], [3, 0]]]).tolist() == [[1, 0], [3, 0]]
    visits = np.array([[5, 1], [7, 2], [0, 0], [1, 3]])
    assert states.spread(visits).tolist() == [[5, 1], [7, 2], [5, 1], [1, 3]]
    with pytest.raises(
        RunFailed, match=r"the observation \[0\.0, 0\.0, 1\.0\] belongs to no state of the finite model"
    ):
        states.states(np.array([[0, 0, 1]], np.float32))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_many_rows_are_told_apart(kind):
    rows = np.unique(np.random.default_rng(0).integers(0, 2, (3000, 31)), axis=0).astype(kind)
    assert (StateRows(rows).states(rows) == np.arange(len(rows))).all()


@pytest.mark.slow
def test_blackjack_is_scored_while_it_is_learned():
    run = finish(make_run("env=blackjack", "algo=q_learning", "steps=2048", "algo.rollout=64", "network.hidden=[8]"))
    environment = run.problem.environment
    # S&B Fig. 5.2 with sab=True: −.0431; a natural looks like any other 21.
    assert run.compare()[1].scalars["exact/optimal_return"] == pytest.approx(-0.0431, abs=5e-5)
    assert len(environment.states.rows) == environment.mdp.n_states - 10
    assert run.visits.sum() == 2048
    other = make(preset("blackjack", wrappers=["FlattenObservation"]))
    assert other.mdp is None  # what its observations are then is not looked at


@pytest.mark.slow
def test_minigrid():
    skip_without_extras("minigrid")
    environment = make(preset("minigrid", truth="explore", kwargs={"max_steps": 8}))
    # Two steps, a turn, two steps: 1 − .9·(5/8).
    assert environment.mdp.start @ solve(environment.mdp, 1.0).v == pytest.approx(1 - 0.9 * 5 / 8)
