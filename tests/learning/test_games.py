"""Self-play: what is collected and counted in games of two players, with and without a model, and what is learned."""

import copy

import numpy as np
import pytest
import torch
from support import make_run, quick, trained, update

from rlnet.config import ConfigError
from rlnet.data.rollout import Rollout
from rlnet.envs import TabularSimulation, make, preset
from rlnet.mdp import FiniteMDP, game_value, nash_conv, solve

NIM = f"env.rules={__name__}:takes_from_three_heaps"
PLANES = "env.max_states=10"  # too few to enumerate: the same game without a model
SMALL = ("env=connect", "env.rows=3", "env.columns=3", "env.k=3")


def takes_from_three_heaps(state=(1, 2, 3)):
    """Nim: who takes the last stone wins; whoever empties a heap, but not the last, moves again."""
    moves = {}
    for heap, count in enumerate(state):
        for taken in range(1, count + 1):
            after = tuple(n - taken * (k == heap) for k, n in enumerate(state))
            last = not any(after)
            moves[heap, taken] = (None if last else after, float(last), last, after[heap] == 0)
    return moves


@pytest.mark.parametrize("env", [("env=tic_tac_toe",), ("env=connect", "env.rows=3", "env.k=3")], ids=str)
@pytest.mark.parametrize("limit", [None, 4])
def test_a_game_without_a_model_is_stepped_as_its_model_is(env, limit):
    made = [make_run(*env, "algo=ppo", "seeds=2", *more).problem.environment for more in ((), (PLANES,))]
    if limit is not None:
        made = [make_run(*env, f"env.max_episode_steps={limit}", "algo=ppo", *more).problem.environment
                for more in ((), (PLANES,))]  # fmt: skip
    features, rng = made[0].features, np.random.default_rng(0)
    model, board = (one.simulate([3, 4], 5) for one in made)
    state, planes = model.reset(), board.reset()
    ends = 0
    for _ in range(60):
        np.testing.assert_array_equal(features[state], planes)
        np.testing.assert_array_equal(model.mask, board.mask)
        chance = rng.random(board.mask.shape) * board.mask
        a, b = model.step(chance.argmax(-1)), board.step(chance.argmax(-1))
        for name in ("reward", "terminated", "truncated", "valid", "mask"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
        on = ~a.terminated
        np.testing.assert_array_equal(features[a.next_obs][on], b.next_obs[on])
        np.testing.assert_array_equal(a.next_mask[on], b.next_mask[on])
        np.testing.assert_array_equal(a.sign[on], b.sign[on])
        assert (b.sign == -1).all()
        assert b.next_mask[b.terminated].all()
        state, planes = a.obs, b.obs
        ends += (a.terminated | a.truncated).sum()
    assert ends > 50
    assert limit is None or a.truncated.any() or b.truncated.any() or ends > 100


def test_states_of_a_board_go_on_where_they_were():
    environment = make(preset("connect", rows=6, columns=7, max_states=1000))
    simulation, rng = environment.simulate([0, 1], 3), np.random.default_rng(1)
    simulation.reset()
    for _ in range(23):
        simulation.step((rng.random(simulation.mask.shape) * simulation.mask).argmax(-1))
    other = environment.simulate([0, 1], 3)
    other.load_state_dict(copy.deepcopy(simulation.state_dict()))
    for _ in range(30):
        action = (rng.random(simulation.mask.shape) * simulation.mask).argmax(-1)
        for one, two in zip(simulation.step(action), other.step(action), strict=True):
            np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match=r"member 1, environment 2: action 7 is not legal, legal are \["):
        simulation.step(np.array([[3, 3, 3], [3, 3, 7]]))


@pytest.mark.parametrize(
    "env", [("env=tic_tac_toe",), ("env=tic_tac_toe", PLANES), ("env=game", NIM)], ids=("model", "rules", "nim")
)
def test_returns_are_those_of_the_first_player(env):
    """Counted one by one; start_discount is γ^t whoever moves."""
    run = make_run(*env, "algo=q_learning", "gamma=0.9", "algo.envs=3", "algo.rollout=4", "seeds=2", *network(env))
    run.collector.episodes()
    running, ended = np.zeros((2, 3, 3)), [[], []]  # [return, discounted, length] so far; those of ended episodes
    side = np.ones((2, 3))
    for number in range(50):
        rollout = run.collect()
        for t, m, n in np.ndindex(*rollout.reward.shape):
            power = 0.9 ** running[m, n, 2]
            assert rollout.start_discount[t, m, n].item() == pytest.approx(power, rel=1e-4)
            gain = side[m, n] * rollout.reward[t, m, n].item()
            running[m, n] += gain, power * gain, 1
            side[m, n] *= rollout.sign[t, m, n].item()
            if rollout.terminated[t, m, n]:
                ended[m].append(running[m, n].copy())
                running[m, n], side[m, n] = 0, 1
        if number == 25:
            saved = copy.deepcopy(run.collector.state_dict())
            run.collector._episodes.side[:] = 7.0
            run.collector.load_state_dict(saved)
    stats = run.collector.episodes()
    for m in range(2):
        mean, discounted, length = np.mean(ended[m], axis=0)
        assert stats["return/mean"][m].item() == pytest.approx(mean)
        assert stats["return/discounted"][m].item() == pytest.approx(discounted, abs=1e-6)
        assert stats["episode/length"][m].item() == pytest.approx(length)
    assert (np.array(ended[0])[:, 0] < 0).any()  # the second player won some


def network(env):
    """What each game, with or without a model, is learned by."""
    return ("network=mlp", "network.hidden=[8]") if PLANES in env else ("network=tabular",)


@pytest.mark.parametrize("algo", quick(["sarsa_lambda", "dqn", "q_learning", "ppo"], 1))
@pytest.mark.parametrize("more", [(), (PLANES,)], ids=("model", "rules"))
def test_self_play_goes_on_with_the_same_bits(algo, more, tmp_path):
    base = ["env=tic_tac_toe", f"algo={algo}", "steps=4000", "seeds=2", "algo.envs=3", "algo.rollout=7", *more]
    base += ["algo.capacity=500", "algo.learning_starts=50", "algo.batch=16"] if algo == "dqn" else []
    base += [*network(more), *(["optimizer=sgd"] if algo == "sarsa_lambda" else [])]
    whole, half, resumed = (make_run(*base) for _ in range(3))
    update(half, 9)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    update(resumed, 9)
    update(whole, 18)
    assert torch.equal(resumed.learner.theta, whole.learner.theta)
    ours, theirs = resumed.collector.episodes(), whole.collector.episodes()
    assert all(torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num()) for name in ours)


def test_games_in_tensors_are_those_in_arrays():
    mdp = make(preset("game", rules=f"{__name__}:takes_from_three_heaps")).mdp
    arrays, tensors = TabularSimulation(mdp, [1, 2], 3), TabularSimulation(mdp, [1, 2], 3, device="cpu")
    board = make(preset("tic_tac_toe", max_states=10))
    pairs = [(arrays, tensors), (board.simulate([1, 2], 3), board.simulate([1, 2], 3, "cpu"))]
    rng = np.random.default_rng(0)
    for one, two in pairs:
        np.testing.assert_array_equal(one.reset(), two.reset().numpy())
        for _ in range(40):
            action = (rng.random(one.mask.shape) * one.mask).argmax(-1)
            for a, b in zip(one.step(action), two.step(torch.from_numpy(action)), strict=True):
                if b is None:  # no event is watched
                    assert a is None
                    continue
                np.testing.assert_array_equal(a, b.numpy())
                assert np.asarray(a).dtype == b.numpy().dtype


@pytest.mark.parametrize("algo", quick(["q_learning", "ppo", "dqn", "reinforce"], ["ppo"]))
@pytest.mark.parametrize("more", [(), (PLANES,)], ids=("model", "rules"))
def test_a_member_of_a_population_plays_what_it_plays_alone(algo, more):
    options = ["env=tic_tac_toe", f"algo={algo}", "algo.envs=2", "algo.rollout=10", "steps=4000", "network.hidden=[8]"]
    options += ["algo.capacity=500", "algo.learning_starts=50", "algo.batch=16"] if algo == "dqn" else []
    many, single = make_run(*options, *more, "seeds=6", "seed=3"), make_run(*options, *more, "seed=7")
    for _ in range(15):
        a, b = update(many), update(single)
        for name in ("obs", "action", "reward", "next_obs", "terminated", "sign", "mask", "next_mask"):
            ours, theirs = a.tensor(name), b.tensor(name)
            assert torch.equal(ours[: len(theirs), 4], theirs[:, 0]), name
    torch.testing.assert_close(many.learner.theta[4], single.learner.theta[0], atol=1e-5, rtol=1e-4)


REPLAY = ("algo.capacity=20000", "algo.envs=16")
OWN = {"q_learning": (), "dqn": REPLAY, "qr_dqn": (*REPLAY, "algo.options.quantiles=5")}


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["q_learning", "double_q_learning", "watkins_q_lambda", "dqn", "qr_dqn"])
def test_values_of_self_play_become_those_of_the_game(algo):
    """Connect-3 on 3×3, 505 positions: NashConv of the greedy policy 0; at worst it is 2."""
    steps = 60_000 if algo == "q_learning" else 200_000
    run = trained(*SMALL, f"algo={algo}", "network=tabular", f"steps={steps}", *OWN.get(algo, ("algo.envs=16",)))
    params, game = run.learner.params, run.problem.mdp
    q = sum(params[role]["table"][0].view(game.n_states, 3, -1).mean(-1) for role in params).numpy()
    assert nash_conv(game, np.where(game.available, q, -np.inf).argmax(1)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("signed", [True, False])
def test_tic_tac_toe_is_solved_by_self_play_and_without_the_sign_is_lost(signed, monkeypatch):
    """8 of 8 seeds to NashConv 0; where the other player's values count as one's own, every seed to 2, the worst."""
    if not signed:
        monkeypatch.setattr(Rollout, "sign", property(lambda _: None))
    run = trained("tuned=tic_tac_toe_q_learning", "seeds=8")
    game = run.problem.mdp
    greedy = np.where(game.available, run.learner.params["q"]["table"].numpy(), -np.inf).argmax(2)
    assert [nash_conv(game, policy) for policy in greedy] == pytest.approx([0.0 if signed else 2.0] * 8, abs=1e-9)


def test_a_users_own_game_is_explored_from_one_function():
    """Nim in which who empties a heap moves again, against a recursion by hand."""
    game = make(preset("game", rules=f"{__name__}:takes_from_three_heaps")).mdp

    def best(state):
        found = [
            r if over else r + (1 if again else -1) * best(after)
            for after, r, over, again in takes_from_three_heaps(state).values()
        ]
        return max(found)

    assert game.n_states == 2 * 3 * 4 - 1
    assert set(game.sign.tolist()) == {-1, 1}
    values = dict(zip(game.labels, solve(game, 1.0).v, strict=True))
    for state, value in values.items():
        assert value == best(tuple(map(int, state.strip("()").split(","))))
    assert game_value(game) == best((1, 2, 3))
    assert game.action_labels[0] == "(0, 1)"


def no_default(state):
    return {}


def raises(state=0):
    raise KeyError("x")


def stuck(state=0):
    return {0: (1, 0.0, False)} if state == 0 else {}


def endless(state=0):
    return {0: (state + 1, 0.0, False)}


def two(state=0):
    return {0: (1, 0.0)}


def pays(state=0):
    return {0: (None, float("nan"), True)}


def nowhere(state=0):
    return {0: (None, 0.0, False)}


def words(state=0):
    return {0: (None, "x", True)}


def flagged(state=0):
    return {0: (None, 1.0, 1)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "cannot be imported"),
        ("PLANES", "must be a function of a state"),
        ("no_default", r"whose default is the first one, as in def moves\(state=START\)"),
        ("raises", "in state 0 it raised KeyError: 'x'"),
        ("stuck", "state 1 has no move; say that the move that leads there ends the game"),
        ("endless", "env.max_states=50: .* has more states than that"),
        ("two", r"in state 0 the move 0 leads to \(1, 0.0\), not \(next state or None, reward, ended\)"),
        ("pays", "the move 0 pays nan: must be a finite number"),
        ("nowhere", "leads to no state, but does not end the game"),
        ("words", "could not convert string to float"),
        ("flagged", "1 must be True or False"),
    ],
)
def test_rules_that_cannot_be_used_are_named(name, message):
    with pytest.raises(ConfigError, match=message):
        make(preset("game", rules=f"{__name__}:{name}", max_states=50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("env=connect", "env.k=5"), r"env.k=5: must be in \[2, 4\]"),
        (("env=connect", "env.rows=0"), "env.rows=0: must be at least 1"),
        (("env=connect", "env.rows=300"), "env.rows=300: must be at most 1000 cells with env.columns=4"),
        (("env=tic_tac_toe", "algo=soft_q"), "env=tic_tac_toe is a game of two players"),
        (("env=tic_tac_toe", PLANES, "algo=sac_discrete"), "env=tic_tac_toe is a game of two players"),
        (("env=tic_tac_toe", PLANES, "network=tabular"), "has no countable states"),
    ],
)
def test_settings_of_games_that_cannot_be_used_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_run(*options)


def test_a_model_that_nobody_hands_over_in_is_no_game():
    mdp = make(preset("tic_tac_toe")).mdp
    fields = {name: getattr(mdp, name) for name in FiniteMDP.__dataclass_fields__} | {"sign": np.ones(mdp.n_outcomes)}
    assert FiniteMDP(**fields).sign is None
