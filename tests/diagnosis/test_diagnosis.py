"""The diagnosis against closed forms, enumeration and identities that hold exactly."""

import json

import numpy as np
import pytest
import torch
from commands.test_command_line import FAST, script
from passages import explored
from support import composed, enumerated, make_run, quick, random_mdp, trained

from rlnet.config import ConfigError
from rlnet.diagnosis import diagnose_and_write
from rlnet.diagnosis.blame import coverage, discounted_visits, error_by_visits, regret_by_state
from rlnet.diagnosis.gradient import compare_gradients, exact_gradient, gradient_scores
from rlnet.diagnosis.split import split
from rlnet.diagnosis.targets import NotDefined, optimal_operator, policy_operator, units_of
from rlnet.experiment.comparison_files import arrays
from rlnet.experiment.problem import assemble
from rlnet.learning.training_state import TrainingState
from rlnet.mdp import evaluate, solve


def diagnosed(run):
    tables, comparison = run.compare()
    values = arrays(run.config, run.problem, tables, comparison, run.visits.numpy())
    return split(run, values, range(len(run.steps))), comparison


def on_passage(*overrides, **kwargs):
    config = composed("env=gymnasium", "env.id=rlnet-test/Passage-v0", "network=linear", "gamma=0.9", *overrides)
    return TrainingState(config, assemble(config, explored(**kwargs)))


@pytest.mark.parametrize("algo", ["td0", "a2c"])
def test_pictures_of_all_states_are_as_good_as_their_numbers(algo):
    one, _ = diagnosed(on_passage(f"algo={algo}", late=0.0, runs=True))
    assert sum(one.shares().values())[0] == pytest.approx(1)
    sizes = one.sizes()
    for part in ("approximation", "distribution", "bootstrapping"):
        assert sizes[part][0] < 1e-6
    assert sizes["sampling"][0] == pytest.approx(sizes["error"][0])
    assert sizes["error"][0] > 0.1  # V is still 0


def test_what_pictures_do_not_show_is_an_error_of_approximation():
    run = on_passage("algo=td0", "algo.policy=[0,1,2]")
    one, _ = diagnosed(run)
    mdp, rows = run.problem.mdp, run.problem.environment.states
    exact, alike = run.problem.exact[0], rows.of_state
    v = evaluate(mdp, run.problem.context.given_policy[0].numpy() * mdp.available, 0.9).v
    assert exact is not None
    expected = 0.0  # by hand: of states that look alike one value, the mean under the weights
    place = one.units.state
    for r in np.unique(alike[place]):
        same = alike[place] == r
        w, x = one.weights[0][same], v[place[same]]
        if w.sum() > 0:
            expected += w @ (x - w @ x / w.sum()) ** 2
    assert expected > 1e-4
    assert one.sizes()["approximation"][0] == pytest.approx(np.sqrt(expected), rel=1e-4)


def test_visits_of_states_that_look_alike_are_not_told_apart():
    one, _ = diagnosed(on_passage("algo=dqn"))
    assert one.reason == "some states look alike, and the visits of the run cannot be told apart there"


@pytest.mark.parametrize("network", ["linear", "mlp"])
def test_the_exact_gradient_where_states_are_pictures(network):
    run = on_passage("algo=reinforce", f"network={network}")
    (policy,) = run.tables().policy
    (gradient,) = exact_gradient(run, policy[None], [0])
    theta, h = run.learner.theta, 1e-3
    names = run.learner.layout.unpack(torch.arange(theta.shape[1])[None])["pi"]
    places = torch.cat([x.flatten() for x in names.values()])
    for k in (0, len(places) // 2, len(places) - 1):
        values = []
        for sign in (1, -1):
            theta[0, places[k]] += sign * h
            values.append(run.problem.mdp.start @ evaluate(run.problem.mdp, run.tables().policy[0], 0.9).v)
            theta[0, places[k]] -= sign * h
        assert gradient[k] == pytest.approx((values[0] - values[1]) / (2 * h), abs=2e-4)


THOUSAND = ("env=random_walk", "env.length=1000", "env.jump=100", "env.groups=10", "gamma=1", "network=linear")


@pytest.mark.parametrize("algo", quick(["td0", "mc"], 1))
def test_the_fixed_points_of_the_thousand_state_walk(algo):
    """S&B Example 9.1: Monte Carlo's fixed point is the projection, .05438; that of TD(0) is .11674 away."""
    one, _ = diagnosed(make_run(*THOUSAND, f"algo={algo}"))
    sizes, parts = one.sizes(), one.parts
    assert sizes["approximation"][0] == pytest.approx(0.05438, abs=5e-6)
    assert sizes["distribution"][0] < 1e-6
    fixed = parts["approximation"] + parts["distribution"] + parts["bootstrapping"]
    assert np.sqrt(one.weights @ fixed[0] ** 2)[0] == pytest.approx({"td0": 0.11674, "mc": 0.05438}[algo], abs=5e-6)
    if algo == "mc":
        assert sizes["bootstrapping"][0] == 0
    assert sum(one.shares().values())[0] == pytest.approx(1)


@pytest.mark.parametrize(
    "options",
    [
        ("algo=td0", "env=sutton4x4", "network=tabular"),
        ("algo=q_learning", "env=cliff", "network=tabular", "steps=20000"),
        ("algo=sarsa", "env=random_walk", "gamma=0.9", "network=tabular"),
        ("algo=a2c", "env=four_rooms", "network=tabular"),
        ("algo=lambda_return", "env=random_walk", "network=tabular"),
        ("algo=n_step_td", "env=random_walk", "network=tabular"),
        ("algo=soft_q", "env=random_walk", "gamma=0.9", "network=tabular"),
        ("algo=sarsa_lambda", "env=random_walk", "network=tabular"),
    ],
)
def test_a_table_has_no_error_of_approximation_or_bootstrapping(options):
    run = trained(*options, "steps=1000", "seeds=2")
    one, comparison = diagnosed(run)
    sizes = one.sizes()
    for name in ("approximation", "distribution", "bootstrapping"):
        assert (sizes[name] < 1e-6 * sizes["error"]).all(), name
    score = comparison.scalars[f"exact/{one.units.kind.lower()}_rmse"]
    np.testing.assert_allclose(sizes["error"], score, rtol=1e-9)
    np.testing.assert_allclose(sizes["sampling"], score, rtol=1e-5)


WALK = ("env=random_walk", "env.length=9", "env.groups=3", "gamma=0.9", "optimizer=sgd")


def expected_updates(run, weights: np.ndarray, policy: np.ndarray, times: int) -> None:
    """The algorithm's own loss on all transitions of the model, with their probabilities."""
    batch = enumerated(run.problem.environment.mdp, policy, weights)
    for _ in range(times):
        run.learner.step(batch, run.hyper(), torch.full((1, 1), 1.5))


@pytest.mark.parametrize(("algo", "network"), [("td0", "linear"), ("q_learning", "linear")])
def test_fixed_points_are_where_the_algorithms_own_expected_updates_end(algo, network):
    run = make_run(*WALK, f"algo={algo}", f"network={network}")
    mdp = run.problem.environment.mdp
    run.visits += torch.arange(1, 19).view(1, 9, 2)  # for Q-learning, the data
    one, _ = diagnosed(run)
    counts = run.visits[0].numpy() / run.visits.sum().item()
    if algo == "td0":
        uniform = np.full((9, 2), 0.5)
        expected_updates(run, discounted_visits(mdp, uniform, 1.0) / 25, uniform, 1_500)
        learned = run.tables().v
    else:
        share = counts.sum(1)
        expected_updates(run, share, counts / share[:, None], 1_500)
        learned = run.tables().q
    exact = one.units.pick(solve(mdp, 0.9).q if algo == "q_learning" else evaluate(mdp, uniform, 0.9).v)
    fixed = exact + one.parts["approximation"] + one.parts["distribution"] + one.parts["bootstrapping"]
    np.testing.assert_allclose(one.units.pick(learned), fixed, atol=1e-4)


@pytest.mark.slow
def test_a_network_without_hidden_layer_is_split_like_the_linear_class_that_it_is():
    """Training to convergence and expected updates of the network against projection and A·θ = b."""
    closed, _ = diagnosed(make_run(*WALK, "algo=td0", "network=linear"))
    network = ("network=mlp", "network.input=features", "network.hidden=[]")
    trained_to_the_end, _ = diagnosed(make_run(*WALK, "algo=td0", *network, "seeds=2"))
    for name in ("approximation", "bootstrapping"):
        wanted = np.broadcast_to(closed.parts[name], (2, 9))
        np.testing.assert_allclose(trained_to_the_end.parts[name], wanted, atol=4e-3)
    assert closed.sizes()["bootstrapping"][0] > 0.02


@pytest.mark.slow
def test_a_control_run_of_a_wide_network_has_only_sampling_to_blame():
    run = trained("env=gridworld", "algo=q_learning", "steps=20000")
    one, comparison = diagnosed(run)
    sizes = one.sizes()
    assert sizes["error"] == pytest.approx(comparison.scalars["exact/q_rmse"])
    assert sizes["approximation"] < 0.01 * sizes["error"]
    assert sizes["bootstrapping"] < 0.05 * sizes["error"]
    np.testing.assert_allclose(sum(one.parts.values()), one.error, atol=1e-9)


def brute_force(mdp, policy, gamma, lambda_, v, steps: int) -> np.ndarray:
    """The expected λ-return of so many steps from every state, by plain loops over the outcomes."""
    out = np.zeros(mdp.n_states)
    ahead = v if steps == 1 else brute_force(mdp, policy, gamma, lambda_, v, steps - 1)
    for k in range(mdp.n_outcomes):
        pair = int(np.searchsorted(mdp.outcome_ptr, k, side="right")) - 1
        s, a, successor = mdp.pair_state[pair], mdp.pair_action[pair], mdp.next_state[k]
        mixed = v[successor] if steps == 1 else (1 - lambda_) * v[successor] + lambda_ * ahead[successor]
        out[s] += policy[s, a] * mdp.probability[k] * (mdp.reward[k] + gamma * mixed * (not mdp.terminated[k]))
    return out


def test_members_with_different_numbers_are_each_split_by_their_own():
    options = ("env=random_walk", "env.length=9", "env.groups=3", "network=linear")
    both, _ = diagnosed(make_run(*options, "algo=lambda_return", "vary.gamma=[0.5,0.9]", "vary.lambda_=[0.2,0.8]"))
    for m, (gamma, lambda_) in enumerate([(0.5, 0.2), (0.5, 0.8), (0.9, 0.2), (0.9, 0.8)]):
        own = (f"gamma={gamma}", "algo=lambda_return", f"algo.hyper.lambda_={lambda_}")
        one, _ = diagnosed(make_run(*options, *own))
        assert one.sizes()["bootstrapping"][0] > 1e-4
        for name, part in one.parts.items():
            np.testing.assert_allclose(both.parts[name][m], part[0], atol=1e-6)


def test_the_operators_are_expected_targets():
    mdp = random_mdp(3)
    policy = mdp.available / mdp.available.sum(1, keepdims=True).clip(1)
    units = units_of(mdp, "V")
    v = np.where(mdp.terminal, 0.0, np.random.default_rng(0).normal(size=mdp.n_states))
    x = units.pick(v)
    wanted = [units.pick(brute_force(mdp, policy, 0.9, 0.7, v, h)) for h in (1, 2, 3)]
    for steps, target in ((range(1, 2), wanted[0]), (range(3, 4), wanted[2]), (range(1, 4), np.mean(wanted, axis=0))):
        apply = policy_operator(mdp, units, policy, 0.9, 0.7, steps)
        np.testing.assert_allclose(apply(x), target)
        np.testing.assert_allclose(apply(np.stack([x, 2 * x], 1))[:, 0], target)
    endless = policy_operator(mdp, units, policy, 0.9, 0.7, None)(x)
    np.testing.assert_allclose(endless, policy_operator(mdp, units, policy, 0.9, 0.7, range(200, 201))(x))
    pairs = units_of(mdp, "Q")
    for apply, exact in (
        (policy_operator(mdp, pairs, policy, 0.9, 0.5, range(1, 5)), evaluate(mdp, policy, 0.9).q),
        (optimal_operator(mdp, pairs, 0.9), solve(mdp, 0.9).q),
    ):
        np.testing.assert_allclose(apply(pairs.pick(exact)), pairs.pick(exact), atol=1e-7)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("algo=dqn", "algo.n_step=3", "network=tabular", "seeds=2"), "algo.n_step=3 without correction"),
        (("algo=dqn", "algo.hyper.huber=1", "network=tabular"), "weighs large errors less"),
        (("algo=td_lambda", "algo.options.traces=replacing", "network=tabular"), "makes the trace depend"),
        (
            ("algo=qr_dqn", "network=tabular", "algo.hyper.huber=inf"),
            "no expected target is implemented for algo=qr_dqn",
        ),
        (("algo=mc", "algo.rollout=5", "network=tabular"), "% of the episodes are cut after 5 steps"),
        (("algo=q_learning", "network=tabular"), "nothing was visited"),
    ],
)
def test_what_is_not_defined_says_why_and_the_rest_stands(options, why):
    run = make_run("env=random_walk", *options)
    run.visits += "visited" not in why
    one, _ = diagnosed(run)
    assert why in one.reason
    assert set(one.parts) == {"approximation", "everything else"}
    np.testing.assert_allclose(sum(one.parts.values()), one.error)


# ---------------------------------------------------------------------------------------------- regret and visits


def some_policy(mdp, seed: int) -> np.ndarray:
    policy = np.random.default_rng(seed).random((mdp.n_states, mdp.n_actions)) * mdp.available
    return policy / policy.sum(1, keepdims=True).clip(1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_regret_of_the_states_adds_up_exactly(gamma, seed):
    mdp = random_mdp(seed)
    best, policy = solve(mdp, gamma), some_policy(mdp, seed)
    loss = regret_by_state(mdp, policy, best)
    assert loss.sum() == pytest.approx(mdp.start @ (best.v - evaluate(mdp, policy, gamma).v), abs=1e-7)
    assert (loss >= -1e-7).all()


def test_only_the_state_with_the_wrong_action_carries_the_regret():
    mdp = random_mdp(1, masked=False)
    best = solve(mdp, 0.9)
    policy = np.eye(mdp.n_actions)[best.q.argmax(1)] * mdp.available
    policy[2] = np.eye(mdp.n_actions)[best.q[2].argmin()]
    loss = regret_by_state(mdp, policy, best)
    assert loss[2] > 0.1
    assert np.abs(np.delete(loss, 2)).max() < 1e-7


def test_discounted_visits_solve_their_equation():
    mdp = random_mdp(4)
    policy = some_policy(mdp, 4)
    dense = np.zeros((mdp.n_states, mdp.n_states))
    for pair in range(mdp.n_pairs):
        s, a = mdp.pair_state[pair], mdp.pair_action[pair]
        dense[s] += policy[s, a] * mdp.transition[[pair]].toarray()[0]
    wanted = np.linalg.solve((np.eye(mdp.n_states) - 0.9 * dense).T, mdp.start)
    np.testing.assert_allclose(discounted_visits(mdp, policy, 0.9), wanted, rtol=1e-9)


def test_coverage_and_error_by_visits_count():
    mdp = random_mdp(0, states=3, actions=2, ends=False, masked=False)
    visits = np.array([[5, 0], [120, 7], [0, 0]])
    numbers = coverage(mdp, visits, np.eye(2)[[0, 1, 0]])
    assert numbers == {
        "pairs": 6, "tried": 3, "tried_by_policy": pytest.approx(2 / 3), "median_visits": 2.5, "least_visits": 0,
    }  # fmt: skip
    table = error_by_visits(units_of(mdp, "Q"), np.array([1.0, -3.0, 0.1, 2.0, 3.0, 4.0]), visits)
    rows = [(row["least"], row["most"], row["units"], row["mean"], row["max"]) for row in table["rows"]]
    assert rows == [(0, 0, 3, pytest.approx(10 / 3), 4.0), (1, 9, 2, 1.5, 2.0), (100, 999, 1, 0.1, 0.1)]
    assert table["rank_correlation"] < -0.8


# ---------------------------------------------------------------------------------------------- policy gradients


def test_the_exact_gradient_is_the_derivative_of_the_return():
    """∇J against central differences of J(π), computed by dynamic programming."""
    run = make_run("env=random_walk", "env.length=4", "gamma=0.8", "algo=reinforce", "network=tabular")
    run.learner.theta.copy_(torch.randn(run.learner.theta.shape, generator=torch.Generator().manual_seed(0)))
    mdp = run.problem.environment.mdp
    gradient = exact_gradient(run, run.tables().policy, [0])[0].numpy()
    assert gradient.shape == (8,)
    for k in range(8):
        values = []
        for step in (1e-3, -1e-3):
            run.learner.theta[0, k] += step
            values.append(float(mdp.start @ evaluate(mdp, run.tables().policy[0], 0.8).v))
            run.learner.theta[0, k] -= step
        assert gradient[k] == pytest.approx((values[0] - values[1]) / 2e-3, abs=2e-4)


@pytest.mark.slow
def test_a_gradient_with_state_discount_has_no_bias_and_without_it_has():
    """REINFORCE with γ^t estimates ∇J (S&B's box); the usual practice without it does not (Nota & Thomas 2020)."""
    options = ("env=random_walk", "env.length=5", "env.left_reward=0.3", "gamma=0.7", "algo=reinforce", "seeds=4")
    scores = {}
    for discount in (1, 0):
        own = (f"algo.hyper.state_discount={discount}", "algo.envs=512", "algo.rollout=40")
        run = make_run(*options, *own, "network=tabular")
        run.learner.theta[:, :10] = torch.linspace(-1, 1, 10)
        scores[discount] = compare_gradients(run, run.tables().policy, range(4), batches=20)
    # Of ‖ḡ − c·∇J‖² its expectation is the noise², with 9 directions left: 2 is far out for any of four members.
    assert (scores[1]["bias"] < 2 * scores[1]["bias_noise"]).all()
    assert (scores[1]["cosine_of_mean"] > 0.999).all()
    assert scores[1]["scale"] == pytest.approx(np.ones(4), abs=0.08)
    assert (scores[0]["bias"] > 10 * scores[0]["bias_noise"]).all()
    assert (scores[0]["cosine_of_mean"] < 0.97).all()


def test_gradient_scores_of_known_samples():
    exact = torch.tensor([[2.0, 0.0]]).double()
    samples = torch.tensor([[[1.0, 1.0]], [[1.0, -1.0]]]).double()
    scores = gradient_scores(samples, exact)
    wanted = {"cosine": 0.5**0.5, "cosine_of_mean": 1.0, "bias": 0.0, "bias_noise": 1.0, "variance": 2.0, "scale": 0.5}
    assert {name: values[0] for name, values in scores.items()} == pytest.approx(wanted)


def test_methods_of_action_values_have_no_policy_gradient():
    run = make_run("env=random_walk", "algo=q_learning", "network=tabular")
    with pytest.raises(NotDefined, match="has no policy network"):
        compare_gradients(run, run.tables().policy, [0])


# ---------------------------------------------------------------------------------------------- the script


@pytest.mark.slow
def test_the_script_writes_the_diagnosis_and_a_failure_leaves_it_alone(tmp_path):
    made = script("train", *FAST, "gamma=0.9", "network=tabular", "hydra.run.dir=run", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    done = script("compare", "run", "--diagnose", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Where the error of Q comes from" in done.stdout
    assert "Where the regret of" in done.stdout
    path = tmp_path / "run" / "diagnosis.json"
    document = json.loads(path.read_text())
    scores = json.loads((tmp_path / "run" / "comparison.json").read_text())["members"][0]["scores"]
    assert document["value"]["rmse"]["error"] == pytest.approx([scores["exact/q_rmse"]])
    assert document["regret"]["total"] == pytest.approx(scores["exact/regret"])
    assert document["coverage"]["tried"] / document["coverage"]["pairs"] == pytest.approx(scores["exact/coverage"])
    assert "no policy network" in document["policy_gradient"]["not_defined"]
    before = path.read_bytes()
    (tmp_path / "run" / "checkpoint.pt").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"checkpoint.pt: cannot be read"):
        diagnose_and_write(tmp_path / "run")
    assert path.read_bytes() == before
