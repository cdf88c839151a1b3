"""Every loss against exact expectations, by enumerating a model: no sampling, so no tolerance for noise."""

import dataclasses

import numpy as np
import pytest
import torch
from losses import EPSILON, GAMMA, backed_up, hyper, learner_for, step_of, uniform_policy
from support import CONFIGS, all_states, composed, enumerated, make_run, quick, random_mdp, update, wider

from rlnet import algos
from rlnet.algos.algorithm import by_policy
from rlnet.algos.ppo import normalised
from rlnet.data.rollout import Rollout, minibatches
from rlnet.learning.learner import Learner
from rlnet.mdp import FiniteMDP, evaluate, occupancy, solve
from rlnet.policies.exploration import epsilon_greedy


def next_values(name: str, mdp: FiniteMDP, q: np.ndarray) -> np.ndarray:
    masked = np.where(mdp.available, q, -np.inf)
    best = np.where(mdp.terminal, 0.0, masked.max(1))
    if name == "q_learning":
        return best
    mean = np.where(mdp.available, q, 0.0).sum(1) / mdp.available.sum(1).clip(1)
    return (1 - EPSILON) * best + EPSILON * np.where(mdp.terminal, 0.0, mean)


@pytest.mark.parametrize("name", ["q_learning", "expected_sarsa"])
@pytest.mark.parametrize("seed", range(3))
def test_expected_step_is_the_bellman_error_of_each_pair(name, seed):
    """Δq(s,a) = w(s,a)·((T q)(s,a) − q(s,a)): exact semi-gradient, nothing leaks through the target."""
    mdp = random_mdp(seed)
    policy, weights = uniform_policy(mdp), np.linspace(0.5, 1.5, mdp.n_states)
    learner = learner_for(name, mdp)
    q = np.random.default_rng(seed).normal(size=(mdp.n_states, mdp.n_actions))
    learner.theta.copy_(torch.as_tensor(q).reshape(1, -1))
    change = step_of(learner, enumerated(mdp, policy, weights)).reshape(q.shape).numpy()
    error = (backed_up(mdp, next_values(name, mdp, q)) - q) * mdp.available
    np.testing.assert_allclose(change, weights[:, None] * policy * error, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["dqn", "double_dqn"])
def test_replayed_targets_come_from_the_target_network(name, seed):
    """Δq = w·(r + γ·P·Q⁻(s', a*) − q), a* = argmax Q⁻ (DQN) or argmax Q (Double DQN)."""
    mdp = random_mdp(seed)
    policy, weights = uniform_policy(mdp), np.linspace(0.5, 1.5, mdp.n_states)
    learner = learner_for(name, mdp)
    q, old = np.random.default_rng(seed).normal(size=(2, mdp.n_states, mdp.n_actions))
    learner.theta.copy_(torch.as_tensor(q).reshape(1, -1))
    learner.target.copy_(torch.as_tensor(old).reshape(1, -1))
    change = step_of(learner, enumerated(mdp, policy, weights)).reshape(q.shape).numpy()
    chosen = np.where(mdp.available, old if name == "dqn" else q, -np.inf).argmax(1)
    following = np.where(mdp.terminal, 0.0, old[np.arange(mdp.n_states), chosen])
    error = (backed_up(mdp, following) - q) * mdp.available
    np.testing.assert_allclose(change, weights[:, None] * policy * error, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_double_q_learning_values_the_best_action_of_one_by_the_other(seed):
    """Heads: Δq1 = w·(r + γ·P·Q2(s', argmax Q1) − q1) and q2 rests; tails: the same with 1 and 2 swapped."""
    mdp = random_mdp(seed)
    policy, weights = uniform_policy(mdp), np.linspace(0.5, 1.5, mdp.n_states)
    learner = learner_for("double_q_learning", mdp)
    both = np.random.default_rng(seed).normal(size=(2, mdp.n_states, mdp.n_actions))
    batch = enumerated(mdp, policy, weights)
    for role, coin in enumerate((0.3, 0.7)):
        learner.theta.copy_(torch.as_tensor(both).reshape(1, -1))
        extra = {"uniform": torch.full((*batch.reward.shape, 1), coin)}
        theta = learner.theta.detach().requires_grad_()
        loss, _ = learner.algorithm.objective.loss(
            learner.context, learner.layout.unpack(theta), learner.params,
            batch.replace(extra=extra), hyper(),
        )  # fmt: skip
        (grad,) = torch.autograd.grad(loss.sum(), theta)
        q, other = both[role], both[1 - role]
        chosen = np.where(mdp.available, q, -np.inf).argmax(1)
        following = np.where(mdp.terminal, 0.0, other[np.arange(mdp.n_states), chosen])
        wanted = np.zeros_like(both)
        wanted[role] = weights[:, None] * policy * (backed_up(mdp, following) - q) * mdp.available
        np.testing.assert_allclose(-grad.reshape(both.shape).numpy(), wanted, atol=1e-5)


def test_the_coins_of_double_q_learning_are_fair_and_each_members_own():
    mdp = random_mdp(0)
    many, alone = (learner_for("double_q_learning", mdp, members=count) for count in (3, 1))
    batch = enumerated(mdp, uniform_policy(mdp), np.ones(mdp.n_states))
    wide = Rollout(**{name: wider(batch.tensor(name), 3) for name in batch.names})
    coins = many._with_draws(wide).extra["uniform"]
    assert torch.equal(coins[:, :1], alone._with_draws(batch).extra["uniform"])
    assert not torch.equal(coins[:, 0], coins[:, 1])
    heads = torch.cat([(many._with_draws(wide).extra["uniform"] < 0.5).flatten() for _ in range(100)]).float()
    assert heads.mean().item() == pytest.approx(0.5, abs=4 * 0.5 / len(heads) ** 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_sarsa_step_is_the_expected_bellman_error(seed):
    """Rows t and t + 1 enumerated together: all (s, a, s') with all a' ~ π(·|s')."""
    mdp = random_mdp(seed)
    policy, weights = uniform_policy(mdp), np.linspace(0.5, 1.5, mdp.n_states)
    learner = learner_for("sarsa", mdp)
    q = np.random.default_rng(seed).normal(size=(mdp.n_states, mdp.n_actions))
    learner.theta.copy_(torch.as_tensor(q).reshape(1, -1))
    first = enumerated(mdp, policy, weights)
    behaviour = epsilon_greedy(
        torch.as_tensor(np.where(mdp.available | mdp.terminal[:, None], q, -np.inf)), torch.tensor(EPSILON)
    )
    rows = {name: first.tensor(name).repeat_interleave(mdp.n_actions, dim=2) for name in first.names}
    second = {name: tensor.clone() for name, tensor in rows.items()}
    second["action"] = torch.arange(mdp.n_actions).repeat(first.obs.shape[2]).view(1, 1, -1)
    rows["weight"] = rows["weight"] * behaviour[rows["next_obs"], second["action"]].float()
    second["weight"] = torch.zeros_like(rows["weight"])
    third = {**second, "action": torch.zeros_like(second["action"])}  # tells the next row from the one before
    batch = Rollout(**{name: torch.cat((rows[name], second[name], third[name])) for name in rows})
    change = step_of(learner, batch).reshape(q.shape).numpy()
    error = (backed_up(mdp, next_values("sarsa", mdp, q)) - q) * mdp.available
    np.testing.assert_allclose(change, weights[:, None] * policy * error, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_td0_step_is_the_bellman_error_of_each_state_and_vanishes_at_v_pi(seed):
    mdp = random_mdp(seed)
    policy, weights = uniform_policy(mdp), np.linspace(0.5, 1.5, mdp.n_states)
    batch = enumerated(mdp, policy, weights * ~mdp.terminal)
    learner = learner_for("td0", mdp, policy)
    v = np.random.default_rng(seed).normal(size=mdp.n_states)
    learner.theta.copy_(torch.as_tensor(v).view(1, -1))
    change = step_of(learner, batch).squeeze(0).numpy()
    target = (policy * backed_up(mdp, v)).sum(1)
    np.testing.assert_allclose(change, weights * np.where(mdp.terminal, 0.0, target - v), atol=1e-5)
    learner.theta.copy_(torch.as_tensor(evaluate(mdp, policy, GAMMA).v).view(1, -1))
    np.testing.assert_allclose(step_of(learner, batch).numpy(), 0.0, atol=1e-6)


def test_q_learning_stays_at_q_star_and_expected_sarsa_at_the_value_of_its_own_policy():
    mdp = random_mdp(7)
    batch = enumerated(mdp, uniform_policy(mdp), np.ones(mdp.n_states))
    learner = learner_for("q_learning", mdp)
    star = solve(mdp, GAMMA).q
    learner.theta.copy_(torch.as_tensor(np.where(mdp.available, star, 0.0)).reshape(1, -1))
    np.testing.assert_allclose(step_of(learner, batch).numpy(), 0.0, atol=1e-6)


def exact_return(mdp: FiniteMDP, logits: torch.Tensor) -> torch.Tensor:
    """J(θ) = start·(I − γ·P_π)⁻¹·r_π by a dense solve that autograd goes through: [S, A] → []."""
    pi = torch.softmax(logits.masked_fill(~torch.as_tensor(mdp.available | mdp.terminal[:, None]), -torch.inf), dim=1)
    state, action = torch.as_tensor(np.array(mdp.pair_state)).long(), torch.as_tensor(np.array(mdp.pair_action)).long()
    chosen = pi[state, action]
    transition = torch.as_tensor(mdp.transition.toarray())
    size = mdp.n_states
    p_pi = torch.zeros(size, size, dtype=torch.float64).index_add(0, state, chosen.unsqueeze(1) * transition)
    r_pi = torch.zeros(size, dtype=torch.float64).index_add(0, state, chosen * torch.tensor(mdp.expected_reward))
    v = torch.linalg.solve(torch.eye(size, dtype=torch.float64) - GAMMA * p_pi, r_pi)
    return torch.as_tensor(np.array(mdp.start)) @ v


def policy_of(logits: torch.Tensor, mdp: FiniteMDP) -> np.ndarray:
    masked = logits.masked_fill(~torch.as_tensor(mdp.available | mdp.terminal[:, None]), -torch.inf)
    return torch.softmax(masked, dim=1).numpy() * mdp.available


@pytest.mark.parametrize("seed", range(3))
def test_actor_critic_step_is_the_exact_policy_gradient_where_its_critic_is_exact(seed):
    """Policy gradient theorem (S&B eq. 13.5): weights Σ_t γ^t·Pr(S_t = s), critic V^π ⇒ step = ∇J."""
    mdp = random_mdp(seed)
    logits = torch.randn(
        mdp.n_states, mdp.n_actions, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    policy = policy_of(logits, mdp)
    learner = learner_for("actor_critic", mdp)
    critic = torch.as_tensor(evaluate(mdp, policy, GAMMA).v)
    learner.theta.copy_(torch.cat((logits.flatten(), critic)).view(1, -1))
    discounted = occupancy(mdp, policy, GAMMA) * _visits(mdp, policy)
    own = {"value_coefficient": 1.0, "entropy_coefficient": 0.0, "state_discount": 1.0}
    change = step_of(learner, enumerated(mdp, policy, discounted), **own)
    wanted = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(exact_return(mdp, wanted), wanted)
    count = gradient.numel()
    torch.testing.assert_close(change[0, :count].double(), gradient.flatten(), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(change[0, count:], torch.zeros(mdp.n_states), atol=2e-5, rtol=0)


def _visits(mdp: FiniteMDP, policy: np.ndarray) -> float:
    """Σ_s Σ_t γ^t·Pr(S_t = s), s not terminal: the value of a reward of 1 a step."""
    counting = FiniteMDP(
        **{
            **{item.name: getattr(mdp, item.name) for item in dataclasses.fields(mdp) if item.init},
            "reward": np.ones_like(mdp.reward),
        }
    )
    return float(mdp.start @ evaluate(counting, policy, GAMMA).v)


def test_reinforce_gradient_is_unbiased():
    """Mean over 256 independent members × 200 episodes against ∇J; every component within 4.5 standard errors.

    Under the null hypothesis one of 18 components lies outside with probability about 1e-4, once: the seeds are fixed.
    """
    run = make_run(
        "env=random_walk", "env.length=3", "gamma=0.85", "algo=reinforce", "network=tabular", "seeds=256",
        "algo.envs=200", "algo.rollout=120", "algo.hyper.state_discount=1", "optimizer.learning_rate=1",
        "algo.hyper.entropy_coefficient=0",
    )  # fmt: skip
    mdp = run.problem.environment.mdp
    logits = torch.tensor([[0.3, -0.2], [0.0, 0.4], [-0.5, 0.1]], dtype=torch.float64)
    full = torch.zeros(mdp.n_states, mdp.n_actions, dtype=torch.float64)
    full[~mdp.terminal] = logits
    count = full.numel()
    run.learner.theta[:, :count] = full.flatten().float()
    run.learner.theta[:, count:] = 0.3  # a wrong baseline must not bias the gradient
    before = run.learner.theta.clone()
    run.learner.step(run.collect(), run.hyper(), torch.ones(256, 1))
    change = (run.learner.theta - before)[:, :count].double()
    wanted = full.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(exact_return(mdp, wanted), wanted)
    error = (change.mean(0) - gradient.flatten()).abs()
    standard = change.std(0) / 256**0.5
    alive = np.repeat(~mdp.terminal, mdp.n_actions)
    assert (error <= 4.5 * standard)[torch.as_tensor(alive)].all()
    # The test has power: the standard error is small against the gradient itself.
    assert standard.max() < 0.05 * gradient.abs().max()


def test_entropy_bonus_pushes_towards_the_uniform_policy_over_available_actions():
    mdp = random_mdp(1)
    learner = learner_for("actor_critic", mdp)
    learner.theta.copy_(torch.randn_like(learner.theta))
    batch = enumerated(mdp, uniform_policy(mdp), np.ones(mdp.n_states))
    batch = batch.replace(reward=torch.zeros_like(batch.weight))
    count = mdp.n_states * mdp.n_actions
    learner.theta[:, count:] = 0  # reward and critic 0: no advantage, only entropy moves the policy
    own = {"value_coefficient": 0.0, "entropy_coefficient": 1.0, "state_discount": 0.0}
    for _ in range(400):
        step_of(learner, batch, **own)
    pi = by_policy(learner.context, learner.params, all_states(mdp), torch.zeros(1, 1))[0].numpy()
    np.testing.assert_allclose((pi * mdp.available)[~mdp.terminal], uniform_policy(mdp)[~mdp.terminal], atol=1e-3)


def test_each_member_learns_from_its_own_rewards():
    """Two members with different rewards end at different values; alone, the second ends at the same."""
    mdp = random_mdp(3)
    policy = uniform_policy(mdp)
    batch = enumerated(mdp, policy, np.ones(mdp.n_states) * ~mdp.terminal)
    both = {name: wider(batch.tensor(name), 2) for name in batch.names}
    both["reward"][:, 1] *= -2.0
    population, alone = learner_for("td0", mdp, policy, members=2), learner_for("td0", mdp, policy)
    second = batch.replace(reward=batch.reward * -2.0)
    for _ in range(300):
        step_of(population, Rollout(**both))
        step_of(alone, second)
    torch.testing.assert_close(population.theta[1], alone.theta[0], atol=1e-6, rtol=1e-5)
    exact = evaluate(mdp, policy, GAMMA).v
    np.testing.assert_allclose(population.theta[0].numpy(), exact, atol=1e-3)
    np.testing.assert_allclose(population.theta[1].numpy(), -2.0 * exact, atol=2e-3)


@pytest.mark.parametrize("limit", quick([10, 100], [10]))
@pytest.mark.parametrize("algo", quick(["td0", "q_learning", "sarsa", "expected_sarsa"], 2))
def test_truncation_is_not_termination(algo, limit):
    """One state, reward 1 a step, γ = .99: V = 100. Taking the time limit for an end gives 9.6 (10) or 63.4 (100)."""
    options = ("gamma=0.99", "network=tabular", "seeds=2", "algo.envs=4", "schedule@optimizer.schedule=constant")
    run = make_run(
        "env=gridworld", "env.map=S", "~env.cells.P", "env.slip=0", "env.bump_reward=1", f"algo={algo}",
        f"env.max_episode_steps={limit}", "optimizer.schedule.value=1", *options,
    )  # fmt: skip
    run.learner.theta.fill_(99.0)
    update(run, 1200)
    assert run.learner.theta.min() > 99.9
    assert run.learner.theta.max() < 100.1


PRESETS = {
    "dr_grpo": "grpo",
    "dapo": "grpo",
    "grpo_trl": "grpo",
    "rloo_trl": "rloo",
}  # other choices of an algorithm, by the names of their papers


@pytest.mark.slow
def test_every_algorithm_has_a_config_of_the_same_name_and_every_config_an_algorithm():
    """Names match, hyperparameters match, and the contract's facts are among the allowed ones."""
    configs = sorted(path.stem for path in (CONFIGS / "algo").glob("*.yaml"))
    assert {path for path in configs if path not in PRESETS} == set(algos.names())
    for name in configs:
        config = composed(f"algo={name}")
        algorithm = algos.load(config.algo.name)
        assert config.algo.name == PRESETS.get(name, name)
        assert set(config.algo.hyper) == set(algorithm.hyper)
        assert set(config.algo.options) == set(algorithm.options)
        assert {role.rstrip("2") for role in algorithm.roles} <= {"q", "v", "h", "pi", "temperature"}
        assert algorithm.judged in ("given", "behaviour", "greedy", "soft", "actor")
        assert algorithm.source.startswith("S&B section") or algorithm.source[-4:].isdigit()


@pytest.mark.parametrize("network", quick(["tabular", "linear", "mlp"], ["mlp"]))
@pytest.mark.parametrize("algo", [name for name in algos.names() if algos.load(name).acting.discrete])
def test_every_algorithm_trains_with_every_network_and_several_members(algo, network):
    envs = 1 if algos.load(algo).traces == "dutch" else 4
    options = ["seeds=3", f"algo.envs={envs}", "algo.rollout=60", "env=random_walk", "gamma=0.9"]
    if "group" in algos.load(algo).options:
        options[1] = "algo.envs=16"
    if algos.load(algo).regularisation is not None:  # by a reference policy, which only texts have
        options[2:] = ["env=tokens_tiny", "env.reference_steps=2"]
    run = make_run(f"algo={algo}", f"network={network}", *options)
    before = run.learner.theta.clone()
    update(run, 2)
    assert run.learner.theta.isfinite().all()
    assert ((run.learner.theta - before).abs().sum(1) > 0).all()
    comparison = run.compare()[1]
    assert all(values.shape == (3,) for values in comparison.scalars.values())


def test_a2c_with_lambda_0_is_the_one_step_actor_critic():
    mdp = random_mdp(2)
    batch = enumerated(mdp, uniform_policy(mdp), np.ones(mdp.n_states) * ~mdp.terminal)
    own = {"value_coefficient": 0.7, "entropy_coefficient": 0.1, "state_discount": 0.0}
    changes = []
    for name, more in (("actor_critic", {}), ("a2c", {"lambda_": 0.0})):
        learner = learner_for(name, mdp)
        learner.theta.copy_(torch.randn(learner.theta.shape, generator=torch.Generator().manual_seed(0)))
        changes.append(step_of(learner, batch, **own, **more))
    torch.testing.assert_close(*changes)


def ppo_batch(mdp: FiniteMDP, learner: Learner, own: dict[str, float]) -> Rollout:
    batch = enumerated(mdp, uniform_policy(mdp), np.ones(mdp.n_states) * ~mdp.terminal)
    with torch.no_grad():
        extra = learner.algorithm.update.prepare(learner.context, learner.params, batch, hyper(**own))
    return batch.replace(extra=extra)


PPO = {
    "lambda_": 0.9, "clip": 0.2, "value_clip": np.inf, "normalise": 1.0, "stop_at_kl": np.inf,
    "value_coefficient": 0.0, "entropy_coefficient": 0.0, "state_discount": 0.0,
}  # fmt: skip


def test_the_first_ppo_step_is_the_policy_gradient_with_normalised_advantages():
    """At ρ = 1 nothing is clipped, and ∇ρ = ∇log π: the same step as A2C's with Â replaced."""
    mdp = random_mdp(2)
    ppo, a2c = learner_for("ppo", mdp), learner_for("a2c", mdp)
    ppo.theta.copy_(torch.randn(ppo.theta.shape, generator=torch.Generator().manual_seed(0)))
    a2c.theta.copy_(ppo.theta)
    batch = ppo_batch(mdp, ppo, PPO)
    share = batch.weight / batch.weight.sum()
    advantage = batch.extra["advantage"]
    deviation = (share * (advantage - (share * advantage).sum()).square()).sum().sqrt()
    own = {"lambda_": 0.9, "value_coefficient": 0.0, "entropy_coefficient": 0.0, "state_discount": 0.0}
    # Subtracting the mean changes nothing in expectation over π; here all actions are enumerated under the uniform
    # policy, so the comparison adds the same constant to both.
    mean = (share * advantage).sum()
    plain = batch.replace(reward=batch.reward - mean)
    torch.testing.assert_close(step_of(ppo, batch, **PPO), step_of(a2c, plain, **own) / deviation, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("shift", "moves"), [(0.0, True), (5.0, False)])
def test_ppo_does_not_push_a_ratio_further_that_has_left_the_clip_range_in_its_direction(shift, moves):
    """One action with a positive advantage: once ρ > 1 + ε its gradient is zero."""
    mdp = random_mdp(2, actions=2, masked=False)
    learner = learner_for("ppo", mdp)
    learner.theta.zero_()
    batch = ppo_batch(mdp, learner, PPO)
    chosen = batch.action == 0
    extra = {**batch.extra, "advantage": torch.where(chosen, 1.0, -1.0)}
    learner.theta.view(-1)[: mdp.n_states * 2].view(-1, 2)[:, 0] = shift  # π(0) has grown since
    change = step_of(learner, batch.replace(extra=extra), **PPO)
    assert bool((change.abs() > 1e-6).any()) == moves


def test_ppo_stops_a_member_whose_policy_has_moved_far_enough():
    options = ("env=random_walk", "gamma=0.9", "algo=ppo", "seeds=2", "algo.hyper.entropy_coefficient=0")
    free, stopped = make_run(*options), make_run(*options, "algo.hyper.stop_at_kl=0")
    for run in (free, stopped):
        update(run)
    assert not torch.equal(free.learner.theta, stopped.learner.theta)


def test_minibatches_hold_every_row_once_and_are_means():
    run = make_run("env=random_walk", "gamma=0.9", "algo=ppo", "seeds=2", "algo.rollout=5", "algo.envs=3")
    rollout = run.collect()
    rollout = rollout.replace(extra={"index": torch.arange(30).view(5, 2, 3)})
    order = run.shuffle.uniform(15).argsort(dim=1)
    parts = list(minibatches(rollout, order, 4))
    assert [part.reward.shape[2] for part in parts] == [4, 4, 4, 3]
    for m in range(2):
        rows = torch.cat([part.extra["index"][0, m] for part in parts])
        assert rows.sort().values.tolist() == rollout.extra["index"][:, m].flatten().tolist()
    for part in parts:
        torch.testing.assert_close(part.weight.sum(-1), torch.ones(1, 2))
        where = part.extra["index"]
        assert torch.equal(part.obs.flatten(), rollout.obs.flatten()[where.flatten()])


def one_row(mdp: FiniteMDP, **changes: torch.Tensor) -> Rollout:
    """Three rows of one environment, of which only the first has a weight."""
    shape = (3, 1, 1)
    flags = torch.zeros(shape, dtype=torch.bool)
    weight = torch.zeros(shape)
    weight[0] = 1.0
    defaults = {
        "obs": torch.tensor([0, 1, 0]).view(shape), "action": torch.tensor([0, 1, 0]).view(shape),
        "reward": torch.full(shape, 2.0), "next_obs": torch.tensor([1, 0, 1]).view(shape), "terminated": flags,
        "truncated": flags, "valid": ~flags, "start_discount": torch.ones(shape), "weight": weight,
    }  # fmt: skip
    return Rollout(**{**defaults, **changes})


def test_sarsa_takes_the_next_action_and_at_a_truncation_its_expectation():
    mdp = random_mdp(0, states=3, actions=2, ends=False, masked=False)
    learner = learner_for("sarsa", mdp)
    q = torch.tensor([[1.0, 2.0], [10.0, 30.0], [0.0, 0.0]])
    learner.theta.copy_(q.view(1, -1))
    change = step_of(learner, one_row(mdp)).view(3, 2)
    assert change[0, 0].item() == pytest.approx(2.0 + GAMMA * 30.0 - 1.0)
    learner.theta.copy_(q.view(1, -1))
    cut = torch.tensor([True, False, False]).view(3, 1, 1)
    change = step_of(learner, one_row(mdp, truncated=cut)).view(3, 2)
    expected = (1 - EPSILON) * 30.0 + EPSILON * 20.0
    assert change[0, 0].item() == pytest.approx(2.0 + GAMMA * expected - 1.0)
    assert algos.load("sarsa").data.lookback == 1


def test_n_step_sarsa_takes_n_rewards_and_then_the_action_taken():
    """R + γ·R' + γ²·Q(S_2, A_2), and at a truncation after the first step the expectation; n rows have to follow."""
    mdp = random_mdp(0, states=3, actions=2, ends=False, masked=False)
    q = torch.tensor([[1.0, 2.0], [10.0, 30.0], [0.0, 0.0]])
    cut = torch.tensor([True, False, False]).view(3, 1, 1)
    expected = (1 - EPSILON) * 30.0 + EPSILON * 20.0
    for truncated, target in ((cut & False, 2 + GAMMA * 2 + GAMMA**2 * 1.0), (cut, 2 + GAMMA * expected)):
        learner = learner_for("n_step_sarsa", mdp, n_step=2)
        learner.theta.copy_(q.view(1, -1))
        change = step_of(learner, one_row(mdp, truncated=truncated)).view(3, 2)
        assert change[0, 0].item() == pytest.approx(target - 1.0)
        assert learner.algorithm.data.lookback == 2


def test_monte_carlo_learns_from_complete_returns_only():
    mdp = random_mdp(0, states=3, actions=2, ends=False, masked=False)
    everything = torch.full((3, 1, 1), 0.5)
    ended = torch.tensor([False, True, False]).view(3, 1, 1)
    learner = learner_for("mc", mdp, np.full((3, 2), 0.5), visits="every")
    # Rows 0 and 1 end; row 2 is cut by the end of the segment.
    batch = one_row(mdp, terminated=ended, weight=everything, obs=torch.tensor([0, 1, 2]).view(3, 1, 1))
    change = step_of(learner, batch).flatten()
    assert change.tolist() == pytest.approx([0.5 * (2 + GAMMA * 2), 0.5 * 2, 0.0])
    metrics = learner.step(batch, hyper(), torch.ones(1, 1)).metrics
    assert metrics["loss/complete_returns"].item() == pytest.approx(2 / 3)
    cut = one_row(mdp, truncated=ended, weight=everything)
    assert (step_of(learner, cut) == 0).all()


def test_first_visit_monte_carlo_learns_once_an_episode_from_each_state():
    """Two episodes side by side: 0 1 0 and 0 0 1, reward 2 a step. Every visit adds the returns up, first does not."""
    mdp = random_mdp(0, states=3, actions=2, ends=False, masked=False)
    obs = torch.tensor([[0, 0], [1, 0], [0, 1]]).view(3, 1, 2)
    ended = torch.tensor([False, False, True]).view(3, 1, 1)
    batch = one_row(mdp, terminated=ended, weight=torch.full((3, 1, 1), 0.5))
    batch = Rollout(**{name: batch.tensor(name).repeat(1, 1, 2) for name in batch.names if name != "obs"}, obs=obs)
    ret = [2 * (1 + GAMMA + GAMMA**2), 2 * (1 + GAMMA), 2.0]
    first, every = (learner_for("mc", mdp, np.full((3, 2), 0.5), visits=kind) for kind in ("first", "every"))
    assert step_of(first, batch).flatten().tolist() == pytest.approx([ret[0], (ret[1] + ret[2]) / 2, 0.0])
    assert step_of(every, batch).flatten().tolist() == pytest.approx(
        [ret[0] + (ret[2] + ret[1]) / 2, (ret[1] + ret[2]) / 2, 0.0]
    )


@pytest.mark.parametrize("name", ["reinforce", "actor_critic"])
def test_coefficients_scale_the_parts_that_they_name(name):
    mdp = random_mdp(0, states=3, actions=2, ends=False, masked=False)
    ended = torch.tensor([True, False, False]).view(3, 1, 1)
    batch = one_row(mdp, terminated=ended, start_discount=torch.full((3, 1, 1), 0.25))
    own = {"value_coefficient": 1.0, "entropy_coefficient": 0.0, "state_discount": 0.0, "baseline": 1.0}

    def change(**more: float) -> tuple[torch.Tensor, torch.Tensor]:
        moved = step_of(learner_for(name, mdp), batch, **{**own, **more}).flatten()
        return moved[:6], moved[6:]

    policy, critic = change()
    assert policy.abs().max() > 0
    assert critic.tolist() == pytest.approx([2.0, 0.0, 0.0])
    torch.testing.assert_close(change(state_discount=1.0)[0], 0.25 * policy)
    torch.testing.assert_close(change(state_discount=0.5)[0], 0.5 * policy)
    torch.testing.assert_close(change(value_coefficient=3.0)[1], 3.0 * critic)
    torch.testing.assert_close(change(value_coefficient=3.0)[0], policy)


@pytest.mark.parametrize("name", ["q_learning", "sarsa", "expected_sarsa", "td0", "dqn"])
def test_each_member_has_its_own_gamma_and_exploration(name):
    mdp = random_mdp(0, states=3, actions=2, ends=False, masked=False)
    one = one_row(mdp, truncated=torch.tensor([True, False, False]).view(3, 1, 1))
    both = Rollout(**{field: wider(one.tensor(field), 2) for field in one.names})
    given = np.full((3, 2), 0.5)
    learner, alone = learner_for(name, mdp, given, members=2), learner_for(name, mdp, given)
    values = torch.arange(learner.layout.size).float()
    for some in (learner, alone):
        some.theta.copy_(values.expand_as(some.theta))
        if some.target is not None:
            some.target.copy_(some.theta)
    numbers = {"gamma": torch.tensor([[0.1], [0.9]]), "explore": torch.tensor([[0.0], [0.6]])}
    numbers["huber"] = torch.tensor([[np.inf], [1.0]])
    learner.step(both, numbers, torch.ones(2, 1))
    alone.step(one, {key: value[1:] for key, value in numbers.items()}, torch.ones(1, 1))
    torch.testing.assert_close(learner.theta[1], alone.theta[0])
    assert not torch.allclose(learner.theta[0], learner.theta[1])


def test_ppo_normalises_the_advantages_of_each_member_by_its_own():
    advantage = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    weight = torch.ones(3, 2, 5)
    weight[0, 0, 0] = 0.0
    alone = normalised(advantage[:, :1], weight[:, :1])
    torch.testing.assert_close(normalised(advantage, weight)[:, :1], alone)
    rows = alone[weight[:, :1] > 0]
    assert rows.mean().item() == pytest.approx(0, abs=1e-6)
    assert rows.std(correction=0).item() == pytest.approx(1, abs=1e-5)
