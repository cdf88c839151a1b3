"""AlphaZero: its loss, its data, what it is scored by, and what its runs keep."""

import numpy as np
import pytest
import torch
from losses import hyper, learner_for
from support import composed, make_run, random_mdp, update

from rlnet.config import ConfigError
from rlnet.data.rollout import Rollout
from rlnet.envs.boards.enumeration import enumerate_positions
from rlnet.envs.boards.rules import KInARow
from rlnet.experiment.problem import build
from rlnet.learning.updates import learn
from rlnet.mdp import nash_conv
from rlnet.planning import Symmetries

NUMBERS = {"value_coefficient": 0.7, "root_share": 0.25}
OWN = ("algo=alphazero", "network=tabular", "algo.envs=6", "algo.rollout=9", "algo.options.simulations=8")
SMALL = (*OWN, "env=tic_tac_toe", "algo.learning_starts=20", "algo.capacity=400", "algo.batch=16", "algo.updates=3")


def batch_of(mdp, seed=0, rows=5, members=2):
    """Rows [1, M, B] with random policies as targets."""
    rng = np.random.default_rng(seed)
    obs = rng.choice(np.flatnonzero(~mdp.terminal), (1, members, rows))
    target = rng.random((1, members, rows, mdp.n_actions)) * mdp.available[obs]
    target /= target.sum(-1, keepdims=True)
    shape = (1, members, rows)
    no, weight = torch.zeros(shape, dtype=torch.bool), torch.as_tensor(rng.random(shape), dtype=torch.float32)
    fields = {
        "obs": torch.as_tensor(obs), "action": torch.zeros(shape, dtype=torch.int64), "reward": torch.zeros(shape),
        "next_obs": torch.as_tensor(obs), "terminated": no, "truncated": no, "valid": ~no,
        "start_discount": torch.ones(shape), "weight": weight, "mask": torch.as_tensor(mdp.available[obs]),
        "next_mask": torch.as_tensor(mdp.available[obs]), "search_policy": torch.as_tensor(target).float(),
        "search_value": torch.as_tensor(rng.normal(size=shape)).float(),
    }  # fmt: skip
    return Rollout(**fields, extra={"outcome": torch.as_tensor(rng.normal(size=shape)).float()})


def test_a_step_pulls_policy_to_the_search_and_value_to_the_outcome():
    """∂/∂h_b of −Σ p·log π is π_b − p_b, and V moves by c·(z − V), by hand."""
    mdp = random_mdp(3)
    options = {"search": "puct", "simulations": 4, "considered": 2, "symmetries": False}
    learner = learner_for("alphazero", mdp, members=2, **options)
    learner.theta.copy_(torch.randn(learner.theta.shape, generator=torch.Generator().manual_seed(0)))
    before = {role: own["table"].clone() for role, own in learner.params.items()}
    batch = batch_of(mdp)
    learner.step(batch, hyper(2, **NUMBERS), torch.ones(2, 1))
    for m in range(2):
        for name, width in (("pi", mdp.n_actions), ("v", 1)):
            change = np.zeros((mdp.n_states, width))
            for b in range(batch.obs.shape[2]):
                s, weight = int(batch.obs[0, m, b]), float(batch.weight[0, m, b])
                own = before[name][m, s].double().numpy()
                if name == "pi":
                    e = np.exp(own - own.max()) * mdp.available[s]
                    change[s] += weight * (batch.tensor("search_policy")[0, m, b].numpy() - e / e.sum())
                else:
                    z = 0.75 * batch.extra["outcome"][0, m, b] + 0.25 * batch.tensor("search_value")[0, m, b]
                    change[s] += 0.7 * weight * (float(z) - own)
            moved = (learner.params[name]["table"][m] - before[name][m]).numpy()
            np.testing.assert_allclose(moved, change, atol=1e-5)


def replayed_winner(mdp, actions):
    """Reward of the player who moves last, and the number of moves, by the model alone."""
    state = int(mdp.start.argmax())
    for count, action in enumerate(actions, 1):
        pair = mdp.pair_index[state, action]
        assert pair >= 0, "an action that is not legal"
        if mdp.terminated[pair]:
            return float(mdp.reward[pair]), count
        state = int(mdp.next_state[pair])
    raise AssertionError("the game did not end")


@pytest.mark.parametrize("search", ["puct", "gumbel"])
def test_games_are_legal_and_every_row_gets_the_outcome_of_the_player_who_moved(search):
    run = make_run(*SMALL, "seeds=8", f"algo.options.search={search}", "algo.hyper.sampled_moves=4")
    run.collect()
    rollout = run.collect()  # the games of the second rollout are as whole as those of the first
    prepared = run.problem.algorithm.update.prepare(run.problem.context, run.learner.params, rollout, run.hyper())
    policy, value = rollout.tensor("search_policy"), rollout.tensor("search_value")
    mdp, seen = run.problem.mdp, set()
    for m in range(8):
        for n in range(6):
            last, count = replayed_winner(mdp, rollout.action[:, m, n].tolist())
            assert rollout.valid[:, m, n].tolist() == [t < count for t in range(len(rollout.reward))]
            expected = [last * (-1) ** (count - 1 - t) for t in range(count)]
            assert prepared["outcome"][:count, m, n].tolist() == expected
            seen.add((last, count))
    valid = rollout.valid
    assert {last for last, _ in seen} == {0.0, 1.0}, "a draw and a win"
    torch.testing.assert_close(policy.sum(-1)[valid], torch.ones(int(valid.sum())))
    assert (policy[~rollout.tensor("mask")] == 0).all()
    assert (value[valid].abs() <= 1).all()


def test_a_member_of_a_population_is_what_it_is_alone():
    many, alone = make_run(*SMALL, "seeds=4"), make_run(*SMALL, "seed=2")
    for _ in range(4):
        a, b = many.collect(), alone.collect()
        length = len(b.reward)
        valid = b.valid[:, 0]
        assert torch.equal(a.valid[:length, 2], valid)
        for name in ("obs", "action", "reward", "search_policy", "search_value"):
            assert torch.equal(a.tensor(name)[:length, 2][valid], b.tensor(name)[:, 0][valid]), name
        learn(many, a)
        learn(alone, b)
    assert torch.equal(many.learner.theta[2], alone.learner.theta[0])


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    options = (*SMALL, "seeds=2", "algo.options.symmetries=true", "env=tic_tac_toe")
    whole, half = make_run(*options), make_run(*options)
    update(half, 3)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed = make_run(*options)
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    update(resumed, 3)
    update(whole, 6)
    assert torch.equal(whole.learner.theta, resumed.learner.theta)
    assert torch.equal(whole.visits, resumed.visits)


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 0.0), (-1.0, 2.0)])
def test_the_search_is_scored_exactly(sign, expected):
    """With V* as its values it cannot be exploited; with the other player's, it loses in both seats."""
    run = make_run(*SMALL, "seeds=2", "algo.options.simulations=64")
    exact = run.problem.exact[0].v
    run.learner.params["v"]["table"].copy_(torch.as_tensor(sign * exact)[None, :, None])
    scalars = run.compare()[1].scalars
    assert scalars["exact/nash_conv_search"].tolist() == [expected] * 2
    assert (scalars["exact/nash_conv"] > 1).all(), "the network alone is uniform"


def test_only_states_that_matter_are_searched_and_the_score_is_that_of_all():
    run = make_run(*SMALL, "seeds=1", "algo.options.simulations=32")
    update(run, 3)
    mdp, context = run.problem.mdp, run.problem.context
    tables = run.tables()
    planner = run.self_play.planner(run.learner.params, run.hyper())
    states = np.flatnonzero(~mdp.terminal)
    everywhere = tables.policy[0].copy()
    everywhere[states] = planner.states(np.zeros(len(states), int), states)
    assert nash_conv(mdp, everywhere) == nash_conv(mdp, tables.searched[0])
    same = (everywhere == tables.searched[0]).all(1)
    assert 0 < (~same).sum() < len(states), "some states were left out"
    assert context.dynamics is not None


def test_the_score_of_the_search_evaluates_no_state_again(monkeypatch):
    run = make_run(*SMALL, "seeds=2", "network=mlp", "network.hidden=[8]", "network.input=features")
    planner, states = run.self_play.planner(run.learner.params, run.hyper()), np.flatnonzero(~run.problem.mdp.terminal)
    assert planner._known is None
    own = [planner.states(np.full(len(states), member), states) for member in range(2)]
    assert planner._known is not None
    monkeypatch.setattr(type(planner), "_everywhere", None)
    tables = run.tables()
    for member in range(2):
        searched, alone = tables.searched[member, states], tables.policy[member, states]
        elsewhere = (searched == alone).all(1)
        assert elsewhere.mean() < 1
        assert np.array_equal(searched[~elsewhere], own[member][~elsewhere])


@pytest.mark.parametrize("rules", [KInARow(3, 3, 3, False), KInARow(3, 4, 3, True)], ids=lambda rules: rules.name)
def test_images_of_positions_are_the_same_game(rules):
    """Playing the image of a move in the image of a position leads to the image of the successor."""
    cells = enumerate_positions(rules, 10_000).cells
    numbered, planes = Symmetries(rules, cells), Symmetries(rules, None)
    rng = np.random.default_rng(0)
    state = rng.choice(len(cells), 200)
    which = torch.as_tensor(rng.integers(numbered.count, size=200))
    image = numbered.obs(which, torch.as_tensor(state)).numpy()
    legal = rules.legal(cells[state])
    assert np.array_equal(numbered.policy(which, torch.as_tensor(legal)).numpy(), rules.legal(cells[image]))
    both = torch.as_tensor(np.concatenate((cells[state] > 0, cells[state] < 0), -1)).float()
    assert torch.equal(planes.obs(which, both)[:, : cells.shape[1]], torch.as_tensor(cells[image] > 0).float())
    preference = torch.as_tensor(np.where(legal, rng.random(legal.shape), -1.0))
    move, moved = preference.argmax(-1), numbered.policy(which, preference).argmax(-1)
    after, reward, ended = rules.play(cells[state], move.numpy())
    image_after, image_reward, image_ended = rules.play(cells[image], moved.numpy())
    assert np.array_equal(reward, image_reward)
    assert np.array_equal(ended, image_ended)
    on = ~ended
    number = {row.tobytes(): k for k, row in enumerate(cells)}
    successor = torch.as_tensor([number[row.tobytes()] for row in after[on]])
    expected = numbered.obs(which[torch.as_tensor(on)], successor).numpy()
    assert np.array_equal(cells[expected], image_after[on])


@pytest.mark.parametrize(
    "options",
    [
        ("env=connect", "env.rows=6", "env.columns=7", "env.max_states=100", "network=mlp", "algo.rollout=42"),
        (
            "env=connect",
            "env.rows=3",
            "env.k=3",
            "network=module",
            "network.target=rlnet.nets.ResidualNet",
            "network.kwargs.channels=4",
            "network.kwargs.blocks=1",
            "network.shape=[2,3,4]",
            "network.input=features",
            "optimizer=adam",
        ),
        ("env=random_walk", "gamma=0.9", "algo.rollout=30"),
        ("env=windy", "gamma=0.9", "algo.rollout=30", "algo.options.search=gumbel"),
    ],
    ids=["beyond enumeration", "residual network", "random walk", "windy"],
)
def test_it_trains_wherever_there_is_a_deterministic_model(options):
    run = make_run(*SMALL, "seeds=2", *options)
    before = run.learner.theta.clone()
    update(run, 2)
    assert ((run.learner.theta - before).abs().sum(1) > 0).all()
    assert run.learner.theta.isfinite().all()


def test_one_player_learns_to_plan():
    """On a chain at a discount: nothing is lost by the search."""
    options = ("env=random_walk", "gamma=0.9", "algo.rollout=30", "algo.hyper.value_scale=0.5", "optimizer=sgd")
    run = make_run(*SMALL, "seeds=2", *options, "algo.updates=20", "optimizer.learning_rate=0.3")
    update(run, 15)
    scalars = run.compare()[1].scalars
    assert scalars["exact/regret_search"].tolist() == pytest.approx([0.0, 0.0], abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("env=cartpole", "network=mlp"),
            "env=cartpole: algo=alphazero searches in a deterministic finite model or the",
        ),
        (
            ("env=frozen_lake",),
            r"env=frozen_lake: algo=alphazero searches .*; here state 0, action 0 has [23] outcomes",
        ),
        (
            ("env=random_walk", "algo.options.symmetries=true"),
            "algo.options.symmetries=True: env=random_walk is no board",
        ),
        (("algo.target_every=3",), "algo.target_every=3: algo=alphazero has no target network; use null"),
        (("algo.options.simulations=0",), "algo.options.simulations=0: allowed are integers from 1"),
        (("algo.options.search=mcts",), "algo.options.search=mcts: allowed are puct, gumbel"),
        (("algo.hyper.noise=1.5",), r"algo.hyper.noise=1.5: must be in \[0, 1\]"),
        (
            ("exploration=softmax", "schedule=constant"),
            "exploration=softmax: must be none: algo=alphazero acts by its own",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options, message):
    with pytest.raises(ConfigError, match=message):
        build(composed(*SMALL, *options))
