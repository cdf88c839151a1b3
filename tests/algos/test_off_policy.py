"""Off-policy prediction against closed forms: A, b and C by enumeration, fixed points by linear algebra, V^π by DP."""

import dataclasses

import numpy as np
import pytest
import torch
from algos.test_returns_off_policy import policies, trajectories
from support import composed, enumerated, finish, make_run, quick, random_mdp, run_on, update

from rlnet import algos
from rlnet.algos import AlgorithmContext
from rlnet.config import ConfigError, LinearConfig, OptimizerConfig
from rlnet.data.rollout import FIELDS, Rollout
from rlnet.experiment.problem import build
from rlnet.learning.learner import Learner
from rlnet.mdp import FiniteMDP, evaluate
from rlnet.nets import Inputs, make_network
from rlnet.policies.distributions import Categorical

GAMMA = 0.8


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.array(x), dtype=torch.float32)


def learner_on(name: str, features: np.ndarray, target: np.ndarray, behaviour: np.ndarray, **options) -> Learner:
    """V linear in the features, without a bias; one step of rate 1 changes theta by minus the gradient."""
    algorithm = algos.load(name).chosen(options)
    inputs = Inputs(env="test", n_states=len(features), features=tensor(features), size=None)
    network = make_network(LinearConfig("linear", bias=False), inputs, 1)
    context = AlgorithmContext(
        networks=dict.fromkeys(algorithm.roles, network),
        actions=Categorical(target.shape[1]),
        given_policy=tensor(target)[None],
        given_behaviour=tensor(behaviour)[None],
        options=options,
    )
    return Learner(algorithm, context, OptimizerConfig("sgd", 1.0), [0])


def hyper(gamma: float = GAMMA, **own: float) -> dict[str, torch.Tensor]:
    return {name: torch.full((1, 1), value) for name, value in {"gamma": gamma, "explore": 0.0, **own}.items()}


def step_of(learner: Learner, batch: Rollout, gamma: float = GAMMA, **own: float) -> np.ndarray:
    before = learner.theta.clone()
    learner.step(batch, hyper(gamma, **own), torch.ones(1, 1))
    return (learner.theta - before)[0].double().numpy()


def expectations(mdp: FiniteMDP, x: np.ndarray, pi: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, ...]:
    """A = E[x(x − γx')ᵀ], b = E[R·x], C = E[x·xᵀ], and (γ-weighted) outcomes, S&B eq. 9.11 and section 11.7.

    Under states d, which ρ corrects to actions of π.
    """
    a, b = np.zeros((x.shape[1], x.shape[1])), np.zeros(x.shape[1])
    for pair in range(mdp.n_pairs):
        s, chance = mdp.pair_state[pair], pi[mdp.pair_state[pair], mdp.pair_action[pair]]
        for k in range(mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1]):
            after = 0.0 if mdp.terminated[k] else GAMMA * x[mdp.next_state[k]]
            a += d[s] * chance * mdp.probability[k] * np.outer(x[s], x[s] - after)
            b += d[s] * chance * mdp.probability[k] * mdp.reward[k] * x[s]
    alive = ~mdp.terminal
    return a, b, (x[alive] * d[alive, None]).T @ x[alive]


def problem(seed: int) -> tuple[FiniteMDP, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    mdp = random_mdp(seed)
    target, behaviour = policies(mdp, seed)
    d = np.linspace(0.05, 0.3, mdp.n_states) * ~mdp.terminal
    return mdp, target, behaviour, d, np.random.default_rng(seed).normal(size=(mdp.n_states, 3))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["tdc", "gtd2"])
def test_gradient_td_descends_the_projected_bellman_error(name, seed):
    """With h at its fixed point C⁻¹(b − Aw), the step of w is −½∇(b − Aw)ᵀC⁻¹(b − Aw) = AᵀC⁻¹(b − Aw).

    And with any h, the step of h is rate·(b − Aw − Ch): S&B section 11.7, Sutton et al. 2009.
    """
    mdp, target, behaviour, d, x = problem(seed)
    a, b, c = expectations(mdp, x, target, d)
    learner = learner_on(name, x, target, behaviour)
    w, wrong = np.random.default_rng(seed + 9).normal(size=(2, 3))
    batch = enumerated(mdp, behaviour, d)
    h = np.linalg.solve(c, b - a @ w)
    learner.theta.copy_(tensor(np.concatenate((w, h))))
    step = step_of(learner, batch, rate=0.5)
    np.testing.assert_allclose(step[:3], a.T @ h, atol=2e-5)
    np.testing.assert_allclose(step[3:], 0.0, atol=2e-5)
    learner.theta.copy_(tensor(np.concatenate((w, wrong))))
    step = step_of(learner, batch, rate=0.5)
    np.testing.assert_allclose(step[3:], 0.5 * (b - a @ w - c @ wrong), atol=2e-5)
    expected = a.T @ wrong if name == "gtd2" else b - a @ w - (c - a.T) @ wrong
    np.testing.assert_allclose(step[:3], expected, atol=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_off_policy_td_follows_its_expectation(seed):
    """Δw = b − A·w (S&B eq. 9.11), where the behaviour takes other actions."""
    mdp, target, behaviour, d, x = problem(seed)
    a, b, _ = expectations(mdp, x, target, d)
    learner = learner_on("td0", x, target, behaviour)
    w = np.random.default_rng(seed).normal(size=3)
    learner.theta.copy_(tensor(w))
    np.testing.assert_allclose(step_of(learner, enumerated(mdp, behaviour, d)), b - a @ w, atol=2e-5)


@pytest.mark.parametrize("seed", quick(range(3), [0]))
def test_residual_gradient_converges_to_the_least_squared_td_error_which_is_not_v_pi(seed):
    """The minimum of E[ρδ²] by weighted least squares over all transitions; the table of V^π is another point."""
    mdp, target, behaviour, d, _ = problem(seed)
    x = np.eye(mdp.n_states)
    rows, rewards, weights = [], [], []
    for pair in range(mdp.n_pairs):
        s, chance = mdp.pair_state[pair], target[mdp.pair_state[pair], mdp.pair_action[pair]]
        for k in range(mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1]):
            rows.append(x[s] - (0.0 if mdp.terminated[k] else GAMMA * x[mdp.next_state[k]]))
            rewards.append(mdp.reward[k])
            weights.append(np.sqrt(d[s] * chance * mdp.probability[k]))
    root = np.array(weights)
    best = np.linalg.lstsq(np.array(rows) * root[:, None], np.array(rewards) * root, rcond=None)[0]
    learner = learner_on("residual_gradient", x, target, behaviour)
    batch = enumerated(mdp, behaviour, d)
    for _ in range(1500):
        step_of(learner, batch)
    alive = ~mdp.terminal
    np.testing.assert_allclose(learner.theta[0].numpy()[alive], best[alive], atol=2e-3)
    assert np.abs(best - evaluate(mdp, target, GAMMA).v)[alive].max() > 0.05


def acyclic(seed: int) -> FiniteMDP:
    """Three layers of two states, then the end: every episode is over after three steps."""
    rng = np.random.default_rng(seed)
    transition, terminal = np.zeros((7, 2, 7)), np.arange(7) == 6
    for layer in range(3):
        after = [2 * layer + 2, 2 * layer + 3] if layer < 2 else [6]
        for s in (2 * layer, 2 * layer + 1):
            for a in range(2):
                transition[s, a, after] = rng.dirichlet(np.ones(len(after)))
    return FiniteMDP.from_arrays(transition, rng.normal(size=(7, 2, 7)), terminal=terminal, start=np.eye(7)[0])


@pytest.mark.parametrize("kind", ["ordinary", "weighted", "per_decision"])
def test_the_expected_step_of_importance_sampling_leads_to_v_pi(kind):
    """Over all trajectories of an acyclic model it is Σ_t Pr(S_t = s)·(V^π(s) − V(s))."""
    mdp = acyclic(0)
    target, behaviour = policies(mdp, 3)
    learner = learner_on("off_policy_mc", np.eye(7), target, behaviour, sampling=kind)
    v = np.random.default_rng(1).normal(size=7) * ~mdp.terminal
    learner.theta.copy_(tensor(v))
    state, action, reward, after, terminated, chance = trajectories(mdp, behaviour, 0, None)
    flags = torch.zeros_like(terminated)
    weight = chance.float().expand_as(state)
    rows = state, action, reward.float(), after, terminated, flags, ~flags, torch.ones_like(weight), weight
    batch = Rollout(**dict(zip(FIELDS, rows, strict=True)))
    visits, now = np.zeros(7), np.eye(7)[0]
    p_b = np.zeros((7, 7))
    for pair in range(mdp.n_pairs):
        s = mdp.pair_state[pair]
        p_b[s] += behaviour[s, mdp.pair_action[pair]] * mdp.transition[[pair]].toarray()[0]
    for _ in range(3):
        visits, now = visits + now * ~mdp.terminal, now @ p_b
    np.testing.assert_allclose(step_of(learner, batch), visits * (evaluate(mdp, target, GAMMA).v - v), atol=1e-5)


OFF = ("algo.policy=[1,1,2]", "algo.behaviour=[3,2,1]", "network=tabular", "seeds=16", "gamma=0.5")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("algo=td0", "algo.envs=128", "steps=64000", "optimizer.learning_rate=3"),
        ("algo=tdc", "algo.envs=128", "steps=64000", "optimizer.learning_rate=3"),
        ("algo=off_policy_mc", "algo.envs=16", "algo.rollout=40", "steps=32000", "optimizer.learning_rate=0.2"),
    ],
)
def test_off_policy_prediction_reaches_v_pi_by_sampling(options):
    """A(s) differs; 16 members within 4.5 standard errors and 0.01."""
    mdp = random_mdp(12)
    run = finish(run_on(mdp, *OFF, *options))
    tables, comparison = run.compare()
    weights = mdp.available * np.array([1.0, 1.0, 2.0])
    exact = evaluate(mdp, weights / weights.sum(1, keepdims=True).clip(1), 0.5).v
    np.testing.assert_allclose(comparison.v_exact[0], exact, atol=1e-7)
    error = (tables.v - exact)[:, ~mdp.terminal]
    standard = error.std(0, ddof=1) / 4
    assert (np.abs(error.mean(0)) <= 4.5 * standard + 0.01).all()
    assert standard.max() < 0.035, "too much noise to say anything"
    on_policy = evaluate(mdp, run.problem.context.given_behaviour[0].double().numpy(), 0.5).v
    assert np.abs(exact - on_policy).max() > 0.05


BAIRD = (
    "env=baird", "network=linear", "network.bias=false", "network.weights=[1,1,1,1,1,1,10,1]", "optimizer=sgd",
    "algo.policy=[0,1]", "algo.behaviour=[6,1]", "algo.envs=1", "steps=100000000",
    "schedule@optimizer.schedule=constant", "optimizer.schedule.value=1",
)  # fmt: skip


@pytest.mark.slow
def test_semi_gradient_dynamic_programming_diverges_on_bairds_counterexample_to_the_known_weights():
    """S&B Fig. 11.2, right: α = .01, 1000 sweeps: w = (114.434 six times, 6.850, 335.001)."""
    run = make_run(*BAIRD, "algo=td0")
    mdp, solid = run.problem.environment.mdp, np.array([[0.0, 1.0]] * 7)
    context = dataclasses.replace(run.problem.context, given_behaviour=None)
    learner = Learner(run.problem.algorithm, context, OptimizerConfig("sgd", 0.01), [0])
    batch = enumerated(mdp, solid, np.full(7, 1 / 7))
    for _ in range(1000):
        learner.step(batch, hyper(0.99), torch.full((1, 1), 0.01))
    np.testing.assert_allclose(learner.theta[0].numpy(), [114.434] * 6 + [6.850, 335.001], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "diverges"),
    [
        (("algo=td0", "optimizer.learning_rate=0.01"), True),
        pytest.param(
            ("algo=tdc", "optimizer.learning_rate=0.005", "algo.hyper.rate=10"), False, marks=pytest.mark.slow
        ),
        pytest.param(
            ("algo=gtd2", "optimizer.learning_rate=0.005", "algo.hyper.rate=10"), False, marks=pytest.mark.slow
        ),
    ],
)
def test_sampled_td_diverges_on_bairds_counterexample_and_gradient_td_does_not(options, diverges):
    """S&B Figs. 11.2 and 11.5 (α = .005, β = .05): 1500 steps, 20 members; w₀ has |w| = 14.5 and errors up to 12."""
    run = make_run(*BAIRD, *options, "seeds=20")
    update(run, 1500)
    size = run.learner.theta[:, :8].norm(dim=1)
    error = torch.as_tensor(run.tables().v).abs().amax(1)
    if diverges:
        assert (size > 50).all()
        assert (error > 50).all()
    else:
        assert (size < 15).all()
        assert (error < 12).all()


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0, 1])
@pytest.mark.parametrize("algo", ["td_lambda", "n_step_td", "lambda_return", "tdc"])
def test_prediction_without_and_with_all_of_the_future(algo, gamma):
    """γ = 0: the expected reward; γ = 1 in an episodic task. 16 members within 4.5 standard errors and 0.02."""
    mdp = random_mdp(11, masked=False)
    options = ["network=tabular", "seeds=16", f"gamma={gamma}", f"algo={algo}", "algo.envs=64", "steps=48000"]
    options.append(f"optimizer.learning_rate={0.2 if algo == 'lambda_return' else 2}")
    run = finish(run_on(mdp, *options))
    tables = run.tables()
    policy = mdp.available / mdp.available.sum(1, keepdims=True).clip(1)
    exact = evaluate(mdp, policy, gamma).v
    error = (tables.v - exact)[:, ~mdp.terminal]
    standard = error.std(0, ddof=1) / 4
    assert (np.abs(error.mean(0)) <= 4.5 * standard + 0.02).all()
    assert standard.max() < 0.1 + 0.2 * gamma


def test_who_acts_is_what_was_asked_for_and_the_judged_policy_is_the_predicted_one():
    problem = build(composed("env=random_walk", "gamma=0.9", "algo=td0", "algo.policy=optimal", "algo.behaviour=0.4"))
    mdp, optimal = problem.environment.mdp, problem.solutions[0].policy
    expected = 0.6 * optimal + 0.4 * 0.5 * mdp.available
    np.testing.assert_allclose(problem.context.given_behaviour[0].numpy(), expected, atol=1e-6)
    run = make_run("env=random_walk", "gamma=0.9", "algo=td0", "algo.policy=optimal", "algo.behaviour=0.4")
    np.testing.assert_allclose(run.tables().policy[0], optimal, atol=1e-6)
    assert 0.1 < run.collect().action.float().mean() < 1.0  # the optimal policy goes right alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("algo=td_lambda", "algo.behaviour=uniform"), "algo.behaviour=uniform: algo=td_lambda learns on-policy"),
        (("algo=td0", "algo.behaviour=optimal"), r"algo.behaviour=optimal: never takes action 0 in state 0"),
        (("algo=td0", "algo.behaviour=1.5"), r"algo.behaviour=1.5: a share of uniform actions must be in \[0, 1\]"),
        (("algo=td0", "algo.policy=[1,2,3]"), r"algo.policy=\[1, 2, 3\]: must be 2 weights of at least 0"),
        (("algo=td0", "algo.policy=[1,-1]"), r"algo.policy=\[1, -1\]: must be 2 weights of at least 0"),
        (("algo=td0", "algo.policy=0.5"), "algo.policy=0.5: must be uniform, optimal, a list"),
        (("algo=td0", "algo.policy=some.npz"), "algo.policy=some.npz: must be uniform, .*; there is no such file"),
        (("algo=td0", "network=linear", "network.weights=[1]"), r"network.weights=\[1.0\]: must be 10 numbers"),
    ],
)
def test_policies_that_cannot_be_used_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_run("env=random_walk", "gamma=0.9", *options)
